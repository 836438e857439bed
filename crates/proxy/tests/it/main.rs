//! The proxy as a whole, over real sockets, in front of targets that the tests control.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test's helper fails by panicking"
)]

mod client;
mod name_server;
mod pebble;
mod process;
mod renewal_front;
mod rig;
mod target;

mod acme;
mod api;
mod balance;
mod bodies;
mod buffers;
mod client_certificates;
mod command_line;
mod compressed;
mod conformance;
mod damaged;
mod draining;
mod edge;
mod encrypted;
mod encryption_audit;
mod endurance;
mod failures;
mod flags;
mod fleet;
mod forwarding;
mod gates;
mod hardening;
mod http2;
mod http2_floods;
mod http2_strictness;
mod http2_targets;
mod log_lines;
mod messages;
mod metrics;
mod names;
mod on_demand;
mod options;
mod probes;
mod readers;
mod resumption;
mod routing;
mod rules;
mod smuggling;
mod standby;
mod strictness;
mod switching;
mod target_tls;
mod traces;
mod trial;
mod tunnels;
mod upgrade;
mod verdict;
mod wildcards;

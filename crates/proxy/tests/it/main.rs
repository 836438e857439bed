//! The proxy as a whole, over real sockets, in front of targets that the tests control.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test's helper fails by panicking"
)]

mod client;
mod rig;
mod target;

mod api;
mod bodies;
mod buffers;
mod command_line;
mod encrypted;
mod failures;
mod forwarding;
mod gates;
mod names;
mod options;
mod probes;
mod standby;
mod strictness;
mod switching;
mod tunnels;

//! Reverse proxy: routes, health checks, drain.
//!
//! The proxy stands in front of the containers of all services on a host. It takes HTTP/2 and HTTP/1.1 (and 1.0), plain or
//! encrypted, chooses a service by host and path, forwards to one of its healthy targets by HTTP/1.1 or HTTP/2, and can
//! replace a service's targets without losing a request. It orders certificates and renews them. It is not for building or
//! starting containers, and not for HTTP/3: what asks for that is refused by name.
//!
//! Layers, each of which knows only those before it:
//!
//! - `http1`: heads in, rewritten heads and body framing out; no input or output.
//! - `view`, `table`, `generation`, `duty`, `canary`: what a request looks like, which service and which of its targets get it,
//!   what is in flight where.
//! - `rules`: what a service wants done with its requests before a target gets them: limits, passwords, changes.
//! - `http2`: its streams as connections of HTTP/1.1, on both sides; `compress`: answers made shorter.
//! - `admit`: the decision about one request; `exchange`: one request from its head to the end of its answer.
//! - `edge`: who connects; `serve`: one connection; `runtime`: one event loop per thread, with nothing shared but the routing table.
//! - `trace`: spans for a collector, where there is one.
//! - `acme`, `certificate`, `client_auth`: certificates, ordered or given, and those of clients; `metrics`: what is counted.
//! - `handover`: another process in the place of this one.
//! - `control`: the API on a Unix socket, deploy, drain and the state that survives; `server`: all of it together.
//! - `command`: the command line, ours and kamal-proxy's.
//!
//! Start with [`Server`] for the whole, `admit` for what happens to a request, and `control` for a deploy.

mod access;
mod acme;
mod admit;
mod buffer;
mod canary;
mod certificate;
mod client_auth;
mod clock;
mod command;
mod compress;
mod control;
mod cookie;
mod digits;
mod dropped;
mod duty;
mod edge;
mod exchange;
#[cfg(any(feature = "fuzzing", test))]
pub mod fuzzing;
mod generation;
mod handover;
mod health;
mod http1;
mod http2;
mod inlet;
mod limits;
mod link;
mod log;
mod metrics;
mod pace;
mod page;
mod pool;
mod resolve;
mod rules;
mod runtime;
mod serve;
mod server;
mod spool;
mod state;
mod stream;
mod table;
mod target_tls;
mod template;
mod ticket;
mod trace;
mod view;
mod watch;
mod worker;

pub use acme::{AcmeConfig, DnsConfig, ExternalAccount, ProofPorts};
pub use command::{CommandError, Console, Invocation, run};
pub use edge::{DEFAULT_MAX_CONNECTIONS, EdgeConfig};
pub use handover::Program;
pub use limits::Limits;
pub use resolve::NameFiles;
pub use server::{Ended, Server, ServerConfig, StartError};
pub use trace::TraceConfig;

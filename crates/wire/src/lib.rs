//! The HTTP APIs of the proxy and of the agent: versioned types and clients.
//!
//! The proxy answers HTTP/1.1 with JSON bodies on a Unix socket, under the path prefix `/v4`; it
//! takes requests under `/v1` too, the version before, which had nothing that this one has not. This crate holds what both
//! sides must agree on, and the client side of it over any byte stream. It is not for what happens behind the API: routing
//! and health checks live in the proxy.
//!
//! | request | body | answer |
//! | --- | --- | --- |
//! | `GET /v4/version` | – | [`VersionReply`] |
//! | `GET /v4/services` | – | [`ServiceList`] |
//! | `GET /v4/services/{name}` | – | [`ServiceStatus`] |
//! | `POST /v4/probe` | [`ProbeRequest`] | [`ProbeReport`] |
//! | `PUT /v4/services/{name}` | [`DeployRequest`] | [`DeployReply`] |
//! | `POST /v4/services/{name}/drain` | [`DrainRequest`] | [`DrainReport`] |
//! | `POST /v4/services/{name}/confirm` | [`ConfirmRequest`] | [`ConfirmReply`] |
//! | `POST /v4/services/{name}/gate` | [`GateRequest`] | [`GateReply`] |
//! | `PUT /v4/services/{name}/canary` | [`CanaryRequest`] | [`CanaryReply`] |
//! | `POST /v4/services/{name}/split` | [`SplitRequest`] | [`CanaryReply`] |
//! | `POST /v4/services/{name}/promote` | [`SplitRequest`] without a split | [`CanaryReply`] |
//! | `DELETE /v4/services/{name}?fence=N` | – | [`RemoveReply`] |
//! | `POST /v4/upgrade` | [`UpgradeRequest`] | [`UpgradeReply`] |
//!
//! Everything else, and every request that is refused, is answered with an [`ErrorReply`]. All types refuse unknown
//! fields, so a setting that a proxy does not know is refused by name and never ignored. Spans of time are whole
//! milliseconds with the unit in the field's name.
//!
//! The agent answers in the same way on a socket of its own; see [`agent`].
//!
//! Start with [`ProxyClient`] and [`DeployRequest`], or with [`agent::AgentClient`] and [`agent::ScheduleSet`].

mod address;
pub mod agent;
mod bridge;
mod call;
mod canary;
mod client;
mod deploy;
mod error;
mod gate;
mod kamal;
mod probe;
mod service;
mod target_tls;
mod tls;
mod upgrade;
mod version;

pub use address::{HostPattern, InvalidAddress, PathPrefix, TargetAddress};
pub use bridge::bridge;
pub use canary::{
    Canary, CanaryReply, CanaryRequest, HeaderMatch, SideReport, Split, SplitRequest, Verdict, VerdictRule,
    VerdictState,
};
pub use client::ProxyClient;
pub use deploy::{
    Buffering, ConfirmReply, ConfirmRequest, DeployReply, DeployRequest, DrainMode, DrainReport,
    DrainRequest, HealthGate, RemoveReply, ServiceSettings, ServiceSnapshot,
};
pub use error::{ErrorCode, ErrorReply, ProxyError};
pub use gate::{Gate, GateReply, GateRequest};
pub use kamal::{KAMAL_STATE_FILE, KamalService, KamalServiceError, read_kamal_state, write_kamal_state};
pub use probe::{HealthCheck, ProbeOutcome, ProbeReport, ProbeRequest};
pub use service::{
    CanaryStatus, CertificateState, CertificateStatus, DrainingGeneration, HealthState, InFlight, Reason,
    ServiceList, ServiceStatus, TargetStatus, TrafficCounters, VersionReply,
};
pub use target_tls::TargetTls;
pub use tls::{Acme, CertificateSource, ClientCertificates, ClientMode, FleetKey, FleetStore, Tls};
// What is spoken with targets and how answers are compressed is the same in deploy files.
pub use freehold_model::{Compression, TargetProtocol};
pub use upgrade::{UpgradeReply, UpgradeRequest};
pub use version::API_VERSION;

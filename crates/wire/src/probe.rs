use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{TargetAddress, TargetProtocol, TargetTls};

/// How a target is asked whether it is healthy: a `GET` that must be answered 200 to 299.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// The path, with a leading slash.
    pub path: String,
    /// The `Host` header; the target's own address where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The port; the target's own where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The time between two checks, at least 1.
    pub interval_ms: u64,
    /// The longest that one check may take, at least 1.
    pub timeout_ms: u64,
    /// What is spoken. By HTTP/2 the path `/grpc.health.v1.Health/Check` is asked for as gRPC's own health check.
    #[serde(default, skip_serializing_if = "TargetProtocol::is_default")]
    pub protocol: TargetProtocol,
    /// How a target is known that speaks TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TargetTls>,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            path: "/up".to_owned(),
            host: None,
            port: None,
            interval_ms: 1000,
            timeout_ms: 5000,
            protocol: TargetProtocol::Http1,
            tls: None,
        }
    }
}

/// Asks the proxy to check a target from its network, without sending any traffic to it.
///
/// The first checks follow each other quickly (at once, then after 20, 50, 100, 200 and 400 ms), later ones by the
/// interval, until the target is healthy or the deadline has passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeRequest {
    /// The target to check.
    pub target: TargetAddress,
    /// How to check it.
    pub health_check: HealthCheck,
    /// After how long to give up.
    pub deadline_ms: u64,
}

/// What became of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeReport {
    /// The target that was checked.
    pub target: TargetAddress,
    /// Whether the last check found it healthy.
    pub healthy: bool,
    /// How many checks were made, at least 1.
    pub attempts: u32,
    /// How long the whole probe took.
    pub elapsed_ms: u64,
    /// What the last check saw.
    pub last: ProbeOutcome,
}

/// What one check of a target saw.
///
/// Texts that came from the target have their control characters escaped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case", deny_unknown_fields)]
pub enum ProbeOutcome {
    /// It answered 200 to 299.
    Healthy {
        /// The status.
        status: u16,
    },
    /// Nothing listens on the address.
    Refused,
    /// The host has no address.
    Unresolvable,
    /// The address cannot be reached for another reason, such as no route.
    Unreachable {
        /// The reason, as the system gives it.
        message: String,
    },
    /// The time for one check was over.
    Timeout {
        /// Whether a connection had been made, so that the answer was missing.
        connected: bool,
    },
    /// It answered with a status that is not healthy.
    Status {
        /// The status.
        code: u16,
        /// Where it redirects to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        location: Option<String>,
        /// The first 200 bytes of the answer's body, escaped.
        body: String,
    },
    /// It agreed on no encrypted connection, or on none with a server that can be trusted.
    NotTrusted {
        /// What was wrong.
        message: String,
    },
    /// What it answered is not HTTP/1.
    NotHttp {
        /// The first 200 bytes of it, escaped.
        received: String,
    },
    /// It closed the connection before the answer was complete.
    ClosedEarly,
}

impl ProbeOutcome {
    /// Says whether the target is healthy.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        matches!(self, Self::Healthy { .. })
    }
}

impl fmt::Display for ProbeOutcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy { status } => write!(formatter, "answered {status}"),
            Self::Refused => write!(formatter, "refused the connection"),
            Self::Unresolvable => write!(formatter, "has no address"),
            Self::Unreachable { message } => write!(formatter, "cannot be reached: {message}"),
            Self::Timeout { connected: false } => write!(formatter, "did not accept a connection in time"),
            Self::Timeout { connected: true } => {
                write!(formatter, "accepted the connection but did not answer in time")
            }
            Self::Status { code, location: Some(location), .. } => {
                write!(formatter, "answered {code} to {location}")
            }
            Self::Status { code, .. } => write!(formatter, "answered {code}"),
            Self::NotTrusted { message } => write!(formatter, "cannot be trusted over TLS: {message}"),
            Self::NotHttp { .. } => write!(formatter, "answered something that is not HTTP"),
            Self::ClosedEarly => write!(formatter, "closed the connection without a complete answer"),
        }
    }
}

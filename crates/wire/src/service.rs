use std::collections::BTreeMap;

use freehold_model::ProxyServiceName;
use serde::{Deserialize, Serialize};

use crate::{Gate, ProbeOutcome, ServiceSettings, Split, TargetAddress, Verdict};

/// Which proxy answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionReply {
    /// The program's version.
    pub version: String,
    /// The number of the API, see [`API_VERSION`](crate::API_VERSION).
    pub api: u32,
    /// When the proxy started, RFC 3339 in UTC.
    pub started_at: String,
    /// The number of the last change of the routing table.
    pub generation: u64,
    /// The port on which it takes HTTP requests.
    pub http_port: u16,
}

/// All services, ordered by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceList {
    /// The services.
    pub services: Vec<ServiceStatus>,
}

/// A service as the proxy sees it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceStatus {
    /// Its name.
    pub name: ProxyServiceName,
    /// How it is reached.
    pub settings: ServiceSettings,
    /// The number of the switch that installed its targets.
    pub generation: u64,
    /// Its targets.
    pub targets: Vec<TargetStatus>,
    /// Its targets that get reads only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read_targets: Vec<TargetStatus>,
    /// The targets that are tried with a part of the visitors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryStatus>,
    /// What is in flight at the current targets.
    pub in_flight: InFlight,
    /// Whether its requests go to its targets.
    #[serde(default, skip_serializing_if = "Gate::is_open")]
    pub gate: Gate,
    /// The targets that stand by, see [`DeployRequest::standby_ms`](crate::DeployRequest::standby_ms).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standby: Vec<TargetAddress>,
    /// Earlier generations that still have something in flight.
    pub draining: Vec<DrainingGeneration>,
    /// What happened since the last switch.
    pub counters: TrafficCounters,
    /// Its certificates, ordered by name where the proxy orders them, else one for each host; `*` where any host is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateStatus>,
    /// The greatest fencing number seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
    /// What was decided last about targets that were tried, since the proxy started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_verdict: Option<Verdict>,
}

/// Targets that are tried with a part of the visitors, see [`Canary`](crate::Canary).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryStatus {
    /// The targets.
    pub targets: Vec<TargetStatus>,
    /// The targets that get reads only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read_targets: Vec<TargetStatus>,
    /// Which visitors go there; nobody where nothing is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// What is in flight at the targets.
    pub in_flight: InFlight,
    /// What happened since they were installed.
    pub counters: TrafficCounters,
    /// How the comparison with the service's own targets stands, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// A certificate, one of your own or one that the proxy orders and renews.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateStatus {
    /// The host that it is for.
    pub name: String,
    /// How it stands.
    pub state: CertificateState,
    /// When the one that is served ends, RFC 3339 in UTC; none where there is none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// When it is ordered next: the renewal, or the next try after a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_order_at: Option<String>,
    /// Why the last order failed, or what is wrong with one of your own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How a certificate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateState {
    /// It is there.
    Valid,
    /// It is being ordered, and none that is valid is there.
    Ordering,
    /// The last order failed, and one from before may still be served; or one of your own has ended or cannot be loaded.
    Failed,
}

/// A target and what its health checks found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetStatus {
    /// Where it listens.
    pub address: TargetAddress,
    /// Whether it gets requests.
    pub health: HealthState,
    /// What the last check saw; none where it was taken as healthy without a check, as after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_check: Option<ProbeOutcome>,
    /// For how much longer it is left out because its requests failed, see [`PassiveHealth`](freehold_model::PassiveHealth).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out_ms: Option<u64>,
}

/// Whether a target gets requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// Not yet: no check has succeeded.
    Adding,
    /// It does.
    Healthy,
    /// Not any more: its last check failed.
    Unhealthy,
}

/// How much is in flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InFlight {
    /// Requests, from the choice of a target to the end of the answer.
    pub requests: u64,
    /// Upgraded connections.
    pub tunnels: u64,
}

/// Earlier targets that finish what they had begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainingGeneration {
    /// The number of the switch that had installed it.
    pub generation: u64,
    /// Its targets.
    pub targets: Vec<TargetAddress>,
    /// What is left.
    pub in_flight: InFlight,
}

/// What happened at a service's current targets since they were installed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrafficCounters {
    /// How long ago the switch was.
    pub since_switch_ms: u64,
    /// Requests routed to the service.
    pub requests: u64,
    /// Upgraded connections, answered 101.
    pub upgrades: u64,
    /// Answers 200 to 299.
    pub responses_2xx: u64,
    /// Answers 300 to 399.
    pub responses_3xx: u64,
    /// Answers 400 to 499.
    pub responses_4xx: u64,
    /// Answers 500 to 599, those that the proxy made included.
    pub responses_5xx: u64,
    /// What went wrong at the targets, by reason. Each is a 502, 503 or 504 that the proxy made, except
    /// [`Reason::TargetCutBody`], after whose head nothing could be answered.
    pub target_errors: BTreeMap<Reason, u64>,
    /// Requests that the targets standing by answered, by what was wrong at the current ones. They count above as what
    /// they were answered with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stood_in: BTreeMap<Reason, u64>,
}

/// Why the proxy itself ended a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The target's address refused the connection (502).
    TargetRefused,
    /// The target's host has no address (502).
    TargetUnresolvable,
    /// The target's address cannot be reached (502).
    TargetUnreachable,
    /// The target did not accept a connection in time (504).
    TargetConnectTimeout,
    /// The target did not answer in time (504).
    TargetResponseTimeout,
    /// The target agreed on no encrypted connection, or its certificate cannot be trusted (502).
    TargetNotTrusted,
    /// The target closed the connection before its answer began (502).
    TargetClosed,
    /// The target's answer is not acceptable HTTP/1 (502).
    TargetInvalidResponse,
    /// The target ended its answer before it was complete; the client's connection was cut.
    TargetCutBody,
    /// No target of the service is healthy (503).
    NoHealthyTarget,
    /// The time to drain the target was over (504, or the connection was cut).
    DrainTimeout,
    /// No service has this host and path (404).
    NoService,
    /// The request is malformed or ambiguous (400 and others).
    InvalidRequest,
    /// The service is stopped (503).
    ServiceStopped,
    /// The service was paused for longer than the request may wait (504).
    PauseTimeout,
    /// The body of the request is longer than may be held back (413).
    RequestTooLarge,
    /// The body of the answer is longer than may be held back (500).
    ResponseTooLarge,
    /// A body that was held back cannot be stored (500).
    BufferFailed,
    /// All bodies that are held back have as much of the disk as they may have (503).
    BufferFull,
    /// A certificate authority's proof was asked for that there is not (404).
    UnknownProof,
    /// It came by HTTPS to a service that is not served so (503).
    TlsOff,
    /// The service's certificate cannot be loaded (503).
    NoCertificate,
    /// It came over a connection that was agreed on for another name, on which this service's clients are not known (421).
    Misdirected,
    /// The client broke the rules of HTTP/2, which ended its connection.
    ProtocolError,
    /// The client sent too much over HTTP/2 that brings nothing, which ended its connection.
    ClientFlood,
    /// The client left before the answer was complete (499).
    ClientGone,
    /// The client did not send its request in time (408).
    ClientTimeout,
    /// The client's address is not among those that are served (403).
    ClientBlocked,
    /// The client, or all of them together, ask more often than they may (429).
    RateLimited,
    /// The client has not said who it is, or is not known (401).
    Unauthorized,
    /// Who may come cannot be told: the file cannot be read, or a password was not looked at in time (503).
    AuthUnavailable,
    /// So many passwords wait to be looked at that one more would wait for too long (503).
    AuthBusy,
}

impl Reason {
    /// Returns the code as it stands in the log and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TargetRefused => "target_refused",
            Self::TargetUnresolvable => "target_unresolvable",
            Self::TargetUnreachable => "target_unreachable",
            Self::TargetConnectTimeout => "target_connect_timeout",
            Self::TargetResponseTimeout => "target_response_timeout",
            Self::TargetNotTrusted => "target_not_trusted",
            Self::TargetClosed => "target_closed",
            Self::TargetInvalidResponse => "target_invalid_response",
            Self::TargetCutBody => "target_cut_body",
            Self::NoHealthyTarget => "no_healthy_target",
            Self::DrainTimeout => "drain_timeout",
            Self::NoService => "no_service",
            Self::InvalidRequest => "invalid_request",
            Self::ServiceStopped => "service_stopped",
            Self::PauseTimeout => "pause_timeout",
            Self::RequestTooLarge => "request_too_large",
            Self::ResponseTooLarge => "response_too_large",
            Self::BufferFailed => "buffer_failed",
            Self::BufferFull => "buffer_full",
            Self::UnknownProof => "unknown_proof",
            Self::TlsOff => "tls_off",
            Self::NoCertificate => "no_certificate",
            Self::Misdirected => "misdirected",
            Self::ProtocolError => "protocol_error",
            Self::ClientFlood => "client_flood",
            Self::ClientGone => "client_gone",
            Self::ClientTimeout => "client_timeout",
            Self::ClientBlocked => "client_blocked",
            Self::RateLimited => "rate_limited",
            Self::Unauthorized => "unauthorized",
            Self::AuthUnavailable => "auth_unavailable",
            Self::AuthBusy => "auth_busy",
        }
    }

    /// Says whether the target is to blame, so that the reason counts as a target error.
    #[must_use]
    pub fn is_target_error(self) -> bool {
        !matches!(
            self,
            Self::NoService
                | Self::InvalidRequest
                | Self::ServiceStopped
                | Self::PauseTimeout
                | Self::TlsOff
                | Self::NoCertificate
                | Self::Misdirected
                | Self::RequestTooLarge
                | Self::ResponseTooLarge
                | Self::BufferFailed
                | Self::BufferFull
                | Self::UnknownProof
                | Self::ProtocolError
                | Self::ClientFlood
                | Self::ClientGone
                | Self::ClientTimeout
                | Self::ClientBlocked
                | Self::RateLimited
                | Self::Unauthorized
                | Self::AuthUnavailable
                | Self::AuthBusy
                | Self::DrainTimeout
        )
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_written_as_they_are_serialised() {
        for reason in
            [Reason::TargetRefused, Reason::TargetCutBody, Reason::NoHealthyTarget, Reason::ClientTimeout]
        {
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{reason}\""));
        }
    }
}

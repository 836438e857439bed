use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How the proxy serves a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxySettings {
    /// Host names that are routed to the role; empty takes every name that no other service has.
    pub hosts: Vec<String>,
    /// The port on which the containers listen.
    pub app_port: u16,
    /// How the proxy finds out that a container is healthy.
    pub health_check: HealthCheck,
    /// How long a container may take to begin its response.
    pub response_timeout: Duration,
    /// Path prefixes that are routed to the role; empty is `/`.
    pub path_prefixes: Vec<String>,
    /// Whether the prefix is removed before the request is forwarded.
    pub strip_path_prefix: bool,
    /// Whether `X-Forwarded-*` headers of the client are kept.
    pub forward_headers: bool,
    /// What the proxy buffers.
    pub buffering: Buffering,
}

/// How the proxy finds out that a container is healthy: `GET` of a path answered with 200 to 299.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// The path, `/up` by default.
    pub path: String,
    /// The pause between two checks.
    pub interval: Duration,
    /// How long one check may take.
    pub timeout: Duration,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self { path: "/up".to_owned(), interval: Duration::from_secs(1), timeout: Duration::from_secs(5) }
    }
}

/// What the proxy buffers. Kamal's default is both; a streaming response is never held back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Buffering {
    /// Whether request bodies are read before they are forwarded.
    pub requests: bool,
    /// Whether response bodies are read before they are forwarded.
    pub responses: bool,
}

/// How the proxy's container runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyRun {
    /// The host's port for HTTP.
    pub http_port: u16,
    /// The host's port for HTTPS.
    pub https_port: u16,
    /// Whether the ports are published at all.
    pub publish: bool,
    /// The host's addresses to which the ports are bound; empty is all.
    pub bind_addresses: Vec<IpAddr>,
    /// The size at which the engine rotates the log, as Docker writes it; empty is never.
    pub log_max_size: String,
    /// Labels of the container, beside our own.
    pub labels: BTreeMap<String, String>,
    /// Whether the proxy logs at debug level.
    pub debug: bool,
}

impl Default for ProxyRun {
    fn default() -> Self {
        Self {
            http_port: 80,
            https_port: 443,
            publish: true,
            bind_addresses: Vec::new(),
            log_max_size: "10m".to_owned(),
            labels: BTreeMap::new(),
            debug: false,
        }
    }
}

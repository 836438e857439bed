//! What kamal-proxy stores: the file `kamal-proxy.state` in the volume that it shares with Freehold's proxy.
//!
//! kamal-proxy reads what we write here and the other way round, so that one can take the other's place. Unknown keys are
//! ignored, as kamal-proxy does; spans of time are whole nanoseconds.

use freehold_model::{InvalidName, ProxyServiceName};
use serde::{Deserialize, Serialize};

use crate::{
    Buffering, Gate, HealthCheck, HostPattern, InvalidAddress, PathPrefix, ServiceSettings, ServiceSnapshot,
    TargetAddress, Tls,
};

/// The name of the file, in the folder of the proxy's state.
pub const KAMAL_STATE_FILE: &str = "kamal-proxy.state";

const NANOSECONDS: u64 = 1_000_000;

/// A service that kamal-proxy cannot be taken at its word for.
#[derive(Debug, thiserror::Error)]
pub enum KamalServiceError {
    /// Its name is not one.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A target, host or prefix is not one.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// It uses something that Freehold's proxy does not have.
    #[error("service `{service}` uses {feature}, which this version of the proxy does not have")]
    Feature {
        /// The service.
        service: String,
        /// What it uses.
        feature: &'static str,
    },
}

/// A service as it stands in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KamalService {
    /// Its name.
    pub name: String,
    #[serde(deserialize_with = "or_default")]
    active_targets: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    active_readers: Vec<String>,
    rollout_targets: Option<Vec<String>>,
    rollout_readers: Option<Vec<String>>,
    options: Options,
    target_options: TargetOptions,
    pause_controller: PauseController,
    rollout_controller: Option<RolloutController>,
    /// Before version 0.9.
    #[serde(skip_serializing)]
    active_target: String,
    #[serde(skip_serializing, deserialize_with = "or_default")]
    hosts: Vec<String>,
    #[serde(skip_serializing, deserialize_with = "or_default")]
    path_prefixes: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Options {
    #[serde(deserialize_with = "or_default")]
    hosts: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    path_prefixes: Vec<String>,
    tls_enabled: bool,
    tls_certificate_path: String,
    tls_private_key_path: String,
    tls_on_demand_url: String,
    tls_redirect: bool,
    canonical_host: String,
    acme_directory: String,
    acme_cache_path: String,
    error_page_path: String,
    strip_prefix: bool,
    writer_affinity_timeout: u64,
    read_targets_accept_websockets: bool,
    exclude_metrics_paths: Option<Vec<String>>,
    client_ip_header: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct TargetOptions {
    health_check_config: HealthCheckConfig,
    response_timeout: u64,
    buffer_requests: bool,
    buffer_responses: bool,
    max_memory_buffer_size: u64,
    max_request_body_size: u64,
    max_response_body_size: u64,
    log_request_headers: Option<Vec<String>>,
    log_response_headers: Option<Vec<String>>,
    forward_headers: bool,
    scope_cookie_paths: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct HealthCheckConfig {
    path: String,
    port: u16,
    interval: u64,
    timeout: u64,
    host: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct PauseController {
    state: u8,
    stop_message: String,
    fail_after: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct RolloutController {
    percentage: i64,
    percentage_split_point: f64Bits,
    allowlist: Option<Vec<String>>,
}

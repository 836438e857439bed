//! The parts of a service's record.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Options {
    #[serde(deserialize_with = "or_default")]
    pub(super) hosts: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) path_prefixes: Vec<String>,
    pub(super) tls_enabled: bool,
    pub(super) tls_certificate_path: String,
    pub(super) tls_private_key_path: String,
    pub(super) tls_on_demand_url: String,
    pub(super) tls_redirect: bool,
    pub(super) canonical_host: String,
    pub(super) acme_directory: String,
    pub(super) acme_cache_path: String,
    pub(super) error_page_path: String,
    pub(super) strip_prefix: bool,
    pub(super) writer_affinity_timeout: u64,
    pub(super) read_targets_accept_websockets: bool,
    pub(super) exclude_metrics_paths: Option<Vec<String>>,
    pub(super) client_ip_header: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct TargetOptions {
    pub(super) health_check_config: HealthCheckConfig,
    pub(super) response_timeout: u64,
    pub(super) buffer_requests: bool,
    pub(super) buffer_responses: bool,
    pub(super) max_memory_buffer_size: u64,
    pub(super) max_request_body_size: u64,
    pub(super) max_response_body_size: u64,
    pub(super) log_request_headers: Option<Vec<String>>,
    pub(super) log_response_headers: Option<Vec<String>>,
    pub(super) forward_headers: bool,
    pub(super) scope_cookie_paths: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct HealthCheckConfig {
    pub(super) path: String,
    pub(super) port: u16,
    pub(super) interval: u64,
    pub(super) timeout: u64,
    pub(super) host: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PauseController {
    pub(super) state: u8,
    pub(super) stop_message: String,
    pub(super) fail_after: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RolloutController {
    pub(super) percentage: i64,
    /// Follows from the percentage.
    pub(super) percentage_split_point: serde_json::Value,
    #[serde(deserialize_with = "or_default")]
    pub(super) allowlist: Vec<String>,
}

pub(super) fn or_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

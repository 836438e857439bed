//! What kamal-proxy stores: the file `kamal-proxy.state` in the volume that it shares with Freehold's proxy.
//!
//! kamal-proxy reads what we write here and the other way round, so that one can take the other's place. Unknown keys are
//! ignored, as kamal-proxy does; spans of time are whole nanoseconds.

use freehold_model::{InvalidName, ProxyServiceName};
use serde::{Deserialize, Serialize};

use crate::{
    Acme, Buffering, CertificateSource, Gate, HealthCheck, HostPattern, InvalidAddress, PathPrefix,
    ServiceSettings, ServiceSnapshot, TargetAddress, Tls,
};

/// The name of the file, in the folder of the proxy's state.
pub const KAMAL_STATE_FILE: &str = "kamal-proxy.state";

/// A millisecond.
const MILLISECOND: u64 = 1_000_000;

/// Where kamal-proxy keeps certificates, unless it is told otherwise.
const USUAL_CACHE: &str = "/home/kamal-proxy/.config/kamal-proxy/certs";

const USUAL_AFFINITY: u64 = 1000 * MILLISECOND;

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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    rollout_controller: Option<serde_json::Value>,
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

fn or_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads the file.
///
/// # Errors
/// What is wrong with it as JSON.
pub fn read_kamal_state(text: &[u8]) -> Result<Vec<KamalService>, serde_json::Error> {
    serde_json::from_slice(text)
}

/// Writes the file for services.
///
/// # Errors
/// Never in practice: all of it can be written as JSON.
pub fn write_kamal_state(services: &[ServiceSnapshot]) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&services.iter().map(KamalService::of).collect::<Vec<_>>())
}

impl KamalService {
    /// Returns the targets, `host:port`.
    #[must_use]
    pub fn targets(&self) -> Vec<String> {
        if self.active_targets.is_empty() && !self.active_target.is_empty() {
            return vec![self.active_target.clone()];
        }
        self.active_targets.clone()
    }

    /// Says whether it is served over HTTPS.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.options.tls_enabled
    }

    /// Returns the hosts that it answers to; none is any.
    pub fn hosts(&self) -> impl Iterator<Item = &String> {
        let hosts = if self.options.hosts.is_empty() { &self.hosts } else { &self.options.hosts };
        hosts.iter().filter(|host| !host.is_empty())
    }

    fn path_prefixes(&self) -> impl Iterator<Item = &String> {
        let own = &self.options.path_prefixes;
        let prefixes = if own.is_empty() { &self.path_prefixes } else { own };
        prefixes.iter().filter(|prefix| !prefix.trim_matches('/').is_empty())
    }

    /// Returns whether requests go to its targets.
    #[must_use]
    pub fn gate(&self) -> Gate {
        match self.pause_controller.state {
            1 => Gate::Paused { max_pause_ms: self.pause_controller.fail_after / MILLISECOND },
            2 => Gate::Stopped { message: self.pause_controller.stop_message.clone() },
            _ => Gate::Open,
        }
    }

    /// Returns how it is reached, as Freehold's proxy has it.
    ///
    /// # Errors
    /// [`KamalServiceError`] where it holds what cannot be carried over.
    pub fn settings(&self) -> Result<ServiceSettings, KamalServiceError> {
        let (options, target) = (&self.options, &self.target_options);
        let check = &target.health_check_config;
        Ok(ServiceSettings {
            hosts: self.hosts().map(|host| HostPattern::parse(host)).collect::<Result<_, _>>()?,
            path_prefixes: self
                .path_prefixes()
                .map(|path| PathPrefix::parse(path))
                .collect::<Result<_, _>>()?,
            strip_path_prefix: options.strip_prefix,
            health_check: HealthCheck {
                path: if check.path.is_empty() { HealthCheck::default().path } else { check.path.clone() },
                host: Some(check.host.clone()).filter(|host| !host.is_empty()),
                port: Some(check.port).filter(|port| *port > 0),
                interval_ms: (check.interval / MILLISECOND).max(1),
                timeout_ms: (check.timeout / MILLISECOND).max(1),
            },
            response_timeout_ms: target.response_timeout / MILLISECOND,
            forward_headers: target.forward_headers,
            buffering: Buffering {
                requests: target.buffer_requests,
                responses: target.buffer_responses,
                memory_bytes: target.max_memory_buffer_size,
                max_request_bytes: target.max_request_body_size,
                max_response_bytes: target.max_response_body_size,
            },
            log_request_headers: target.log_request_headers.clone().unwrap_or_default(),
            log_response_headers: target.log_response_headers.clone().unwrap_or_default(),
            canonical_host: match options.canonical_host.as_str() {
                "" => None,
                host => Some(HostPattern::parse(host)?),
            },
            error_pages: Some(options.error_page_path.clone()).filter(|folder| !folder.is_empty()),
            tls: self.tls(),
            scope_cookie_paths: target.scope_cookie_paths,
        })
    }

    fn tls(&self) -> Option<Tls> {
        let options = &self.options;
        if !options.tls_enabled {
            return None;
        }
        let text =
            |text: &String, usual: &str| Some(text.clone()).filter(|text| !text.is_empty() && text != usual);
        let certificate = if options.tls_certificate_path.is_empty() {
            CertificateSource::Acme(Acme {
                directory: text(&options.acme_directory, ""),
                cache_path: text(&options.acme_cache_path, USUAL_CACHE),
                ..Acme::default()
            })
        } else {
            CertificateSource::Files {
                certificate_path: options.tls_certificate_path.clone(),
                private_key_path: options.tls_private_key_path.clone(),
            }
        };
        Some(Tls { certificate, redirect: options.tls_redirect })
    }

    fn lacks(&self, feature: &'static str) -> KamalServiceError {
        KamalServiceError::Feature { service: self.name.clone(), feature }
    }

    /// Returns the service as Freehold's proxy has it.
    ///
    /// # Errors
    /// [`KamalServiceError`] where it holds what cannot be carried over.
    pub fn snapshot(&self, generation: u64) -> Result<ServiceSnapshot, KamalServiceError> {
        if !self.active_readers.is_empty() {
            return Err(self.lacks("read-only targets"));
        }
        if self.rollout_controller.as_ref().is_some_and(|split| !split.is_null()) {
            return Err(self.lacks("a rollout to a part of the visitors"));
        }
        if !self.options.tls_on_demand_url.is_empty() {
            return Err(self.lacks("certificates on demand"));
        }
        if !self.options.client_ip_header.is_empty() {
            return Err(self.lacks("a header with the client's address"));
        }
        Ok(ServiceSnapshot {
            name: ProxyServiceName::parse(self.name.as_str())?,
            targets: self
                .targets()
                .iter()
                .map(|target| TargetAddress::parse(target))
                .collect::<Result<_, _>>()?,
            settings: self.settings()?,
            generation,
            gate: self.gate(),
        })
    }

    /// Returns a service of Freehold's proxy as kamal-proxy has it.
    #[must_use]
    pub fn of(service: &ServiceSnapshot) -> Self {
        let settings = &service.settings;
        let check = &settings.health_check;
        let tls = settings.tls.as_ref();
        let (tls_certificate_path, tls_private_key_path, acme) = match tls.map(|tls| &tls.certificate) {
            Some(CertificateSource::Files { certificate_path, private_key_path }) => {
                (certificate_path.clone(), private_key_path.clone(), None)
            }
            Some(CertificateSource::Acme(acme)) => (String::new(), String::new(), Some(acme)),
            None => (String::new(), String::new(), None),
        };
        let texts = |texts: &[String]| Some(texts.to_vec()).filter(|texts| !texts.is_empty());
        let hosts: Vec<String> = settings.hosts.iter().map(ToString::to_string).collect();
        let prefixes: Vec<String> = settings.path_prefixes.iter().map(ToString::to_string).collect();
        let (state, stop_message, pause_ms) = match &service.gate {
            Gate::Open => (0, String::new(), 0),
            Gate::Paused { max_pause_ms } => (1, String::new(), *max_pause_ms),
            Gate::Stopped { message } => (2, message.clone(), 0),
        };
        Self {
            name: service.name.to_string(),
            active_targets: service.targets.iter().map(ToString::to_string).collect(),
            options: Options {
                // kamal-proxy writes what stands for any host and for all paths, never nothing.
                hosts: if hosts.is_empty() { vec![String::new()] } else { hosts },
                path_prefixes: if prefixes.is_empty() { vec!["/".to_owned()] } else { prefixes },
                tls_enabled: tls.is_some(),
                tls_certificate_path,
                tls_private_key_path,
                acme_directory: acme.and_then(|acme| acme.directory.clone()).unwrap_or_default(),
                acme_cache_path: acme
                    .and_then(|acme| acme.cache_path.clone())
                    .unwrap_or_else(|| USUAL_CACHE.to_owned()),
                tls_redirect: tls.is_none_or(|tls| tls.redirect),
                canonical_host: settings.canonical_host.as_ref().map(ToString::to_string).unwrap_or_default(),
                error_page_path: settings.error_pages.clone().unwrap_or_default(),
                strip_prefix: settings.strip_path_prefix,
                writer_affinity_timeout: USUAL_AFFINITY,
                ..Options::default()
            },
            target_options: TargetOptions {
                health_check_config: HealthCheckConfig {
                    path: check.path.clone(),
                    port: check.port.unwrap_or(0),
                    interval: check.interval_ms.saturating_mul(MILLISECOND),
                    timeout: check.timeout_ms.saturating_mul(MILLISECOND),
                    host: check.host.clone().unwrap_or_default(),
                },
                response_timeout: settings.response_timeout_ms.saturating_mul(MILLISECOND),
                buffer_requests: settings.buffering.requests,
                buffer_responses: settings.buffering.responses,
                max_memory_buffer_size: settings.buffering.memory_bytes,
                max_request_body_size: settings.buffering.max_request_bytes,
                max_response_body_size: settings.buffering.max_response_bytes,
                log_request_headers: texts(&settings.log_request_headers),
                log_response_headers: texts(&settings.log_response_headers),
                forward_headers: settings.forward_headers,
                scope_cookie_paths: settings.scope_cookie_paths,
            },
            pause_controller: PauseController {
                state,
                stop_message,
                fail_after: pause_ms.saturating_mul(MILLISECOND),
            },
            ..Self::default()
        }
    }

    /// Returns the flags of a `kamal-proxy deploy` that sets the service again as it is, but for its targets and the time
    /// limits of the deploy.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        let (options, target) = (&self.options, &self.target_options);
        let check = &target.health_check_config;
        let mut flags = Vec::new();
        let mut text = |name: &str, value: &str| {
            if !value.is_empty() {
                flags.push(format!("--{name}={value}"));
            }
        };
        self.hosts().for_each(|host| text("host", host));
        if options.tls_enabled {
            text("tls", "true");
        }
        text("tls-certificate-path", &options.tls_certificate_path);
        text("tls-private-key-path", &options.tls_private_key_path);
        text("tls-on-demand-url", &options.tls_on_demand_url);
        if options.acme_cache_path != USUAL_CACHE {
            text("tls-acme-cache-path", &options.acme_cache_path);
        }
        if options.acme_directory.contains("staging") {
            text("tls-staging", "true");
        }
        text("tls-redirect", &options.tls_redirect.to_string());
        text("canonical-host", &options.canonical_host);
        for (name, span) in [
            ("health-check-interval", check.interval),
            ("health-check-timeout", check.timeout),
            ("target-timeout", target.response_timeout),
            ("writer-affinity-timeout", options.writer_affinity_timeout),
        ] {
            if name == "writer-affinity-timeout" && span == USUAL_AFFINITY {
                continue;
            }
            text(name, &format!("{}ms", span / MILLISECOND));
        }
        text("health-check-path", &check.path);
        if check.port > 0 {
            text("health-check-port", &check.port.to_string());
        }
        text("health-check-host", &check.host);
        text("buffer-requests", &target.buffer_requests.to_string());
        text("buffer-responses", &target.buffer_responses.to_string());
        text("buffer-memory", &target.max_memory_buffer_size.to_string());
        text("max-request-body", &target.max_request_body_size.to_string());
        text("max-response-body", &target.max_response_body_size.to_string());
        self.path_prefixes().for_each(|prefix| text("path-prefix", prefix));
        text("strip-path-prefix", &options.strip_prefix.to_string());
        text("forward-headers", &target.forward_headers.to_string());
        text("scope-cookie-paths", &target.scope_cookie_paths.to_string());
        target.log_request_headers.iter().flatten().for_each(|name| text("log-request-header", name));
        target.log_response_headers.iter().flatten().for_each(|name| text("log-response-header", name));
        self.active_readers.iter().for_each(|reader| text("read-target", reader));
        if options.read_targets_accept_websockets {
            text("read-target-websockets", "true");
        }
        options.exclude_metrics_paths.iter().flatten().for_each(|path| text("exclude-metrics-path", path));
        text("client-ip-header", &options.client_ip_header);
        text("error-pages", &options.error_page_path);
        flags
    }
}

#[cfg(test)]
mod tests;

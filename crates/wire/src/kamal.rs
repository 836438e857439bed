//! What kamal-proxy stores: the file `kamal-proxy.state` in the volume that it shares with Freehold's proxy.
//!
//! kamal-proxy reads what we write here and the other way round, so that one can take the other's place. Unknown keys are
//! ignored, as kamal-proxy does; spans of time are whole nanoseconds.

mod shape;

use freehold_model::{InvalidName, ProxyServiceName};
use serde::{Deserialize, Serialize};

use crate::{
    Acme, Buffering, Canary, CertificateSource, Gate, HealthCheck, HostPattern, InvalidAddress, PathPrefix,
    ServiceSettings, ServiceSnapshot, Split, TargetAddress, Tls,
};

use shape::{HealthCheckConfig, Options, PauseController, RolloutController, TargetOptions, or_default};

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
    rollout_controller: Option<RolloutController>,
    /// Before version 0.9.
    #[serde(skip_serializing)]
    active_target: String,
    #[serde(skip_serializing)]
    rollout_target: String,
    #[serde(skip_serializing, deserialize_with = "or_default")]
    hosts: Vec<String>,
    #[serde(skip_serializing, deserialize_with = "or_default")]
    path_prefixes: Vec<String>,
}

fn filled(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn addresses(texts: &[String]) -> Result<Vec<TargetAddress>, InvalidAddress> {
    texts.iter().map(|text| TargetAddress::parse(text)).collect()
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
                host: filled(&check.host),
                port: Some(check.port).filter(|port| *port > 0),
                interval_ms: (check.interval / MILLISECOND).max(1),
                timeout_ms: (check.timeout / MILLISECOND).max(1),
                ..HealthCheck::default()
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
            error_pages: filled(&options.error_page_path),
            tls: self.tls(),
            scope_cookie_paths: target.scope_cookie_paths,
            read_targets_take_websockets: options.read_targets_accept_websockets,
            writer_affinity_ms: options.writer_affinity_timeout / MILLISECOND,
            client_ip_header: filled(&options.client_ip_header),
            exclude_metrics_paths: options.exclude_metrics_paths.clone().unwrap_or_default(),
            // What kamal-proxy does not have.
            ..ServiceSettings::default()
        })
    }

    fn tls(&self) -> Option<Tls> {
        let options = &self.options;
        if !options.tls_enabled {
            return None;
        }
        let certificate = if options.tls_certificate_path.is_empty() {
            CertificateSource::Acme(Acme {
                directory: filled(&options.acme_directory),
                cache_path: filled(&options.acme_cache_path).filter(|path| path != USUAL_CACHE),
                on_demand_url: filled(&options.tls_on_demand_url),
                ..Acme::default()
            })
        } else {
            CertificateSource::Files {
                certificate_path: options.tls_certificate_path.clone(),
                private_key_path: options.tls_private_key_path.clone(),
            }
        };
        Some(Tls { certificate, redirect: options.tls_redirect, clients: None })
    }

    /// Returns the targets that a part of the visitors gets; a split without targets has no effect.
    fn canary(&self) -> Result<Option<Canary>, InvalidAddress> {
        let mut targets = self.rollout_targets.clone().unwrap_or_default();
        if targets.is_empty() && !self.rollout_target.is_empty() {
            targets.push(self.rollout_target.clone());
        }
        if targets.is_empty() {
            return Ok(None);
        }
        let split = self.rollout_controller.as_ref().map(|split| Split {
            percentage: u8::try_from(split.percentage.clamp(0, 100)).unwrap_or_default(),
            allow_list: split.allowlist.clone(),
            ..Split::default()
        });
        let read_targets = addresses(self.rollout_readers.as_deref().unwrap_or_default())?;
        Ok(Some(Canary { targets: addresses(&targets)?, read_targets, split }))
    }

    /// Returns the service as Freehold's proxy has it.
    ///
    /// # Errors
    /// [`KamalServiceError`] where it holds what cannot be carried over.
    pub fn snapshot(&self, generation: u64) -> Result<ServiceSnapshot, KamalServiceError> {
        Ok(ServiceSnapshot {
            name: ProxyServiceName::parse(self.name.as_str())?,
            targets: addresses(&self.targets())?,
            read_targets: addresses(&self.active_readers)?,
            settings: self.settings()?,
            generation,
            gate: self.gate(),
            canary: self.canary()?,
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
        let rollout = |pick: fn(&Canary) -> &Vec<TargetAddress>| {
            service.canary.as_ref().map(|canary| pick(canary).iter().map(ToString::to_string).collect())
        };
        Self {
            name: service.name.to_string(),
            active_targets: service.targets.iter().map(ToString::to_string).collect(),
            active_readers: service.read_targets.iter().map(ToString::to_string).collect(),
            rollout_targets: rollout(|canary| &canary.targets),
            rollout_readers: rollout(|canary| &canary.read_targets),
            rollout_controller: service.canary.as_ref().and_then(|canary| canary.split.as_ref()).map(
                |split| RolloutController {
                    percentage: split.percentage.into(),
                    percentage_split_point: split.point().into(),
                    allowlist: split.allow_list.clone(),
                },
            ),
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
                writer_affinity_timeout: settings.writer_affinity_ms.saturating_mul(MILLISECOND),
                tls_on_demand_url: acme.and_then(|acme| acme.on_demand_url.clone()).unwrap_or_default(),
                read_targets_accept_websockets: settings.read_targets_take_websockets,
                exclude_metrics_paths: texts(&settings.exclude_metrics_paths),
                client_ip_header: settings.client_ip_header.clone().unwrap_or_default(),
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

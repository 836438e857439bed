//! What the proxy of a host serves, and whose it is.

use freehold_plan::ProxyMaker;
use freehold_wire::{CertificateState, CertificateStatus, HealthState, ServiceStatus, TargetStatus};
use serde::Serialize;

use crate::engine_host::EngineHost;
use crate::engine_host::link::Link;
use crate::engine_host::observe::maker;
use crate::engine_host::proxy::{CONTROL_DEADLINE, PROXY_CONTAINER};
use crate::host::HostError;

/// A service that a proxy serves, for a person or a program.
#[derive(Debug, Clone, Serialize)]
pub struct ServedService {
    /// Its name in the proxy.
    pub name: String,
    /// Whose containers its targets are: `SERVICE`, or `SERVICE-DESTINATION`. None where there is no such container.
    pub owner: Option<String>,
    /// Its hosts; none is any.
    pub hosts: Vec<String>,
    /// Its targets, those that get reads only among them.
    pub targets: Vec<ServedTarget>,
    /// `running`, `paused` or `stopped`.
    pub state: String,
    /// Whether it is served over HTTPS.
    pub tls: bool,
    /// Its certificates. A kamal-proxy does not tell them.
    pub certificates: Vec<ServedCertificate>,
}

/// A target of such a service.
#[derive(Debug, Clone, Serialize)]
pub struct ServedTarget {
    /// Its address.
    pub address: String,
    /// `adding`, `healthy` or `unhealthy`. A kamal-proxy does not tell it.
    pub health: Option<String>,
}

/// A certificate of such a service.
#[derive(Debug, Clone, Serialize)]
pub struct ServedCertificate {
    /// The host that it is for.
    pub name: String,
    /// `valid`, `ordering` or `failed`.
    pub state: String,
    /// When it ends, RFC 3339 in UTC.
    pub expires_at: Option<String>,
    /// Why it is not as it should be.
    pub error: Option<String>,
}

impl EngineHost {
    /// Lists what the proxy serves; none where none runs.
    ///
    /// # Errors
    /// [`HostError`] when the host, its engine or its proxy does not answer.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn served_services(&self) -> Result<Option<Vec<ServedService>>, HostError> {
        let link = self.link().await?;
        let details = link.engine.inspect_container(PROXY_CONTAINER).await;
        let details = details.map_err(|error| self.engine_error("look at the proxy", error))?;
        let Some(details) = details.filter(|details| details.state.is_alive()) else { return Ok(None) };
        let mut services: Vec<ServedService> = match maker(&details) {
            ProxyMaker::Freehold => {
                let answer = self
                    .ask_proxy(&link, "list its services", async |client| {
                        client.services(CONTROL_DEADLINE).await
                    })
                    .await;
                let services = answer.map_err(|failure| failure.into_host_error(&self.name))?;
                services.into_iter().map(served).collect()
            }
            ProxyMaker::Kamal => {
                let services = self.kamal_services(&link).await?;
                let target = |address| ServedTarget { address, health: None };
                let served = services.into_iter().map(|service| ServedService {
                    owner: None,
                    hosts: service.hosts().cloned().collect(),
                    targets: service.targets().into_iter().map(target).collect(),
                    state: service.gate().as_str().to_owned(),
                    tls: service.has_tls(),
                    certificates: Vec::new(),
                    name: service.name,
                });
                served.collect()
            }
        };
        for service in &mut services {
            service.owner = self.owner_of(&link, service).await?;
        }
        Ok(Some(services))
    }

    /// Finds whose container a service's targets are, by the labels that Kamal gives it, too.
    async fn owner_of(&self, link: &Link, service: &ServedService) -> Result<Option<String>, HostError> {
        for target in &service.targets {
            let container = target.address.rsplit_once(':').map_or(target.address.as_str(), |(name, _)| name);
            let details = link.engine.inspect_container(container).await;
            let details = details.map_err(|error| self.engine_error("look at a target", error))?;
            let label = |name: &str| {
                details.as_ref().and_then(|details| details.labels.get(name)).filter(|text| !text.is_empty())
            };
            if let Some(owner) = label("service") {
                let destination = label("destination").map_or_else(String::new, |name| format!("-{name}"));
                return Ok(Some(format!("{owner}{destination}")));
            }
        }
        Ok(None)
    }
}

fn served(status: ServiceStatus) -> ServedService {
    let target = |TargetStatus { address, health, .. }| ServedTarget {
        address: address.to_string(),
        health: Some(
            match health {
                HealthState::Adding => "adding",
                HealthState::Healthy => "healthy",
                HealthState::Unhealthy => "unhealthy",
            }
            .to_owned(),
        ),
    };
    let certificate = |CertificateStatus { name, state, expires_at, error, .. }| ServedCertificate {
        name,
        state: match state {
            CertificateState::Valid => "valid",
            CertificateState::Ordering => "ordering",
            CertificateState::Failed => "failed",
        }
        .to_owned(),
        expires_at,
        error,
    };
    ServedService {
        name: status.name.to_string(),
        owner: None,
        hosts: status.settings.hosts.iter().map(ToString::to_string).collect(),
        targets: status.targets.into_iter().chain(status.read_targets).map(target).collect(),
        state: status.gate.as_str().to_owned(),
        tls: status.settings.tls.is_some(),
        certificates: status.certificates.into_iter().map(certificate).collect(),
    }
}

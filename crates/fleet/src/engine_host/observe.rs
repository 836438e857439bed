use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use freehold_docker::{ContainerDetails, ContainerScope, ContainerSummary, ImageSummary};
use freehold_model::{
    Buffering, CertificateAuthority, CertificateFleet, ClientAuthorities, ContainerName, ImageReference,
    LoggedHeaders, Project, ProxyServiceName, ProxySettings, Release, ReleaseId, Repository, RoleName,
    SecretName, Tag, Tls,
};
use freehold_plan::{
    CertificateState, ContainerState, Gate, Holder, NETWORK, ObservedCertificate, ObservedContainer,
    ObservedHost, ObservedImage, ObservedProxy, ObservedRoute, ProxyFiles, ProxyMaker, RELEASE_LABEL, Route,
    repositories,
};
use freehold_wire::{
    CertificateSource, ClientMode, DeployRequest, KamalService, ServiceSettings, ServiceSnapshot,
    ServiceStatus, TargetAddress, TargetStatus,
};

use crate::engine_host::kamal_proxy::STATE_FOLDER;
use crate::engine_host::link::Link;
use crate::engine_host::proxy::{
    API_LABEL, CERTIFICATE_FILE, PROXY_CONTAINER, PROXY_LABEL, USERS_FILE, service_settings,
};
use crate::engine_host::staging::pieces_folder;
use crate::engine_host::{EngineHost, canary, scripts};
use crate::host::HostError;

/// The releases that can be gone back to, the one that is tried, and folders with pieces of images.
type Stored = (Vec<Release>, Option<Release>, Vec<String>);

impl EngineHost {
    pub(super) async fn look(&self, project: &Project) -> Result<ObservedHost, HostError> {
        let link = self.link().await?;
        let labels = BTreeMap::from([("service".to_owned(), project.service.to_string())]);
        let label = format!("service={}", project.service);
        let engine = &link.engine;
        let failed = |operation: &'static str| move |error| self.engine_error(operation, error);
        let (info, containers, images, has_network, seen, labelled, proxy_boot, stored) = tokio::try_join!(
            async { engine.info().await.map_err(failed("ask the engine for its version")) },
            async {
                engine.list_containers(ContainerScope::All, &labels).await.map_err(failed("list containers"))
            },
            async {
                let names = repositories(project);
                let lists = names.iter().map(|name| engine.list_images(name));
                futures_util::future::try_join_all(lists).await.map_err(failed("list images"))
            },
            async { engine.has_network(NETWORK).await.map_err(failed("look for the network")) },
            self.look_at_proxy(&link, project),
            async { engine.list_labelled_images(&label).await.map_err(failed("list the service's images")) },
            self.boot_config(),
            self.stored_releases(project),
        )?;
        let (releases, canary, pieces) = stored;
        let agent = self.look_at_agent(&link, project, &releases).await?;
        let mut containers: Vec<ObservedContainer> = containers.into_iter().filter_map(container).collect();
        containers.sort_by_key(|container| std::cmp::Reverse(container.created_seconds));
        Ok(ObservedHost {
            engine: info.version,
            architecture: info.architecture,
            has_network,
            containers,
            images: repositories(project)
                .iter()
                .zip(&images)
                .flat_map(|(name, list)| list.iter().flat_map(|summary| tags(name, summary)))
                .collect(),
            unnamed_images: labelled
                .into_iter()
                .filter(|image| image.tags.is_empty())
                .map(|image| image.id)
                .collect(),
            proxy: seen.proxy,
            proxy_ports: seen.ports,
            holders: seen.holders,
            proxy_boot,
            agent,
            releases,
            canary,
            pieces,
        })
    }

    /// Returns the releases that can be gone back to, the one that is tried, and the folders in which pieces of images are
    /// left.
    async fn stored_releases(&self, project: &Project) -> Result<Stored, HostError> {
        let stem = project.stem();
        let folders: Vec<String> = repositories(project).iter().map(pieces_folder).collect();
        let script = scripts::read_releases(&stem, &folders);
        let output = self.plain_script("read the stored releases", &script).await?;
        let read = |path: String, text: &str| -> Result<Release, HostError> {
            serde_json::from_str(text).map_err(|error| HostError::Stored {
                host: self.name.clone(),
                path,
                message: error.to_string(),
            })
        };
        let mut parts = output.stdout.split('\u{2}');
        let mut part = || parts.next().unwrap_or_default();
        let (stored, tried, pieces) = (part(), part(), part());
        let folder = format!("{}/releases", freehold_plan::state_directory(&stem));
        let stored = stored.split('\u{1}').filter(|text| !text.trim().is_empty());
        let releases = stored.map(|text| read(folder.clone(), text));
        let mut releases = releases.collect::<Result<Vec<Release>, HostError>>()?;
        releases.sort_by(|one, other| other.id.cmp(&one.id));
        let tried = Some(tried).filter(|text| !text.trim().is_empty());
        let tried = tried.map(|text| read(freehold_plan::canary_file(&stem), text)).transpose()?;
        Ok((releases, tried, pieces.lines().map(str::to_owned).collect()))
    }

    async fn look_at_proxy(&self, link: &Link, project: &Project) -> Result<SeenProxy, HostError> {
        let accessories = project.accessories.values().any(|accessory| accessory.proxy.is_some());
        if project.roles.values().all(|role| role.proxy.is_none()) && !accessories {
            return Ok(SeenProxy::default());
        }
        let details = link
            .engine
            .inspect_container(PROXY_CONTAINER)
            .await
            .map_err(|error| self.engine_error("look at the proxy", error))?;
        let Some(details) = details else { return Ok(SeenProxy::default()) };
        let image = details.image.clone();
        let maker = maker(&details);
        if !details.state.is_alive() {
            let proxy = ObservedProxy::Stopped { image, maker };
            return Ok(SeenProxy { proxy, ..SeenProxy::default() });
        }
        // The engine tells the ports of what runs only.
        let ports = (details.state == freehold_docker::ContainerState::Running)
            .then(|| details.published.iter().map(|port| port.container_port).collect());
        match maker {
            ProxyMaker::Freehold => {
                self.look_at_our_proxy(link, project, &details).await.map(|seen| SeenProxy { ports, ..seen })
            }
            ProxyMaker::Kamal => {
                let services = self.kamal_services(link).await?;
                let named = services.iter().filter_map(|service| {
                    let settings = service.settings().unwrap_or_default();
                    Some((ProxyServiceName::parse(&service.name).ok()?, settings, service))
                });
                let (mut routes, mut holders) = (BTreeMap::new(), BTreeMap::new());
                for (name, settings, service) in named {
                    let Some(role) = project.roles.values().find(|role| role.proxy_service == name) else {
                        let route = kamal_route(None, service);
                        hold(&mut holders, project, &settings, &Holder { service: name, route });
                        continue;
                    };
                    let route = kamal_route(role.proxy.clone(), service);
                    let gate = gate(&service.gate());
                    routes
                        .insert(name, ObservedRoute { route, gate, certificates: Vec::new(), canary: None });
                }
                let proxy = ObservedProxy::Running { image, maker, is_outdated: false, routes };
                Ok(SeenProxy { proxy, ports, holders })
            }
        }
    }

    async fn look_at_our_proxy(
        &self,
        link: &Link,
        project: &Project,
        details: &ContainerDetails,
    ) -> Result<SeenProxy, HostError> {
        let api = details.labels.get(API_LABEL).and_then(|text| text.parse::<u32>().ok());
        if let Some(api) = api.filter(|api| *api > freehold_wire::API_VERSION) {
            return Err(HostError::Refused {
                host: self.name.clone(),
                operation: "speak with the proxy".to_owned(),
                message: format!(
                    "it is of a newer Freehold (version {api} of its API, this program knows {}): use that one",
                    freehold_wire::API_VERSION
                ),
            });
        }
        let (image, maker) = (details.image.clone(), ProxyMaker::Freehold);
        let role_of =
            |name: &ProxyServiceName| project.roles.values().find(|role| role.proxy_service == *name);
        let (mut routes, mut holders) = (BTreeMap::new(), BTreeMap::new());
        // The number of a lower version is no answer: the proxy may have handed over to a newer one in the same container. The
        // version is part of the question, so that an earlier one does not understand it.
        let services = self.services_or_outdated(link).await?;
        let is_outdated = services.is_none();
        match services {
            Some(services) => {
                for status in services {
                    if role_of(&status.name).is_some() {
                        routes.insert(status.name.clone(), observed_route(project, &status));
                    } else {
                        let (service, route) = (status.name.clone(), route_of(None, &status));
                        hold(&mut holders, project, &status.settings, &Holder { service, route });
                    }
                }
            }
            None => {
                for service in self.stored_services(link).await? {
                    let Some(role) = role_of(&service.name) else { continue };
                    let route = route_from(role.proxy.clone(), &service.settings, service.targets);
                    let gate = gate(&service.gate);
                    routes.insert(
                        service.name,
                        ObservedRoute { route, gate, certificates: Vec::new(), canary: None },
                    );
                }
            }
        }
        let proxy = ObservedProxy::Running { image, maker, is_outdated, routes };
        Ok(SeenProxy { proxy, ports: None, holders })
    }

    /// Asks a proxy of ours what it serves; none where it does not understand the question.
    async fn services_or_outdated(&self, link: &Link) -> Result<Option<Vec<ServiceStatus>>, HostError> {
        let deadline = Duration::from_secs(10);
        let services =
            self.ask_proxy(link, "list its services", async |client| client.services(deadline).await).await;
        match services {
            Ok(services) => Ok(Some(services)),
            Err(failure) if failure.is_of_another_version() => Ok(None),
            Err(failure) => Err(failure.into_host_error(&self.name)),
        }
    }

    /// Reads what a proxy of ours stored: an earlier build may not answer this one's questions.
    pub(super) async fn stored_services(&self, link: &Link) -> Result<Vec<ServiceSnapshot>, HostError> {
        let path = format!("{STATE_FOLDER}/freehold-proxy.state");
        let text = link.engine.read_file(PROXY_CONTAINER, &path).await;
        let text = text.map_err(|error| self.engine_error("read the state of the proxy", error))?;
        let Some(text) = text else { return Ok(Vec::new()) };
        let unreadable = |error: serde_json::Error| HostError::Stored {
            host: self.name.clone(),
            path: format!("{PROXY_CONTAINER}:{path}"),
            message: error.to_string(),
        };
        let mut state: serde_json::Value = serde_json::from_slice(&text).map_err(unreadable)?;
        let services = state.get_mut("services").map(serde_json::Value::take).unwrap_or_default();
        serde_json::from_value(services).map_err(unreadable)
    }
}

/// What was seen of the proxy of a host.
#[derive(Debug, Default)]
struct SeenProxy {
    proxy: ObservedProxy,
    ports: Option<BTreeSet<u16>>,
    holders: BTreeMap<ProxyServiceName, Holder>,
}

/// Takes note of a service that has a host and path which one of the project's is to have.
fn hold(
    holders: &mut BTreeMap<ProxyServiceName, Holder>,
    project: &Project,
    settings: &ServiceSettings,
    holder: &Holder,
) {
    for role in project.roles.values() {
        let wanted = role.proxy.as_ref().and_then(|proxy| service_settings(proxy).ok());
        if wanted.is_some_and(|wanted| wanted.collides_with(settings)) {
            holders.entry(role.proxy_service.clone()).or_insert_with(|| holder.clone());
        }
    }
}

/// Says whose proxy a container is.
pub(super) fn maker(details: &ContainerDetails) -> ProxyMaker {
    if details.labels.contains_key(PROXY_LABEL) { ProxyMaker::Freehold } else { ProxyMaker::Kamal }
}

pub(super) fn container_state(state: freehold_docker::ContainerState) -> ContainerState {
    match state {
        freehold_docker::ContainerState::Created => ContainerState::Created,
        freehold_docker::ContainerState::Running => ContainerState::Running,
        freehold_docker::ContainerState::Paused => ContainerState::Paused,
        freehold_docker::ContainerState::Restarting => ContainerState::Restarting,
        freehold_docker::ContainerState::Removing => ContainerState::Removing,
        freehold_docker::ContainerState::Exited => ContainerState::Exited,
        freehold_docker::ContainerState::Dead | freehold_docker::ContainerState::Other => {
            ContainerState::Dead
        }
    }
}

fn container(summary: ContainerSummary) -> Option<ObservedContainer> {
    let state = container_state(summary.state);
    let label = |name: &str| summary.labels.get(name).cloned().unwrap_or_default();
    Some(ObservedContainer {
        id: summary.id.to_string(),
        // A container of another name than Freehold or Kamal would give is not one of ours.
        name: ContainerName::parse(summary.name.clone()).ok()?,
        role: RoleName::parse(label("role")).ok(),
        destination: label("destination"),
        image: summary.image.clone(),
        image_id: summary.image_id.clone(),
        release: serde_json::from_value::<ReleaseId>(label(RELEASE_LABEL).into())
            .ok()
            .filter(|id| !id.as_str().is_empty()),
        state,
        created_seconds: summary.created.as_second(),
    })
}

fn tags(wanted: &Repository, summary: &ImageSummary) -> Vec<ObservedImage> {
    summary
        .tags
        .iter()
        .filter_map(|name| {
            let (repository, tag) = name.rsplit_once(':')?;
            // Podman puts a registry before short names.
            let short = repository.strip_prefix("docker.io/library/").unwrap_or(repository);
            let fits = repository == wanted.as_str() || short == wanted.as_str();
            let tag = Tag::parse(tag).ok().filter(|_| fits)?;
            let reference = ImageReference { repository: wanted.clone(), tag };
            Some(ObservedImage { reference, id: summary.id.clone() })
        })
        .collect()
}

fn gate(gate: &freehold_wire::Gate) -> Gate {
    match gate {
        freehold_wire::Gate::Open => Gate::Open,
        freehold_wire::Gate::Paused { max_pause_ms } => {
            Gate::Paused { limit: Duration::from_millis(*max_pause_ms) }
        }
        freehold_wire::Gate::Stopped { message } => Gate::Stopped { message: message.clone() },
    }
}

fn route(project: &Project, status: &ServiceStatus) -> Route {
    let known = project.roles.values().find(|role| role.proxy_service == status.name);
    route_of(known.and_then(|role| role.proxy.clone()), status)
}

fn observed_route(project: &Project, status: &ServiceStatus) -> ObservedRoute {
    let certificates = status.certificates.iter().map(|certificate| ObservedCertificate {
        name: certificate.name.clone(),
        state: match certificate.state {
            freehold_wire::CertificateState::Valid => CertificateState::Valid,
            freehold_wire::CertificateState::Ordering => CertificateState::Ordering,
            freehold_wire::CertificateState::Failed => CertificateState::Failed,
        },
        expires_at: certificate.expires_at.clone(),
        next_order_at: certificate.next_order_at.clone(),
        error: certificate.error.clone(),
    });
    ObservedRoute {
        route: route(project, status),
        gate: gate(&status.gate),
        certificates: certificates.collect(),
        canary: canary::observed(status),
    }
}

pub(super) fn route_of(wanted: Option<ProxySettings>, status: &ServiceStatus) -> Route {
    let addresses =
        |targets: &[TargetStatus]| targets.iter().map(|target| target.address.clone()).collect::<Vec<_>>();
    let targets = addresses(&status.targets);
    let again = DeployRequest {
        read_targets: addresses(&status.read_targets),
        ..DeployRequest::new(targets.clone(), status.settings.clone())
    };
    // What cannot be written down is put back as far as a deploy file could say it.
    let stored = serde_json::to_string(&again).ok();
    Route { stored, ..route_from(wanted, &status.settings, targets) }
}

/// The route of a service of kamal-proxy. Where it has settings that are not ours, the flags alone set it again.
pub(super) fn kamal_route(wanted: Option<ProxySettings>, service: &KamalService) -> Route {
    let targets = service.targets().iter().filter_map(|target| TargetAddress::parse(target).ok()).collect();
    let settings = service.settings().unwrap_or_default();
    Route {
        targets: service.targets(),
        kamal_flags: service.flags(),
        ..route_from(wanted, &settings, targets)
    }
}

/// What the proxy does not tell is taken to be as the project wants it.
fn route_from(
    wanted: Option<ProxySettings>,
    settings: &ServiceSettings,
    targets: Vec<TargetAddress>,
) -> Route {
    let untold = wanted.unwrap_or_default();
    let source = settings.tls.as_ref().map(|tls| &tls.certificate);
    let certificate = match source {
        Some(CertificateSource::Files { certificate_path, .. }) => certificate_path
            .strip_suffix(CERTIFICATE_FILE)
            .map(|folder| folder.trim_end_matches('/').to_owned()),
        Some(CertificateSource::Acme(_)) | None => None,
    };
    let users = settings.basic_auth_file.as_deref();
    let users = users.and_then(|path| Some(path.strip_suffix(USERS_FILE)?.trim_end_matches('/').to_owned()));
    let tls = match (source, &untold.tls) {
        (Some(CertificateSource::Acme(acme)), _) => Tls::Automatic(CertificateAuthority {
            directory: acme.directory.clone(),
            contact: acme.contact.clone(),
            skip_name_check: acme.skip_name_check,
            on_demand_url: acme.on_demand_url.clone(),
            fleet: acme.fleet.as_ref().map(|fleet| CertificateFleet {
                key: fleet_key(&untold.tls),
                peers: fleet.peers.iter().map(ToString::to_string).collect(),
            }),
        }),
        (Some(CertificateSource::Files { .. }), custom @ Tls::Custom { .. }) => custom.clone(),
        (Some(CertificateSource::Files { .. }), _) | (None, _) => Tls::Off,
    };
    Route {
        kamal_flags: Vec::new(),
        stored: None,
        targets: targets.iter().map(ToString::to_string).collect(),
        files: ProxyFiles { error_pages: settings.error_pages.clone(), certificate, users },
        settings: ProxySettings {
            hosts: settings.hosts.iter().filter(|host| !host.is_any()).map(ToString::to_string).collect(),
            app_port: targets.first().map_or(80, TargetAddress::port),
            health_check: freehold_model::HealthCheck {
                path: settings.health_check.path.clone(),
                interval: Duration::from_millis(settings.health_check.interval_ms),
                timeout: Duration::from_millis(settings.health_check.timeout_ms),
                protocol: settings.health_check.protocol,
                tls: settings.health_check.tls.as_ref().map(target_tls),
            },
            response_timeout: Duration::from_millis(settings.response_timeout_ms),
            path_prefixes: settings
                .path_prefixes
                .iter()
                .filter(|prefix| !prefix.is_root())
                .map(ToString::to_string)
                .collect(),
            strip_path_prefix: settings.strip_path_prefix,
            forward_headers: settings.forward_headers,
            buffering: Buffering {
                requests: settings.buffering.requests,
                responses: settings.buffering.responses,
                memory_bytes: Some(settings.buffering.memory_bytes),
                max_request_body_bytes: Some(settings.buffering.max_request_bytes),
                max_response_body_bytes: Some(settings.buffering.max_response_bytes),
            },
            logged_headers: LoggedHeaders {
                request: settings.log_request_headers.clone(),
                response: settings.log_response_headers.clone(),
            },
            tls,
            redirect_to_https: settings.tls.as_ref().is_none_or(|tls| tls.redirect),
            target_protocol: settings.target_protocol,
            target_tls: settings.target_tls.as_ref().map(target_tls),
            compression: settings.compression.clone(),
            traffic: settings.traffic.clone(),
            basic_auth: untold.basic_auth.clone().filter(|_| settings.basic_auth_file.is_some()),
            clients: settings.tls.as_ref().and_then(|tls| tls.clients.as_ref()).map(|clients| {
                ClientAuthorities {
                    certificates: clients.ca_pem.clone().unwrap_or_default(),
                    revoked: clients.crl_pem.clone(),
                    is_optional: clients.mode == ClientMode::Optional,
                }
            }),
        },
    }
}

fn target_tls(told: &freehold_wire::TargetTls) -> freehold_model::TargetTls {
    freehold_model::TargetTls { authorities: told.ca_pem.clone(), server_name: told.server_name.clone() }
}

/// The proxy does not tell by which secret its key is known.
fn fleet_key(wanted: &Tls) -> Option<SecretName> {
    match wanted {
        Tls::Automatic(authority) => authority.fleet.as_ref().and_then(|fleet| fleet.key.clone()),
        Tls::Off | Tls::Custom { .. } => None,
    }
}

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use freehold_model::{
    Author, BootLimit, ContainerName, Environment, HostName, ImageReference, Project, Release, ReleaseId,
    ReleaseRole, ReleaseVersion, Role, RoleHost, SecretFingerprint, SecretName,
};

use crate::naming::{NETWORK, hex_digits, latest_image, role_labels, state_directory};
use crate::observed::{Observed, ObservedHost};
use crate::plan::{Action, ContainerRequest, OnFailure, Plan, PlanKind, Readiness, StageKind, Undo};
use crate::retention::retention;
use crate::stages::Stages;

pub use check::RolloutError;

use check::check_host;

mod check;

/// What a rollout is asked to do.
#[derive(Debug, Clone)]
pub struct RolloutRequest<'a> {
    /// The project.
    pub project: &'a Project,
    /// The version of the new release.
    pub version: ReleaseVersion,
    /// The rollout's identifier.
    pub id: ReleaseId,
    /// The time, UTC, `2026-01-31T12:00:00Z`.
    pub created_at: String,
    /// Who deploys.
    pub author: Author,
    /// The git revision of the source, if there is one.
    pub git_revision: Option<String>,
    /// Fingerprints of the secrets that the project names.
    pub secrets: BTreeMap<SecretName, SecretFingerprint>,
    /// Random bytes from which names are drawn.
    pub random: [u8; 16],
    /// Where the image comes from.
    pub image: ImageSource,
    /// Whether the proxy is made sure of first.
    pub proxy: ProxyBoot,
}

/// Where the image of a rollout comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageSource {
    /// It is built, then sent to the hosts.
    Build,
    /// It was built before and is sent to the hosts.
    Built,
    /// Every host has it.
    OnHosts,
}

/// Whether a rollout makes sure of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyBoot {
    /// It does.
    Ensure,
    /// The proxy must run already.
    Expect,
}

/// Plans the replacement of the running release on every host of the project, as one transaction.
///
/// # Errors
/// [`RolloutError`] when a host cannot take the release; nothing has been changed then.
pub fn rollout(request: &RolloutRequest<'_>, observed: &Observed) -> Result<Plan, RolloutError> {
    let hosts = request.project.hosts();
    for host in &hosts {
        check_host(request, host, seen(observed, host)?)?;
    }
    let image = ImageReference { repository: request.project.image.clone(), tag: request.version.clone() };
    let mut stages = Stages::default();
    build_and_deliver(&mut stages, request, &image, &hosts);
    let batches = batches(request.project.boot.limit, &hosts);
    for (index, batch) in batches.iter().enumerate() {
        if index > 0 && !request.project.boot.wait.is_zero() {
            stages.begin(StageKind::Wait, OnFailure::PutBack);
            if let Some(first) = batch.first() {
                stages.step(first, Action::Wait { duration: request.project.boot.wait }, Undo::Nothing);
            }
        }
        boot(&mut stages, request, observed, &image, batch)?;
        commit(&mut stages, request, observed, batch)?;
        soak(&mut stages, request, batch)?;
    }
    retire(&mut stages, request, observed, &image, &hosts)?;
    Ok(Plan {
        format: Plan::FORMAT,
        id: request.id.clone(),
        kind: PlanKind::Deploy,
        service: request.project.service.clone(),
        destination: request.project.destination.clone(),
        version: Some(request.version.clone()),
        hosts,
        stages: stages.finish(),
    })
}

fn seen<'a>(observed: &'a Observed, host: &HostName) -> Result<&'a ObservedHost, RolloutError> {
    observed.hosts.get(host).ok_or_else(|| RolloutError::NotObserved { host: host.clone() })
}

pub(crate) fn roles_on<'a, 'h>(
    project: &'a Project,
    host: &'h HostName,
) -> impl Iterator<Item = (&'a Role, &'a RoleHost)> + use<'a, 'h> {
    project.roles.values().filter_map(move |role| {
        role.hosts.iter().find(|entry| entry.name == *host).map(|entry| (role, entry))
    })
}

fn batches(limit: Option<BootLimit>, hosts: &[HostName]) -> Vec<Vec<HostName>> {
    let size = match limit {
        None => hosts.len(),
        Some(BootLimit::Hosts(limit)) => usize::try_from(limit.get()).unwrap_or(usize::MAX),
        Some(BootLimit::Percent(percent)) => hosts.len() * usize::from(percent) / 100,
    };
    hosts.chunks(size.max(1)).map(<[HostName]>::to_vec).collect()
}

fn build_and_deliver(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
    image: &ImageReference,
    hosts: &[HostName],
) {
    let project = request.project;
    let place = crate::BuildPlaceName::from(&project.builder.on);
    if request.image == ImageSource::Build {
        let host = match &project.builder.on {
            freehold_model::BuildPlace::Host(host) => Some(host),
            freehold_model::BuildPlace::Local => hosts.first(),
        };
        if let Some(host) = host {
            stages.begin(StageKind::Build, OnFailure::PutBack);
            stages.step(
                host,
                Action::BuildImage { image: image.clone(), place: place.clone() },
                Undo::Nothing,
            );
        }
    }
    stages.begin(StageKind::Prepare, OnFailure::PutBack);
    let stem = project.stem();
    for host in hosts {
        let directories = vec![
            ".kamal".to_owned(),
            format!(".kamal/apps/{stem}/env/roles"),
            ".kamal/proxy/apps-config".to_owned(),
            state_directory(&stem),
        ];
        stages.step(host, Action::PrepareHost { directories, network: NETWORK.to_owned() }, Undo::Nothing);
        if request.image != ImageSource::OnHosts {
            stages.step(
                host,
                Action::DeliverImage { image: image.clone(), from: place.clone() },
                Undo::Nothing,
            );
        }
        if request.proxy == ProxyBoot::Ensure && roles_on(project, host).any(|(role, _)| role.proxy.is_some())
        {
            let action = Action::EnsureProxy { run: project.proxy_run(host), network: NETWORK.to_owned() };
            stages.step(host, action, Undo::Nothing);
        }
    }
}

fn container_name(request: &RolloutRequest<'_>, role: &Role) -> Result<ContainerName, RolloutError> {
    Ok(ContainerName::parse(format!("{}-{}", request.project.role_prefix(&role.name), request.version))?)
}

/// The name that a container of the same version takes when the version is deployed again.
fn replaced_name(
    request: &RolloutRequest<'_>,
    host: &HostName,
    name: &ContainerName,
) -> Result<ContainerName, RolloutError> {
    let digits = hex_digits(request.random, &format!("replaced {host} {name}"), 16);
    Ok(ContainerName::parse(format!("{name}_replaced_{digits}"))?)
}

fn boot(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
    observed: &Observed,
    image: &ImageReference,
    batch: &[HostName],
) -> Result<(), RolloutError> {
    let primary = &request.project.primary_role;
    for is_primary in [true, false] {
        stages.begin(StageKind::Boot, OnFailure::PutBack);
        for host in batch {
            for (role, entry) in
                roles_on(request.project, host).filter(|(role, _)| (role.name == *primary) == is_primary)
            {
                boot_role(stages, request, seen(observed, host)?, image, (role, entry))?;
            }
        }
    }
    Ok(())
}

fn boot_role(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
    seen: &ObservedHost,
    image: &ImageReference,
    (role, entry): (&Role, &RoleHost),
) -> Result<(), RolloutError> {
    let host = &entry.name;
    let name = container_name(request, role)?;
    if seen.containers.iter().any(|container| container.name == name) {
        let to = replaced_name(request, host, &name)?;
        let undo = Undo::RenameContainer { from: to.clone(), to: name.clone() };
        stages.step(host, Action::RenameContainer { from: name.clone(), to }, undo);
    }
    let container = ContainerRequest {
        name: name.clone(),
        image: image.clone().into(),
        hostname: Some(hostname(request, host, &name)),
        network: NETWORK.to_owned(),
        command: role.command.clone(),
        environment: environment(request, entry, &name),
        labels: role_labels(request.project, &role.name, &request.id),
        volumes: role.volumes.clone(),
        options: role.options.clone(),
        logging: role.logging.clone(),
        stop_timeout: role.stop_timeout,
    };
    let undo = Undo::RemoveContainer { container: name.clone() };
    stages.step(host, Action::StartContainer(Box::new(container)), undo);
    let readiness = readiness(request.project, role);
    stages.step(
        host,
        Action::AwaitHealthy { subject: (&role.name).into(), container: name, readiness },
        Undo::Nothing,
    );
    Ok(())
}

pub(crate) fn readiness(project: &Project, role: &Role) -> Readiness {
    let timeouts = &project.timeouts;
    match &role.proxy {
        Some(proxy) => Readiness::Answers {
            port: proxy.app_port,
            check: proxy.health_check.clone(),
            deadline: timeouts.deploy,
        },
        None => Readiness::Runs { delay: timeouts.readiness_delay, deadline: timeouts.deploy },
    }
}

fn hostname(request: &RolloutRequest<'_>, host: &HostName, name: &ContainerName) -> String {
    let stem: String = host.as_str().chars().take(51).collect();
    format!(
        "{}-{}",
        stem.strip_suffix('.').unwrap_or(&stem).replace(':', "-"),
        hex_digits(request.random, &format!("hostname {host} {name}"), 12)
    )
}

fn environment(request: &RolloutRequest<'_>, entry: &RoleHost, name: &ContainerName) -> Environment {
    let mut environment = entry.environment.clone();
    let mut add = |key: &str, value: String| {
        if let Ok(key) = freehold_model::EnvName::parse(key) {
            environment.clear.entry(key).or_insert(value);
        }
    };
    add("KAMAL_CONTAINER_NAME", name.to_string());
    add("KAMAL_VERSION", request.version.to_string());
    add("KAMAL_HOST", entry.name.to_string());
    if let Some(destination) = &request.project.destination {
        add("KAMAL_DESTINATION", destination.to_string());
    }
    environment
}

fn commit(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
    observed: &Observed,
    batch: &[HostName],
) -> Result<(), RolloutError> {
    stages.begin(StageKind::Commit, OnFailure::PutBack);
    for host in batch {
        for (role, _) in roles_on(request.project, host) {
            let Some(settings) = &role.proxy else { continue };
            let action = Action::SwitchTarget {
                subject: (&role.name).into(),
                service: role.proxy_service.clone(),
                container: container_name(request, role)?,
                settings: settings.clone(),
                drain: request.project.timeouts.drain,
            };
            let previous = seen(observed, host)?.route(&role.proxy_service).cloned().map(Box::new);
            stages.step(host, action, Undo::RestoreRoute { service: role.proxy_service.clone(), previous });
        }
    }
    Ok(())
}

fn soak(stages: &mut Stages, request: &RolloutRequest<'_>, batch: &[HostName]) -> Result<(), RolloutError> {
    if request.project.timeouts.soak.is_zero() {
        return Ok(());
    }
    stages.begin(StageKind::Soak, OnFailure::PutBack);
    for host in batch {
        let mut containers = Vec::new();
        for (role, _) in roles_on(request.project, host) {
            let service = role.proxy.as_ref().map(|_| role.proxy_service.clone());
            containers.push((container_name(request, role)?, service));
        }
        stages.step(
            host,
            Action::Soak { containers, duration: request.project.timeouts.soak },
            Undo::Nothing,
        );
    }
    Ok(())
}

fn retire(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
    observed: &Observed,
    image: &ImageReference,
    hosts: &[HostName],
) -> Result<(), RolloutError> {
    let project = request.project;
    stages.begin(StageKind::Retire, OnFailure::GoOn);
    for host in hosts {
        let seen = seen(observed, host)?;
        let mut roles = BTreeMap::new();
        let mut names = Vec::new();
        for (role, entry) in roles_on(project, host) {
            let name = container_name(request, role)?;
            names.push(name.clone());
            retire_role(stages, request, (role, entry), seen)?;
            roles.insert(role.name.clone(), release_role(request, role, entry, name));
        }
        if let Some(latest) = latest_image(project) {
            let release = Release {
                id: request.id.clone(),
                version: request.version.clone(),
                service: project.service.clone(),
                destination: project.destination.clone(),
                image: image.clone(),
                created_at: request.created_at.clone(),
                author: request.author.clone(),
                git_revision: request.git_revision.clone(),
                roles,
            };
            stages.step(host, Action::RecordRelease { release: Box::new(release), latest }, Undo::Nothing);
        }
        let kept = retention(project, seen, image);
        for container in kept.containers {
            let is_renamed = names.contains(&container);
            let container = if is_renamed { replaced_name(request, host, &container)? } else { container };
            stages.step(host, Action::RemoveContainer { container }, Undo::Impossible);
        }
        for image in kept.images {
            stages.step(host, Action::RemoveImage { image }, Undo::Impossible);
        }
        if !kept.releases.is_empty() {
            stages.step(host, Action::ForgetReleases { releases: kept.releases }, Undo::Impossible);
        }
    }
    Ok(())
}

fn retire_role(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
    (role, entry): (&Role, &RoleHost),
    seen: &ObservedHost,
) -> Result<(), RolloutError> {
    let host = &entry.name;
    let project = request.project;
    let name = container_name(request, role)?;
    let current = seen.current(project, &role.name).map(|container| container.id.clone());
    for container in seen.containers_of(project, &role.name).filter(|container| container.state.is_running())
    {
        let drains = current.as_ref() == Some(&container.id) && role.proxy.is_some();
        let stopped = if container.name == name {
            replaced_name(request, host, &name)?
        } else {
            container.name.clone()
        };
        let action = Action::StopContainer {
            subject: (&role.name).into(),
            container: stopped.clone(),
            drain: drains.then(|| (role.proxy_service.clone(), project.timeouts.drain)),
            timeout: stop_timeout(project, role),
        };
        stages.step(host, action, Undo::StartContainer { container: stopped });
    }
    let path = format!(".kamal/apps/{}/env/roles/{}.env", project.stem(), role.name);
    let action = Action::WriteEnvironmentFile {
        subject: (&role.name).into(),
        path,
        environment: Environment { clear: BTreeMap::new(), secret: entry.environment.secret.clone() },
    };
    stages.step(host, action, Undo::Nothing);
    Ok(())
}

/// Kamal's rule: a role behind the proxy stops in the engine's own time, another one within the drain timeout.
pub(crate) fn stop_timeout(project: &Project, role: &Role) -> Option<std::time::Duration> {
    role.stop_timeout.or_else(|| role.proxy.is_none().then_some(project.timeouts.drain))
}

fn release_role(
    request: &RolloutRequest<'_>,
    role: &Role,
    entry: &RoleHost,
    name: ContainerName,
) -> ReleaseRole {
    let secrets = entry
        .environment
        .secret
        .iter()
        .filter_map(|(variable, secret)| Some((variable.clone(), request.secrets.get(secret)?.clone())))
        .collect();
    ReleaseRole { role: Role { hosts: vec![entry.clone()], ..role.clone() }, container: name, secrets }
}

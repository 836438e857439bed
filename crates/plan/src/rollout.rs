use std::collections::BTreeMap;

use freehold_model::{
    Author, BootLimit, ContainerName, HostName, ImageReference, Project, ReleaseId, ReleaseVersion, Role,
    RoleHost, SecretFingerprint, SecretName,
};

use crate::canary;
use crate::images::image_of;
use crate::naming::{REPLACED_MARK, REPLICA_MARK, hex_digits};
use crate::observed::{Holder, Observed, ObservedHost};
use crate::plan::{Action, OnFailure, Plan, PlanKind, StageKind, Undo};
use crate::stages::Stages;

pub use check::RolloutError;

pub(crate) use boot::{boot, readiness, release_commands};
pub(crate) use check::{CANARY_HELP, PROXY_DOWN_HELP, check_host};
pub(crate) use deliver::{Extent, build_and_deliver, prepare_promotion};
pub(crate) use files::{
    certificate_inside_proxy, kept_folders, proxy_files, users_inside_proxy, write_certificate, write_users,
};
pub(crate) use retire::{forget_release_commands, old_folders, release_of, retire, stop_timeout};

mod boot;
mod check;
mod deliver;
mod files;
mod namesake;
mod retire;
mod schedule;

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
    /// The proxy's error pages by file name, `404.html`.
    pub error_pages: BTreeMap<String, String>,
    /// What becomes of the same application under other names.
    pub namesakes: Namesakes,
}

/// What becomes of the same application under other names, that is of another destination or role, where it has the hosts
/// that this one is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namesakes {
    /// The rollout is refused.
    Stay,
    /// Its requests go to the new release in the moment of the switch, and its containers are stopped.
    GiveWay,
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
        let seen = seen(observed, host)?;
        if let Some(tried) = seen.live_canary() {
            return Err(RolloutError::Canary { host: host.clone(), version: tried.version.clone() });
        }
        if let Some(tried) = seen.canary_in_doubt() {
            return Err(RolloutError::CanaryInDoubt { host: host.clone(), version: tried.version.clone() });
        }
        check_host(request, host, seen)?;
    }
    let image = release_image(request);
    let mut stages = Stages::default();
    build_and_deliver(&mut stages, request, observed, Extent::Whole)?;
    release_commands(&mut stages, request)?;
    let batches = batches(request.project.boot.limit, &hosts);
    for (index, batch) in batches.iter().enumerate() {
        if index > 0 && !request.project.boot.wait.is_zero() {
            stages.begin(StageKind::Wait, OnFailure::PutBack);
            if let Some(first) = batch.first() {
                stages.step(first, Action::Wait { duration: request.project.boot.wait }, Undo::Nothing);
            }
        }
        boot(&mut stages, request, observed, batch)?;
        commit(&mut stages, request, observed, batch)?;
        soak(&mut stages, request, observed, batch)?;
    }
    stages.begin(StageKind::Retire, OnFailure::GoOn);
    for host in &hosts {
        canary::clear(&mut stages, request.project, (host, seen(observed, host)?));
    }
    retire(&mut stages, request, observed, &image)?;
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

/// The image of a release is that of its primary role.
fn release_image(request: &RolloutRequest<'_>) -> ImageReference {
    let project = request.project;
    match project.roles.get(&project.primary_role).or_else(|| project.roles.values().next()) {
        Some(role) => image_of(project, role, &request.version),
        None => ImageReference { repository: project.image.clone(), tag: request.version.clone() },
    }
}

/// The name of a role's first container, which is Kamal's.
fn first_name(request: &RolloutRequest<'_>, role: &Role) -> Result<ContainerName, RolloutError> {
    Ok(ContainerName::parse(format!("{}-{}", request.project.role_prefix(&role.name), request.version))?)
}

/// The names of a role's containers on a host.
pub(crate) fn container_names(
    request: &RolloutRequest<'_>,
    role: &Role,
) -> Result<Vec<ContainerName>, RolloutError> {
    let first = first_name(request, role)?;
    let others = (2..=role.replicas.get())
        .map(|number| ContainerName::parse(format!("{first}{REPLICA_MARK}{number}")))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(std::iter::once(first).chain(others).collect())
}

/// The name that a container of the same version takes when the version is deployed again.
fn replaced_name(
    request: &RolloutRequest<'_>,
    host: &HostName,
    name: &ContainerName,
) -> Result<ContainerName, RolloutError> {
    let digits = hex_digits(request.random, &format!("replaced {host} {name}"), 16);
    Ok(ContainerName::parse(format!("{name}{REPLACED_MARK}{digits}"))?)
}

pub(crate) fn commit(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
    observed: &Observed,
    batch: &[HostName],
) -> Result<(), RolloutError> {
    stages.begin(StageKind::Commit, OnFailure::PutBack);
    for host in batch {
        for (role, _) in roles_on(request.project, host) {
            let Some(settings) = &role.proxy else { continue };
            let holder = seen(observed, host)?.holders.get(&role.proxy_service);
            let action = Action::SwitchTarget {
                subject: (&role.name).into(),
                service: role.proxy_service.clone(),
                containers: container_names(request, role)?,
                settings: Box::new(settings.clone()),
                files: proxy_files(
                    request.project,
                    role,
                    (!request.error_pages.is_empty()).then_some(request.version.as_str()),
                ),
                takes_over: holder.map(|holder| holder.service.clone()),
                drain: request.project.timeouts.drain,
                proxy: seen(observed, host)?.proxy.maker(),
                health_limit: seen(observed, host)?.proxy.maker().health_limit(request.project),
            };
            let service = role.proxy_service.clone();
            let undo = match holder {
                Some(Holder { service: to, route }) => {
                    Undo::ReturnRoute { service, to: to.clone(), previous: Box::new(route.clone()) }
                }
                None => {
                    let previous = seen(observed, host)?.route(&service).cloned().map(Box::new);
                    Undo::RestoreRoute { service, previous }
                }
            };
            stages.step(host, action, undo);
        }
        schedule::commit(stages, request, (host, seen(observed, host)?))?;
    }
    Ok(())
}

pub(crate) fn soak(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
    observed: &Observed,
    batch: &[HostName],
) -> Result<(), RolloutError> {
    if request.project.timeouts.soak.is_zero() {
        return Ok(());
    }
    stages.begin(StageKind::Soak, OnFailure::PutBack);
    for host in batch {
        let mut containers = Vec::new();
        // A kamal-proxy counts nothing that could be asked for.
        let counts = seen(observed, host)?.proxy.maker().is_freehold();
        for (role, _) in roles_on(request.project, host) {
            let service = role.proxy.as_ref().filter(|_| counts).map(|_| role.proxy_service.clone());
            let names = container_names(request, role)?;
            containers.extend(names.into_iter().map(|name| (name, service.clone())));
        }
        stages.step(
            host,
            Action::Soak { containers, duration: request.project.timeouts.soak },
            Undo::Nothing,
        );
    }
    Ok(())
}

use std::collections::BTreeMap;
use std::time::Duration;

use freehold_model::{ContainerName, Environment, HostName, RestartPolicy, Role, RoleHost, RoleOrder};

use crate::Observed;
use crate::images::image_of;
use crate::kamal_proxy::undo_waiting;
use crate::naming::{NETWORK, RELEASE_LABEL, hex_digits, role_labels};
use crate::observed::{ObservedHost, ProxyMaker};
use crate::peer::introduce;
use crate::plan::{Action, OnFailure, StageKind, Undo};
use crate::request::{ContainerRequest, Readiness, ReleaseCommand};
use crate::rollout::files::assets_volume;
use crate::rollout::{RolloutError, RolloutRequest, container_names, replaced_name, roles_on, seen};
use crate::stages::Stages;

/// How long a release command may take: a migration of a large table takes hours rather than minutes.
const RELEASE_COMMAND_LIMIT: Duration = Duration::from_secs(6 * 60 * 60);

/// Runs the release command of each role that has one, on the role's first host, one after another.
pub(crate) fn release_commands(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
) -> Result<(), RolloutError> {
    let primary = &request.project.primary_role;
    let mut roles: Vec<&Role> = request.project.roles.values().collect();
    roles.sort_by_key(|role| role.name != *primary);
    for role in roles {
        let (Some(command), Some(entry)) = (&role.release_command, role.hosts.first()) else { continue };
        let name = release_command_name(request, role)?;
        let mut container = container(request, (role, entry), &name);
        container.command = Some(command.clone());
        // It stands beside the release that serves, whose ports are taken, and must not run twice.
        container.options.publish = Vec::new();
        container.options.restart = RestartPolicy::No;
        container.volumes.clone_from(&role.volumes);
        // Without the service's label it is none of the service's containers.
        container.labels = BTreeMap::from([(RELEASE_LABEL.to_owned(), request.id.to_string())]);
        let command = ReleaseCommand { role: role.name.clone(), container, deadline: RELEASE_COMMAND_LIMIT };
        stages.begin(StageKind::Release, OnFailure::PutBack);
        let undo = Undo::RemoveContainer { container: name };
        stages.step(&entry.name, Action::RunReleaseCommand(Box::new(command)), undo);
    }
    Ok(())
}

/// Names the container of a release command as Kamal names its one-off containers.
pub(super) fn release_command_name(
    request: &RolloutRequest<'_>,
    role: &Role,
) -> Result<ContainerName, RolloutError> {
    let prefix = request.project.role_prefix(&role.name);
    let digits = hex_digits(request.random, &format!("release command {}", role.name), 6);
    Ok(ContainerName::parse(format!("{prefix}-exec-{}-{digits}", request.version))?)
}

/// Starts the new containers: first those of the primary role, everywhere, then the others.
pub(crate) fn boot(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
    observed: &Observed,
    batch: &[HostName],
) -> Result<(), RolloutError> {
    let primary = &request.project.primary_role;
    for is_primary in [true, false] {
        stages.begin(StageKind::Boot, OnFailure::PutBack);
        for host in batch {
            for (role, entry) in
                roles_on(request.project, host).filter(|(role, _)| (role.name == *primary) == is_primary)
            {
                boot_role(stages, request, seen(observed, host)?, (role, entry))?;
            }
        }
    }
    Ok(())
}

fn boot_role(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
    seen: &ObservedHost,
    (role, entry): (&Role, &RoleHost),
) -> Result<(), RolloutError> {
    let host = &entry.name;
    let lane = match request.project.boot.order {
        RoleOrder::OneByOne => "",
        RoleOrder::Parallel => role.name.as_str(),
    };
    let names = container_names(request, role)?;
    for name in &names {
        if seen.containers.iter().any(|container| container.name == *name) {
            let to = replaced_name(request, host, name)?;
            let undo = Undo::RenameContainer { from: to.clone(), to: name.clone() };
            stages.step_beside(host, lane, Action::RenameContainer { from: name.clone(), to }, undo);
        }
        let container = container(request, (role, entry), name);
        let undo = Undo::RemoveContainer { container: name.clone() };
        stages.step_beside(host, lane, Action::StartContainer(Box::new(container)), undo);
    }
    let readiness = readiness(request.project, role, seen.proxy.maker());
    for container in names {
        let undo = undo_waiting(&container, &readiness);
        let action =
            Action::AwaitHealthy { subject: (&role.name).into(), container, readiness: readiness.clone() };
        stages.step_beside(host, lane, action, undo);
    }
    Ok(())
}

pub(super) fn container(
    request: &RolloutRequest<'_>,
    (role, entry): (&Role, &RoleHost),
    name: &ContainerName,
) -> ContainerRequest {
    let mut options = role.options.clone();
    let mut environment = environment(request, entry, name);
    introduce(request.project, &entry.name, NETWORK, (&mut options, &mut environment));
    ContainerRequest {
        name: name.clone(),
        image: image_of(request.project, role, &request.version).into(),
        hostname: Some(hostname(request, &entry.name, name)),
        network: NETWORK.to_owned(),
        command: role.command.clone(),
        environment,
        labels: role_labels(request.project, &role.name, &request.id),
        volumes: role.volumes.iter().cloned().chain(assets_volume(request, role)).collect(),
        options,
        logging: role.logging.clone(),
        stop_timeout: role.stop_timeout,
    }
}

pub(crate) fn readiness(project: &freehold_model::Project, role: &Role, maker: ProxyMaker) -> Readiness {
    let timeouts = &project.timeouts;
    match &role.proxy {
        Some(proxy) => Readiness::Answers {
            port: proxy.app_port,
            check: proxy.health_check.clone(),
            deadline: timeouts.deploy,
            proxy: maker,
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

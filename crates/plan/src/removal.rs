use std::collections::BTreeSet;

use freehold_model::{Project, ReleaseId};

use crate::naming::{canary_file, state_directory};
use crate::observed::Observed;
use crate::plan::{Action, OnFailure, Plan, PlanKind, StageKind, Undo};
use crate::retention::has_unused;
use crate::rollout::stop_timeout;
use crate::schedule;
use crate::stages::Stages;

/// Plans the removal of a service: its routes, containers, images and stored state, and the proxy if it serves nobody
/// else. Named volumes stay: they are data.
#[must_use]
pub fn remove(project: &Project, id: ReleaseId, observed: &Observed) -> Plan {
    let mut stages = Stages::default();
    stages.begin(StageKind::Retire, OnFailure::GoOn);
    let destination = project.destination.as_ref().map_or("", |destination| destination.as_str());
    for host in project.hosts() {
        let Some(seen) = observed.hosts.get(&host) else { continue };
        for role in project.roles.values().filter(|role| seen.route(&role.proxy_service).is_some()) {
            let action =
                Action::RemoveTarget { service: role.proxy_service.clone(), proxy: seen.proxy.maker() };
            stages.step(&host, action, Undo::Impossible);
        }
        schedule::remove(&mut stages, project, (&host, seen), |_| true);
        let own = || seen.containers.iter().filter(|container| container.destination == destination);
        for container in own() {
            let Some(role) = &container.role else { continue };
            if container.state.is_running() {
                let action = Action::StopContainer {
                    subject: role.into(),
                    container: container.name.clone(),
                    drain: None,
                    timeout: project.roles.get(role).and_then(|role| stop_timeout(project, role)),
                };
                stages.step(&host, action, Undo::Impossible);
            }
            stages.step(
                &host,
                Action::RemoveContainer { container: container.name.clone() },
                Undo::Impossible,
            );
        }
        let foreign: BTreeSet<&String> = seen
            .containers
            .iter()
            .filter(|container| container.destination != destination)
            .map(|container| &container.image_id)
            .collect();
        for image in seen.images.iter().filter(|image| !foreign.contains(&image.id)) {
            stages.step(&host, Action::RemoveImage { image: image.reference.clone() }, Undo::Impossible);
        }
        let left: Vec<_> =
            seen.containers.iter().filter(|container| container.destination != destination).collect();
        if has_unused(&seen.unnamed_images, &left) {
            let action = Action::RemoveUnnamedImages { service: project.service.clone() };
            stages.step(&host, action, Undo::Impossible);
        }
        stages.step(&host, Action::RemoveProxyIfUnused, Undo::Impossible);
        let stem = project.stem();
        // The fencing number and the journal stay: they guard this very removal, and a client that wakes up late.
        let directories = vec![
            format!(".kamal/apps/{stem}"),
            format!("{}/releases", state_directory(&stem)),
            canary_file(&stem),
        ];
        stages.step(&host, Action::RemoveDirectories { directories }, Undo::Impossible);
    }
    Plan {
        format: Plan::FORMAT,
        id,
        kind: PlanKind::Remove,
        service: project.service.clone(),
        destination: project.destination.clone(),
        version: None,
        hosts: project.hosts(),
        stages: stages.finish(),
    }
}

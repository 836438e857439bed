//! The same application under another name: of another destination, or of a role that is called otherwise now.

use std::collections::BTreeSet;

use freehold_model::{HostName, Project, RoleName};

use crate::observed::{Holder, Observed, ObservedContainer, ObservedHost, ProxyMaker};
use crate::plan::{Action, Undo};
use crate::rollout::{Namesakes, RolloutError, RolloutRequest, roles_on, stop_timeout};
use crate::stages::Stages;

/// Refuses a rollout to a host whose proxy serves the hosts and paths of a role for somebody else, unless that is the same
/// application and is to give way.
pub(super) fn check(
    request: &RolloutRequest<'_>,
    host: &HostName,
    seen: &ObservedHost,
) -> Result<(), RolloutError> {
    for (role, _) in roles_on(request.project, host) {
        let Some(holder) = seen.holders.get(&role.proxy_service) else { continue };
        let (host, service, wanted) = (host.clone(), role.proxy_service.clone(), holder.service.clone());
        let is_namesake = container_of(request.project, seen, holder).is_some();
        // What has a route already would lose it on the way back.
        if !is_namesake || seen.route(&service).is_some() {
            return Err(RolloutError::Taken { host, service, holder: wanted });
        }
        if request.namesakes == Namesakes::Stay {
            return Err(RolloutError::Namesake { host, service, holder: wanted });
        }
        if seen.proxy.maker() == ProxyMaker::Kamal {
            return Err(RolloutError::KamalCannot { host });
        }
    }
    Ok(())
}

/// Returns a container that the holder's requests may go to, if it is one of the same application.
fn container_of<'a>(
    project: &Project,
    seen: &'a ObservedHost,
    holder: &Holder,
) -> Option<&'a ObservedContainer> {
    seen.containers.iter().find(|container| {
        container.role.as_ref().is_some_and(|role| {
            let name = proxy_service(project, role, &container.destination);
            name == holder.service.as_str()
        })
    })
}

/// The name under which the proxy knows a role of a destination.
fn proxy_service(project: &Project, role: &RoleName, destination: &str) -> String {
    let end = if destination.is_empty() { String::new() } else { format!("-{destination}") };
    format!("{}-{role}{end}", project.service)
}

/// What gives way on every host.
#[derive(Debug, Default)]
pub(super) struct GivingWay {
    destinations: BTreeSet<String>,
    roles: BTreeSet<RoleName>,
}

impl GivingWay {
    /// Finds it: a destination goes as a whole, with the roles that are behind no proxy and on hosts that have none.
    pub(super) fn of(request: &RolloutRequest<'_>, observed: &Observed) -> Self {
        let project = request.project;
        let own = project.destination.as_ref().map_or("", |destination| destination.as_str());
        let mut found = Self::default();
        for seen in observed.hosts.values() {
            for container in seen.holders.values().filter_map(|holder| container_of(project, seen, holder)) {
                match &container.role {
                    _ if container.destination != own => {
                        found.destinations.insert(container.destination.clone());
                    }
                    Some(role) => drop(found.roles.insert(role.clone())),
                    None => {}
                }
            }
        }
        found
    }

    /// Stops its containers on a host. They stay, for whoever wants to go back.
    pub(super) fn stop(
        &self,
        stages: &mut Stages,
        request: &RolloutRequest<'_>,
        (host, seen): (&HostName, &ObservedHost),
    ) {
        let project = request.project;
        let own = project.destination.as_ref().map_or("", |destination| destination.as_str());
        for container in seen.containers.iter().filter(|container| container.state.is_running()) {
            let Some(role) = &container.role else { continue };
            let goes = self.destinations.contains(&container.destination)
                || (container.destination == own && self.roles.contains(role));
            if !goes {
                continue;
            }
            let former = proxy_service(project, role, &container.destination);
            // The proxy drains it under the name of the service that took over.
            let taken = seen.holders.iter().find(|(_, holder)| holder.service.as_str() == former);
            let action = Action::StopContainer {
                subject: role.into(),
                container: container.name.clone(),
                drain: taken.map(|(service, _)| (service.clone(), project.timeouts.drain)),
                timeout: match project.roles.get(role) {
                    Some(role) => stop_timeout(project, role),
                    None => taken.is_none().then_some(project.timeouts.drain),
                },
            };
            stages.step(host, action, Undo::StartContainer { container: container.name.clone() });
        }
    }
}

use std::collections::BTreeMap;

use freehold_model::{ContainerName, ImageReference, ProxyServiceName, RoleName, ScheduleState};
use freehold_plan::{
    Action, ContainerRequest, ContainerState, Gate, Observed, ObservedAgent, ObservedCanary,
    ObservedContainer, ObservedHost, ObservedImage, ObservedProxy, ObservedRoute, ObservedSchedule,
    ObservedSide, Plan, ProxyMaker, RELEASE_LABEL, Route,
};

/// Changes what is observed as a plan that succeeds changes the hosts.
pub(crate) fn apply(plan: &Plan, observed: &mut Observed) {
    for step in plan.steps() {
        let seen = observed.hosts.get_mut(&step.host).expect("a host");
        act(&step.action, seen);
    }
}

fn act(action: &Action, seen: &mut ObservedHost) {
    match action {
        Action::PrepareHost { .. } => seen.has_network = true,
        Action::DeliverImage { image, .. } | Action::PullImage { image, .. } => {
            if !seen.images.iter().any(|present| present.reference == *image) {
                seen.images.push(ObservedImage { reference: image.clone(), id: format!("sha256:{image}") });
            }
        }
        Action::EnsureProxy { .. } => {
            if seen.proxy == ObservedProxy::Absent {
                seen.proxy = fresh_proxy();
            }
        }
        Action::RenameContainer { from, to } => {
            container(seen, from).expect("a container to rename").name = to.clone()
        }
        Action::StartContainer(request) => start(request, seen),
        Action::StartAgain { container: name, .. } => {
            container(seen, name).expect("a container to start").state = ContainerState::Running;
        }
        Action::SwitchTarget { .. } | Action::SetGate { .. } | Action::RemoveTarget { .. } => {
            route(action, seen)
        }
        Action::StopContainer { container: name, .. } => {
            container(seen, name).expect("a container to stop").state = ContainerState::Exited;
        }
        Action::RecordRelease { release, .. } => record(release, seen),
        Action::RemoveContainer { container: name } => {
            // The container of a release command carries no label of the service.
            let Some(gone) = container(seen, name) else {
                assert!(name.as_str().contains("-exec-"), "{name} is there to be removed");
                return;
            };
            assert!(!gone.state.is_running(), "{name} does not run");
            seen.containers.retain(|container| container.name != *name);
        }
        Action::RemoveImage { image } => remove_image(image, seen),
        Action::EnsureAgent
        | Action::StoreSchedule(_)
        | Action::SwitchSchedule { .. }
        | Action::ForgetSchedules { .. }
        | Action::RemoveSchedule { .. }
        | Action::RemoveAgentIfUnused => schedule(action, seen),
        Action::RemoveUnnamedImages { .. } => seen.unnamed_images.clear(),
        Action::RecordCanary { .. }
        | Action::StartCanary { .. }
        | Action::EndCanary { .. }
        | Action::ForgetCanary => try_release(action, seen),
        Action::ForgetReleases { releases } => seen.releases.retain(|known| !releases.contains(&known.id)),
        Action::UpgradeProxy { .. }
        | Action::DeliverProxyImage
        | Action::PullProxyImage { .. }
        | Action::StartStandIn { .. }
        | Action::DivertPorts { .. }
        | Action::ReleasePorts
        | Action::SetProxyAside { .. }
        | Action::StartProxy { .. }
        | Action::BringProxyBack { .. }
        | Action::RemoveStandIn
        | Action::RemoveProxyImages
        | Action::RemoveProxyIfUnused
        | Action::RemoveDirectories { .. }
        | Action::BuildImage { .. }
        | Action::CheckRegistry { .. }
        | Action::VerifyImage { .. }
        | Action::ScanImage { .. }
        | Action::PushImage { .. }
        | Action::BridgeAssets(_)
        | Action::WriteErrorPages { .. }
        | Action::WriteCertificate { .. }
        | Action::WriteUsers { .. }
        | Action::RunReleaseCommand(_)
        | Action::AwaitHealthy { .. }
        | Action::Soak { .. }
        | Action::WriteEnvironmentFile { .. }
        | Action::PullAccessoryImage { .. }
        | Action::PlaceFiles { .. }
        | Action::Wait { .. } => {}
    }
}

fn remove_image(image: &ImageReference, seen: &mut ObservedHost) {
    let user = seen.containers.iter().find(|container| container.image == image.to_string());
    assert_eq!(user, None, "{image} is unused");
    seen.images.retain(|present| present.reference != *image);
}

fn try_release(action: &Action, seen: &mut ObservedHost) {
    match action {
        Action::RecordCanary { release } => seen.canary = Some((**release).clone()),
        Action::ForgetCanary => seen.canary = None,
        Action::StartCanary { service, containers, port, canary, .. } => {
            let target = |name| {
                let id = &container(seen, name).expect("a container to try").id;
                format!("{}:{port}", id.chars().take(12).collect::<String>())
            };
            let targets: Vec<String> = containers.iter().map(target).collect();
            let canary = ObservedCanary {
                healthy: targets.len(),
                targets,
                percent: Some(canary.percent),
                verdict: None,
                all: ObservedSide::default(),
            };
            routes(seen).get_mut(service).expect("a route").canary = Some(canary);
        }
        Action::EndCanary { service, .. } => {
            routes(seen).get_mut(service).expect("a route").canary = None;
        }
        other => panic!("{other} is no matter of a canary"),
    }
}

fn record(release: &freehold_model::Release, seen: &mut ObservedHost) {
    seen.releases.retain(|known| known.id != release.id);
    seen.releases.push(release.clone());
    seen.releases.sort_by(|one, other| other.id.cmp(&one.id));
}

fn schedule(action: &Action, seen: &mut ObservedHost) {
    if seen.agent.is_absent() {
        if *action == Action::EnsureAgent {
            seen.agent = ObservedAgent::Running { schedules: Vec::new() };
        }
        return;
    }
    let ObservedAgent::Running { schedules } = &mut seen.agent else { panic!("the agent does not run") };
    match action {
        Action::StoreSchedule(request) => {
            if !schedules.iter().any(|known| known.name == request.name) {
                schedules.push(ObservedSchedule {
                    name: request.name.clone(),
                    role: request.role.clone(),
                    state: ScheduleState::Off,
                    releases: BTreeMap::new(),
                });
            }
            let known = schedules.iter_mut().find(|known| known.name == request.name).expect("a schedule");
            known.releases.insert(request.release.clone(), request.jobs[0].1.image.to_string());
        }
        Action::SwitchSchedule { name, to, .. } => {
            let known = schedules.iter_mut().find(|known| known.name == *name).expect("a schedule");
            assert!(
                to.release().is_none_or(|release| known.releases.contains_key(release)),
                "{to:?} is stored"
            );
            known.state = to.clone();
        }
        Action::ForgetSchedules { name, releases } => {
            let known = schedules.iter_mut().find(|known| known.name == *name).expect("a schedule");
            known.releases.retain(|release, _| !releases.contains(release));
        }
        Action::RemoveSchedule { name } => schedules.retain(|known| known.name != *name),
        Action::RemoveAgentIfUnused if schedules.is_empty() => seen.agent = ObservedAgent::Absent,
        _ => {}
    }
}

fn route(action: &Action, seen: &mut ObservedHost) {
    match action {
        Action::SwitchTarget { service, containers, settings, files, takes_over, .. } => {
            seen.holders.retain(|_, holder| Some(&holder.service) != takes_over.as_ref());
            let target = |name| {
                let id = &container(seen, name).expect("a container to switch to").id;
                format!("{}:{}", id.chars().take(12).collect::<String>(), settings.app_port)
            };
            let targets = containers.iter().map(target).collect();
            let (settings, files) = ((**settings).clone(), files.clone());
            let route = Route { targets, settings, files, kamal_flags: Vec::new(), stored: None };
            routes(seen)
                .entry(service.clone())
                .and_modify(|known| known.route = route.clone())
                .or_insert(ObservedRoute { route, gate: Gate::Open, certificates: Vec::new(), canary: None });
        }
        Action::SetGate { service, gate, .. } => {
            routes(seen).get_mut(service).expect("a route").gate = gate.clone();
        }
        Action::RemoveTarget { service, .. } => {
            if let ObservedProxy::Running { routes, .. } = &mut seen.proxy {
                routes.remove(service);
            }
        }
        other => panic!("{other} is no matter of the proxy"),
    }
}

fn routes(seen: &mut ObservedHost) -> &mut BTreeMap<ProxyServiceName, ObservedRoute> {
    let ObservedProxy::Running { routes, .. } = &mut seen.proxy else { panic!("there is no proxy") };
    routes
}

fn start(request: &ContainerRequest, seen: &mut ObservedHost) {
    assert!(container(seen, &request.name).is_none(), "the name {} is free", request.name);
    let made = seen.containers.first().map_or(0, |newest| newest.created_seconds) + 1;
    seen.containers.insert(
        0,
        ObservedContainer {
            id: format!("{made:012x}{:052x}", 0),
            name: request.name.clone(),
            role: RoleName::parse(request.labels["role"].clone()).ok(),
            destination: request.labels["destination"].clone(),
            image: request.image.to_string(),
            image_id: format!("sha256:{}", request.image),
            release: serde_json::from_value(request.labels[RELEASE_LABEL].clone().into()).ok(),
            state: ContainerState::Running,
            created_seconds: made,
        },
    );
}

fn container<'a>(seen: &'a mut ObservedHost, name: &ContainerName) -> Option<&'a mut ObservedContainer> {
    seen.containers.iter_mut().find(|container| container.name == *name)
}

fn fresh_proxy() -> ObservedProxy {
    let routes = std::collections::BTreeMap::new();
    ObservedProxy::Running {
        image: "freehold:1".to_owned(),
        maker: ProxyMaker::Freehold,
        is_outdated: false,
        routes,
    }
}

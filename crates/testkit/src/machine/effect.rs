use freehold_fleet::{Explanation, HostError, Outcome, StepError};
use freehold_model::{
    ContainerName, ImageReference, ProxyServiceName, ProxySettings, Release, ReleaseId, RemoteImage, Tag,
};
use freehold_plan::{
    Action, AssetBridge, BuildPlaceName, ContainerRequest, Gate, ObservedCanary, ObservedSide, ProxyFiles,
    Route, Step,
};

use crate::machine::{FakeContainer, Machine, State};

impl Machine {
    /// Does a step unless the client is outdated, and looks at the traffic afterwards.
    pub(crate) fn perform(&self, step: &Step, fence: u64) -> Result<Outcome, StepError> {
        let mut state = self.state.lock();
        self.check_fence(&state, fence)?;
        let outcome = self.act(&mut state, &step.action)?;
        if matches!(outcome, Outcome::Done(_)) {
            state.effects.push((fence, step.action.to_string()));
        }
        state.look_at_traffic(&step.action.to_string());
        Ok(outcome)
    }

    pub(super) fn refused(&self, operation: impl ToString, message: &str) -> HostError {
        HostError::Refused {
            host: self.name.clone(),
            operation: operation.to_string(),
            message: message.to_owned(),
        }
    }

    fn act(&self, state: &mut State, action: &Action) -> Result<Outcome, StepError> {
        match action {
            Action::BuildImage { image, place } => {
                if *place == BuildPlaceName::Host(self.name.clone()) {
                    state.images.insert(image.clone(), format!("sha256:{image}"));
                }
                Ok(Outcome::Done(None))
            }
            Action::CheckRegistry { .. }
            | Action::VerifyImage { .. }
            | Action::ScanImage { .. }
            | Action::RemoveUnnamedImages { .. } => Ok(Outcome::AlreadyDone),
            Action::PushImage { image, .. } => Ok(changed(state.pushed.insert(image.clone()))),
            Action::BridgeAssets(bridge) => Ok(state.bridge_assets(bridge)),
            Action::WriteErrorPages { directory, .. }
            | Action::WriteCertificate { directory, .. }
            | Action::WriteUsers { directory, .. } => {
                Ok(changed(state.directories.insert(directory.clone())))
            }
            Action::RunReleaseCommand(command) => self.run_release_command(state, &command.container),
            Action::DeliverImage { image, .. } | Action::PullImage { image, .. } => {
                Ok(changed(state.images.insert(image.clone(), format!("sha256:{image}")).is_none()))
            }
            Action::PrepareHost { directories, .. } => {
                let is_new = !state.has_network;
                state.has_network = true;
                state.directories.extend(directories.iter().cloned());
                Ok(changed(is_new))
            }
            Action::PullAccessoryImage { image, .. } => Ok(state.pull(image)),
            Action::PlaceFiles { .. } | Action::UpgradeProxy { .. } => Ok(Outcome::Done(None)),
            Action::EnsureProxy { .. }
            | Action::DeliverProxyImage
            | Action::PullProxyImage { .. }
            | Action::StartStandIn { .. }
            | Action::DivertPorts { .. }
            | Action::ReleasePorts
            | Action::SetProxyAside { .. }
            | Action::BringProxyBack { .. }
            | Action::StartProxy { .. }
            | Action::RemoveStandIn
            | Action::RemoveProxyImages
            | Action::RemoveProxyIfUnused => Ok(state.exchange_proxy(action)),
            Action::RenameContainer { from, to } => self.rename(state, from, to),
            Action::StartContainer(request) => self.start(state, request),
            Action::StartAgain { container, .. } => self.start_again(state, container),
            Action::AwaitHealthy { container, .. } => self.await_healthy(state, container),
            Action::SwitchTarget { service, containers, settings, files, takes_over, .. } => {
                state.give_way(takes_over.as_ref());
                self.switch(state, service, containers, (settings, files))
            }
            Action::RemoveTarget { service, .. } => {
                Ok(changed(state.proxy.as_mut().is_some_and(|routes| routes.remove(service).is_some())))
            }
            Action::SetGate { service, gate, .. } => self.set_gate(state, action, (service, gate)),
            Action::EnsureAgent
            | Action::StoreSchedule(_)
            | Action::SwitchSchedule { .. }
            | Action::ForgetSchedules { .. }
            | Action::RemoveSchedule { .. }
            | Action::RemoveAgentIfUnused => self.schedule(state, action),
            Action::Soak { containers, .. } => self.soak(state, containers),
            Action::StopContainer { container, .. } => Ok(changed(state.stop(container))),
            Action::RecordRelease { release, latest } => Ok(state.record(release, latest)),
            Action::RecordCanary { .. }
            | Action::StartCanary { .. }
            | Action::EndCanary { .. }
            | Action::ForgetCanary => self.try_release(state, action),
            Action::RemoveContainer { container } => self.remove_container(state, container),
            Action::RemoveImage { image } => self.remove_image(state, image),
            Action::ForgetReleases { releases } => Ok(state.forget(releases)),
            Action::RemoveDirectories { directories } => Ok(state.remove_directories(directories)),
            Action::WriteEnvironmentFile { .. } => Ok(Outcome::Done(None)),
            Action::Wait { .. } => Ok(Outcome::AlreadyDone),
        }
    }

    fn set_gate(
        &self,
        state: &mut State,
        action: &Action,
        (service, gate): (&ProxyServiceName, &Gate),
    ) -> Result<Outcome, StepError> {
        if !state.proxy.as_ref().is_some_and(|routes| routes.contains_key(service)) {
            return Err(self.refused(action, "the proxy does not serve it").into());
        }
        let before = state.gates.insert(service.clone(), gate.clone()).unwrap_or_default();
        Ok(changed(before != *gate))
    }

    fn rename(
        &self,
        state: &mut State,
        from: &ContainerName,
        to: &ContainerName,
    ) -> Result<Outcome, StepError> {
        if state.container(to).is_some() {
            return match state.container(from) {
                Some(_) => Err(self.refused(format!("rename {from}"), "the name is taken").into()),
                None => Ok(Outcome::AlreadyDone),
            };
        }
        match state.container(from) {
            Some(container) => {
                container.name = to.clone();
                Ok(Outcome::Done(None))
            }
            None => Err(self.refused(format!("rename {from}"), "no such container").into()),
        }
    }

    fn start(&self, state: &mut State, request: &ContainerRequest) -> Result<Outcome, StepError> {
        let image = state.images.keys().find(|image| RemoteImage::from((*image).clone()) == request.image);
        let Some(image) = image.cloned() else {
            return Err(self.refused(format!("start {}", request.name), "no such image").into());
        };
        if state.container(&request.name).is_some() {
            return self.start_again(state, &request.name);
        }
        state.made += 1;
        let made = state.made;
        state.containers.push(FakeContainer {
            id: format!("{made:012x}{:052x}", 0),
            name: request.name.clone(),
            image,
            labels: request.labels.clone(),
            is_running: true,
            is_healthy: false,
            made,
        });
        Ok(Outcome::Done(None))
    }

    /// Its container stays until it is removed, and fails for a version that is spoilt.
    fn run_release_command(
        &self,
        state: &mut State,
        request: &ContainerRequest,
    ) -> Result<Outcome, StepError> {
        if state.container(&request.name).is_some() {
            return Ok(Outcome::AlreadyDone);
        }
        if request.image.tag.as_ref().is_some_and(|tag| state.spoilt_commands.contains(tag.as_str())) {
            return Err(StepError::ReleaseCommand(Box::new(
                self.explanation(&request.name, "ended with code 1"),
            )));
        }
        self.start(state, request)?;
        if let Some(container) = state.container(&request.name) {
            container.is_running = false;
        }
        Ok(Outcome::Done(None))
    }

    fn start_again(&self, state: &mut State, name: &ContainerName) -> Result<Outcome, StepError> {
        match state.container(name) {
            Some(container) if container.is_running => Ok(Outcome::AlreadyDone),
            Some(container) => {
                container.is_running = true;
                Ok(Outcome::Done(None))
            }
            None => Err(self.refused(format!("start {name}"), "no such container").into()),
        }
    }

    fn await_healthy(&self, state: &mut State, name: &ContainerName) -> Result<Outcome, StepError> {
        let spoilt = state.spoilt.clone();
        match state.container(name) {
            Some(container) if container.is_running && !spoilt.contains(container.image.tag.as_str()) => {
                container.is_healthy = true;
                Ok(Outcome::AlreadyDone)
            }
            _ => Err(self.unhealthy(name, "exited with code 1")),
        }
    }

    fn unhealthy(&self, name: &ContainerName, what: &str) -> StepError {
        StepError::Unhealthy(Box::new(self.explanation(name, what)))
    }

    fn explanation(&self, name: &ContainerName, what: &str) -> Explanation {
        Explanation {
            host: self.name.clone(),
            container: name.to_string(),
            summary: format!("container `{name}` on host `{}` {what}", self.name),
            evidence: Vec::new(),
            log: vec!["boom".to_owned()],
            help: vec![format!("see `freehold app logs` on {}", self.name)],
        }
    }

    fn switch(
        &self,
        state: &mut State,
        service: &ProxyServiceName,
        names: &[ContainerName],
        (settings, files): (&ProxySettings, &ProxyFiles),
    ) -> Result<Outcome, StepError> {
        let mut targets = Vec::new();
        for name in names {
            let Some(id) = state.container(name).map(|container| container.id.clone()) else {
                return Err(self.refused(format!("switch {service}"), "no such container").into());
            };
            targets.push(format!("{}:{}", id.chars().take(12).collect::<String>(), settings.app_port));
        }
        let (settings, files) = (settings.clone(), files.clone());
        let route = Route { targets, settings, files, kamal_flags: Vec::new(), stored: None };
        let Some(routes) = &mut state.proxy else {
            return Err(self.refused(format!("switch {service}"), "there is no proxy").into());
        };
        Ok(changed(routes.insert(service.clone(), route.clone()) != Some(route)))
    }

    fn try_release(&self, state: &mut State, action: &Action) -> Result<Outcome, StepError> {
        match action {
            Action::RecordCanary { release } => {
                Ok(changed(state.canary.replace((**release).clone()).as_ref() != Some(release)))
            }
            Action::StartCanary { service, containers, port, canary, .. } => {
                self.start_canary(state, (service, canary.percent), (containers, *port))
            }
            Action::EndCanary { service, .. } => Ok(changed(state.tried.remove(service).is_some())),
            Action::ForgetCanary => Ok(changed(state.canary.take().is_some())),
            _ => Ok(Outcome::AlreadyDone),
        }
    }

    fn start_canary(
        &self,
        state: &mut State,
        (service, percent): (&ProxyServiceName, u8),
        (names, port): (&[ContainerName], u16),
    ) -> Result<Outcome, StepError> {
        let mut targets = Vec::new();
        for name in names {
            let Some(id) = state.container(name).map(|container| container.id.clone()) else {
                return Err(self.refused(format!("try {service}"), "no such container").into());
            };
            targets.push(format!("{}:{port}", id.chars().take(12).collect::<String>()));
        }
        let tried = ObservedCanary {
            healthy: targets.len(),
            targets,
            percent: Some(percent),
            verdict: None,
            all: ObservedSide::default(),
        };
        Ok(changed(state.tried.insert(service.clone(), tried.clone()) != Some(tried)))
    }

    fn soak(
        &self,
        state: &mut State,
        containers: &[(ContainerName, Option<ProxyServiceName>)],
    ) -> Result<Outcome, StepError> {
        for (name, _) in containers {
            if !state.container(name).is_some_and(|container| container.is_running) {
                return Err(self.unhealthy(name, "ended while it was watched"));
            }
        }
        Ok(Outcome::AlreadyDone)
    }

    fn remove_container(&self, state: &mut State, name: &ContainerName) -> Result<Outcome, StepError> {
        match state.container(name) {
            Some(container) if container.is_running => {
                Err(self.refused(format!("remove {name}"), "it runs").into())
            }
            Some(_) => {
                state.containers.retain(|container| container.name != *name);
                Ok(Outcome::Done(None))
            }
            None => Ok(Outcome::AlreadyDone),
        }
    }

    fn remove_image(&self, state: &mut State, image: &ImageReference) -> Result<Outcome, StepError> {
        if state.containers.iter().any(|container| container.image == *image) {
            return Err(self.refused(format!("remove image {image}"), "a container was made from it").into());
        }
        Ok(changed(state.images.remove(image).is_some()))
    }
}

pub(super) fn changed(is_changed: bool) -> Outcome {
    if is_changed { Outcome::Done(None) } else { Outcome::AlreadyDone }
}

impl State {
    /// Takes the service out whose place another one takes.
    fn give_way(&mut self, former: Option<&ProxyServiceName>) {
        if let (Some(routes), Some(former)) = (&mut self.proxy, former) {
            routes.remove(former);
        }
    }

    /// Says whether there was a container to stop.
    fn stop(&mut self, name: &ContainerName) -> bool {
        let Some(container) = self.container(name).filter(|container| container.is_running) else {
            return false;
        };
        container.is_running = false;
        container.is_healthy = false;
        true
    }

    /// Does what is done to the proxy's container itself.
    fn exchange_proxy(&mut self, action: &Action) -> Outcome {
        match action {
            Action::EnsureProxy { .. } => {
                let is_new = self.proxy.is_none();
                self.proxy.get_or_insert_default();
                self.proxy_maker.get_or_insert_default();
                changed(is_new)
            }
            Action::DeliverProxyImage | Action::PullProxyImage { .. } | Action::RemoveProxyImages => {
                Outcome::Done(None)
            }
            Action::StartStandIn { .. } => changed(!std::mem::replace(&mut self.stands_in, true)),
            Action::DivertPorts { .. } => changed(!std::mem::replace(&mut self.is_diverted, true)),
            Action::ReleasePorts => changed(std::mem::replace(&mut self.is_diverted, false)),
            Action::SetProxyAside { name, .. } => changed(self.set_proxy_aside(name)),
            Action::BringProxyBack { name } => changed(self.bring_proxy_back(name)),
            Action::StartProxy { maker, .. } => {
                let is_new = self.proxy_maker.is_none();
                self.proxy_maker.get_or_insert(*maker);
                self.proxy.get_or_insert_default();
                changed(is_new)
            }
            Action::RemoveStandIn => changed(std::mem::replace(&mut self.stands_in, false)),
            Action::RemoveProxyIfUnused => {
                let is_unused = self.proxy.as_ref().is_some_and(|routes| routes.is_empty());
                if is_unused {
                    self.proxy = None;
                    self.proxy_maker = None;
                }
                changed(is_unused)
            }
            _ => Outcome::AlreadyDone,
        }
    }

    pub(super) fn container(&mut self, name: &ContainerName) -> Option<&mut FakeContainer> {
        self.containers.iter_mut().find(|container| container.name == *name)
    }

    fn record(&mut self, release: &Release, latest: &ImageReference) -> Outcome {
        if let Some(id) = self.images.get(&release.image).cloned() {
            self.images.insert(latest.clone(), id);
        }
        if self.releases.iter().any(|known| known.id == release.id) {
            return Outcome::AlreadyDone;
        }
        self.releases.insert(0, release.clone());
        self.releases.sort_by(|one, other| other.id.cmp(&one.id));
        Outcome::Done(None)
    }

    fn forget(&mut self, releases: &[ReleaseId]) -> Outcome {
        let before = self.releases.len();
        self.releases.retain(|release| !releases.contains(&release.id));
        changed(self.releases.len() < before)
    }

    fn remove_directories(&mut self, directories: &[String]) -> Outcome {
        let before = self.directories.len();
        self.directories.retain(|directory| !directories.contains(directory));
        if directories.iter().any(|path| path.ends_with("/releases")) {
            self.releases.clear();
        }
        let states = ".kamal/freehold/apps/";
        if directories.iter().any(|path| path.strip_prefix(states).is_some_and(|stem| !stem.contains('/'))) {
            self.journal = None;
        }
        changed(self.directories.len() < before)
    }

    pub(super) fn set_proxy_aside(&mut self, name: &ContainerName) -> bool {
        let maker = self.proxy_maker.take();
        if let Some(maker) = maker {
            self.aside.insert(name.clone(), maker);
        }
        maker.is_some()
    }

    pub(super) fn bring_proxy_back(&mut self, name: &ContainerName) -> bool {
        let maker = self.aside.remove(name);
        if maker.is_some() {
            self.proxy_maker = maker;
        }
        maker.is_some()
    }

    /// The oracle: every route must lead to a container that runs and is healthy.
    pub(super) fn look_at_traffic(&mut self, after: &str) {
        let mut seen = Vec::new();
        let is_answered = if self.is_diverted { self.stands_in } else { self.proxy_maker.is_some() };
        if self.proxy.is_some() && !is_answered {
            seen.push(format!("nobody listens on the proxy's ports after `{after}`"));
        }
        let routed = self.proxy.iter().flatten().map(|(service, route)| (service, &route.targets));
        for (service, targets) in routed.chain(self.tried.iter().map(|(service, it)| (service, &it.targets)))
        {
            for target in targets {
                let id = target.split(':').next().unwrap_or_default();
                let serves = self.containers.iter().any(|container| {
                    container.id.starts_with(id) && container.is_running && container.is_healthy
                });
                if !serves {
                    seen.push(format!("{service} leads to {target}, which does not serve, after `{after}`"));
                }
            }
        }
        self.outages.extend(seen);
    }
}

impl State {
    fn bridge_assets(&mut self, bridge: &AssetBridge) -> Outcome {
        let made = ["extracted", "volumes"].map(|kind| format!("{}/{kind}/{}", bridge.directory, bridge.new));
        let made = made.into_iter().map(|made| self.directories.insert(made));
        changed(made.fold(false, |before, is_new| before | is_new))
    }

    fn pull(&mut self, image: &RemoteImage) -> Outcome {
        let tag = image.tag.clone().or_else(|| Tag::parse("latest").ok());
        let Some(tag) = tag else { return Outcome::AlreadyDone };
        let image = ImageReference { repository: image.repository.clone(), tag };
        changed(self.images.insert(image.clone(), format!("sha256:{image}")).is_none())
    }
}

use std::time::Duration;

use freehold_docker::Untagged;
use freehold_model::{
    CertificateAuthority, ContainerName, ImageReference, ProxyServiceName, ProxySettings, Release, ReleaseId,
    ServiceName, Tls,
};
use freehold_plan::{
    APPS_CONFIG, APPS_CONFIG_IN_PROXY, Action, Gate, ProxyFiles, ProxyMaker, Readiness, Route, Step, Undo,
};
use freehold_wire::FleetKey;

use crate::engine_host::kamal_proxy::KamalSwitch;
use crate::engine_host::proxy::{Earlier, Handover, status};
use crate::engine_host::staging::TRANSFERS;
use crate::engine_host::{EngineHost, neighbour_scripts, scripts};
use crate::host::{HostError, Outcome, StepContext, StepError};

fn done_if(is_done: bool) -> Outcome {
    if is_done { Outcome::Done(None) } else { Outcome::AlreadyDone }
}

impl EngineHost {
    pub(super) async fn do_step(&self, step: &Step, context: &StepContext<'_>) -> Result<Outcome, StepError> {
        match &step.action {
            Action::BuildImage { image, place } => self.workshop.build(image, place, &context.work()).await,
            Action::DeliverImage { .. } => self.deliver_image(&step.action, context).await,
            Action::PrepareHost { directories, network } => self.prepare(directories, network, context).await,
            Action::PullAccessoryImage { accessory, image, age } => {
                self.pull_accessory_image(accessory, image, *age, context).await
            }
            Action::PlaceFiles { files, directories, .. } => {
                self.place_files(files, directories, context).await
            }
            Action::EnsureProxy { run, network } => self.ensure_proxy(run, network, context).await,
            Action::UpgradeProxy { drain } => self.upgrade_proxy(*drain, context).await,
            Action::DeliverProxyImage => self.bring_proxy_image(context).await,
            Action::PullProxyImage { image } => self.pull_proxy_image(image, context).await,
            Action::StartStandIn { run, network } => self.start_stand_in(run, network, context).await,
            Action::DivertPorts { network } => self.divert_ports(network).await,
            Action::ReleasePorts => self.release_ports().await,
            Action::SetProxyAside { name, drain } => self.set_proxy_aside(name, *drain, context).await,
            Action::StartProxy { maker, run, network } => {
                self.start_proxy((*maker, run, network), context).await
            }
            Action::BringProxyBack { name } => self.bring_proxy_back(name).await,
            Action::RemoveStandIn => self.remove_stand_in().await,
            Action::RemoveProxyImages => self.remove_proxy_images().await,
            Action::RenameContainer { from, to } => self.rename(from, to).await,
            Action::StartContainer(request) => self.start_new(request, context).await,
            Action::StartAgain { container, .. } => self.start_again(container).await,
            Action::AwaitHealthy { subject, container, readiness } => {
                self.await_healthy(subject, container, readiness, context).await
            }
            Action::CheckRegistry { .. }
            | Action::VerifyImage { .. }
            | Action::ScanImage { .. }
            | Action::PushImage { .. } => self.before_hosts(&step.action, context).await,
            Action::PullImage { image, origin, service } => {
                self.pull(image, origin, service.as_ref(), &context.work()).await
            }
            Action::BridgeAssets(bridge) => self.bridge_assets(bridge, context).await,
            Action::WriteErrorPages { directory, pages } => {
                self.write_error_pages(directory, pages, context).await
            }
            Action::WriteCertificate { directory, certificate, private_key, .. } => {
                self.write_certificate(directory, (certificate, private_key), context).await
            }
            Action::WriteUsers { directory, users, .. } => self.write_users(directory, users, context).await,
            Action::RunReleaseCommand(command) => self.run_release_command(command, context).await,
            Action::SwitchTarget { .. } => self.switch_target(&step.action, context).await,
            Action::RemoveTarget { service, proxy } => self.remove_target(service, *proxy, context).await,
            Action::SetGate { service, gate, drain, proxy } => {
                self.move_gate((service, *proxy), gate, *drain, context).await
            }
            Action::EnsureAgent
            | Action::StoreSchedule(_)
            | Action::SwitchSchedule { .. }
            | Action::ForgetSchedules { .. }
            | Action::RemoveSchedule { .. }
            | Action::RemoveAgentIfUnused => self.schedule(&step.action, context).await,
            Action::Soak { containers, duration } => self.soak(containers, *duration, context).await,
            Action::StopContainer { container, drain, timeout, .. } => {
                self.drain_and_stop(container, drain.as_ref(), *timeout, context).await
            }
            Action::WriteEnvironmentFile { path, environment, .. } => {
                self.write_environment(path, environment, context).await
            }
            Action::RecordRelease { release, latest } => self.record(release, latest, context).await,
            Action::RecordCanary { .. }
            | Action::StartCanary { .. }
            | Action::EndCanary { .. }
            | Action::ForgetCanary => self.try_release(&step.action, context).await,
            Action::RemoveContainer { container } => self.remove_container(container).await,
            Action::RemoveImage { image } => self.remove_image(image).await,
            Action::RemoveUnnamedImages { service } => self.remove_unnamed_images(service).await,
            Action::ForgetReleases { releases } => self.forget(releases, context).await,
            Action::RemoveProxyIfUnused => Ok(done_if(self.remove_unused_proxy().await?)),
            Action::RemoveDirectories { directories } => self.remove_stored(directories).await,
            Action::Wait { duration } => pause(*duration, context).await,
        }
    }

    async fn move_gate(
        &self,
        (service, proxy): (&ProxyServiceName, ProxyMaker),
        gate: &Gate,
        drain: Duration,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        match proxy {
            ProxyMaker::Freehold => self.set_gate(service, gate, drain, context.lease.fence).await,
            ProxyMaker::Kamal => self.kamal_gate(service, gate, drain).await,
        }
    }

    async fn remove_stored(&self, directories: &[String]) -> Result<Outcome, StepError> {
        let mut script = scripts::remove_directories(directories);
        for pieces in directories.iter().filter(|directory| directory.starts_with(TRANSFERS)) {
            script.push('\n');
            script.push_str(&neighbour_scripts::forget(pieces));
        }
        self.plain_script("remove stored files", &script).await?;
        Ok(Outcome::Done(None))
    }

    /// Brings an image to the host. Any other action changes nothing.
    async fn deliver_image(&self, action: &Action, context: &StepContext<'_>) -> Result<Outcome, StepError> {
        let Action::DeliverImage { image, from, together } = action else { return Ok(Outcome::AlreadyDone) };
        self.deliver(image, from, together, &context.work()).await
    }

    /// Does what is done before any host gets an image. Any other action changes nothing.
    async fn before_hosts(&self, action: &Action, context: &StepContext<'_>) -> Result<Outcome, StepError> {
        match action {
            Action::CheckRegistry { registry, place } => self.workshop.check_registry(registry, place).await,
            Action::VerifyImage { image, at } => self.workshop.verify(image, at).await,
            Action::ScanImage { image, at, scan } => {
                self.workshop.scan(image, at, scan, &context.work()).await
            }
            Action::PushImage { image, latest, from } => {
                self.workshop.push(image, latest, from, &context.work()).await
            }
            _ => Ok(Outcome::AlreadyDone),
        }
    }

    async fn bring_proxy_image(&self, context: &StepContext<'_>) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        self.deliver_proxy_image(&link, context).await?;
        Ok(Outcome::Done(None))
    }

    /// Sends the requests of a service to other containers. Any other action changes nothing.
    async fn switch_target(&self, action: &Action, context: &StepContext<'_>) -> Result<Outcome, StepError> {
        let Action::SwitchTarget {
            service,
            containers,
            settings,
            files,
            takes_over,
            drain,
            proxy,
            health_limit,
            ..
        } = action
        else {
            return Ok(Outcome::AlreadyDone);
        };
        let route = self.route_to(containers, settings, files).await?;
        let (drain, fence) = (*drain, context.lease.fence);
        match proxy {
            ProxyMaker::Freehold => {
                let fleet_key = Self::fleet_key(&route, context)?;
                let handover = Handover { drain, fence: Some(fence), earlier: Earlier::StandsBy, fleet_key };
                self.switch((service, takes_over.as_ref()), &route, handover).await?;
                Ok(Outcome::Done(self.certificate_note(service, &route).await?))
            }
            ProxyMaker::Kamal => {
                status(context, "waiting for kamal-proxy, which drains the earlier containers");
                let switch = KamalSwitch { health_limit: *health_limit, drain };
                self.kamal_switch(service, &route, switch).await?;
                Ok(Outcome::Done(None))
            }
        }
    }

    /// Returns the key of the fleet with which a route shares its certificates.
    fn fleet_key(route: &Route, context: &StepContext<'_>) -> Result<Option<FleetKey>, StepError> {
        let Tls::Automatic(CertificateAuthority { fleet: Some(fleet), .. }) = &route.settings.tls else {
            return Ok(None);
        };
        let Some(name) = &fleet.key else { return Ok(None) };
        let key = context.secrets.value(name);
        let key = key.ok_or_else(|| StepError::Secret { name: name.to_string() })?;
        Ok(Some(FleetKey::new(key.clone())))
    }

    async fn remove_target(
        &self,
        service: &ProxyServiceName,
        proxy: ProxyMaker,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        Ok(done_if(match proxy {
            ProxyMaker::Freehold => self.unroute(service, context.lease.fence).await?,
            ProxyMaker::Kamal => self.kamal_unroute(service).await?,
        }))
    }

    async fn drain_and_stop(
        &self,
        container: &ContainerName,
        drain: Option<&(ProxyServiceName, Duration)>,
        timeout: Option<Duration>,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let note = match drain {
            Some((service, limit)) => {
                self.confirm(service, *limit, context.lease.fence).await?;
                self.drain_note(service, *limit).await?
            }
            None => None,
        };
        match self.stop(container, timeout).await? {
            Outcome::Done(_) => Ok(Outcome::Done(note)),
            Outcome::AlreadyDone => Ok(Outcome::AlreadyDone),
        }
    }

    async fn forget(&self, releases: &[ReleaseId], context: &StepContext<'_>) -> Result<Outcome, StepError> {
        let ids: Vec<String> = releases.iter().map(ToString::to_string).collect();
        let script = scripts::forget_releases(context.lease, &ids);
        self.fenced_script("forget old releases", &script).await?;
        Ok(Outcome::Done(None))
    }

    pub(super) async fn undo_step(&self, step: &Step, context: &StepContext<'_>) -> Result<(), StepError> {
        match &step.undo {
            Undo::Nothing | Undo::Impossible => {}
            Undo::RemoveContainer { container } => {
                // It is ours only if the step's own release made it: the name may be that of an older container still.
                if self.is_made_by(step, container).await? {
                    self.remove_container(container).await?;
                }
            }
            Undo::StopContainer { container } => drop(self.stop(container, None).await?),
            Undo::StartContainer { container } => drop(self.start_again(container).await?),
            Undo::RenameContainer { from, to } => self.rename_back(from, to).await?,
            Undo::RestoreRoute { service, previous } => {
                self.restore_route(step, service, previous.as_deref(), context).await?;
            }
            Undo::ReturnRoute { service, to, previous } => {
                let drain = restored_limits(step).0;
                let handover = Handover { drain, fence: None, earlier: Earlier::Ends, fleet_key: None };
                self.switch((to, Some(service)), previous, handover).await?;
                // The next step back removes the new container: what it is answering must end first.
                self.drain(to, drain).await?;
            }
            Undo::EndCanary { .. } | Undo::ForgetCanary => self.undo_try(step, context).await?,
            Undo::RemoveStandIn => drop(self.remove_stand_in().await?),
            Undo::ReleasePorts => drop(self.release_ports().await?),
            Undo::DivertPorts { network } => drop(self.divert_ports(network).await?),
            Undo::RemoveProxy => self.remove_proxy().await?,
            Undo::BringProxyBack { name } => drop(self.bring_proxy_back(name).await?),
            Undo::SetProxyAside { name } => {
                drop(self.set_proxy_aside(name, Duration::from_secs(10), context).await?);
            }
            Undo::RestoreGate { service, previous } => match proxy_of(step) {
                ProxyMaker::Freehold => {
                    self.set_gate(service, previous, Duration::ZERO, context.lease.fence).await?;
                }
                ProxyMaker::Kamal => drop(self.kamal_gate(service, previous, Duration::ZERO).await?),
            },
            Undo::RemoveDirectories { directories } => self.remove_directories(directories, context).await?,
            Undo::ForgetSchedule { name, release } => {
                self.forget_schedules(name, std::slice::from_ref(release), context).await?;
            }
            Undo::RevertSchedule { name, from } => self.revert_schedule(name, from, context).await?,
            Undo::RemoveAgentIfUnused => drop(self.remove_unused_agent().await?),
            Undo::RestoreCertificate { directory } => self.restore_certificate(directory, context).await?,
            Undo::RestoreUsers { directory } => self.restore_users(directory, context).await?,
        }
        Ok(())
    }

    async fn restore_route(
        &self,
        step: &Step,
        service: &ProxyServiceName,
        previous: Option<&Route>,
        context: &StepContext<'_>,
    ) -> Result<(), StepError> {
        // The earlier route needs its certificate, which a step before this one may have replaced, perhaps by one that
        // cannot be used.
        let certificate = previous.and_then(|route| route.files.certificate.as_deref());
        if let Some(directory) = certificate.and_then(on_host) {
            self.restore_certificate(&directory, context).await?;
        }
        let users = previous.and_then(|route| route.files.users.as_deref());
        if let Some(directory) = users.and_then(on_host) {
            self.restore_users(&directory, context).await?;
        }
        let fence = context.lease.fence;
        let (drain, health_limit) = restored_limits(step);
        match (proxy_of(step), previous) {
            (ProxyMaker::Freehold, Some(route)) => {
                let handover =
                    Handover { drain, fence: Some(fence), earlier: Earlier::Ends, fleet_key: None };
                self.switch((service, None), route, handover).await?;
                // The next step back removes the new container: what it is answering must end first.
                self.drain(service, drain).await?;
            }
            (ProxyMaker::Freehold, None) => drop(self.unroute(service, fence).await?),
            (ProxyMaker::Kamal, Some(route)) => {
                self.kamal_switch(service, route, KamalSwitch { health_limit, drain }).await?;
            }
            (ProxyMaker::Kamal, None) => drop(self.kamal_unroute(service).await?),
        }
        Ok(())
    }

    async fn is_made_by(&self, step: &Step, container: &ContainerName) -> Result<bool, StepError> {
        let request = match &step.action {
            Action::StartContainer(request) => request,
            Action::RunReleaseCommand(command) => &command.container,
            _ => return Ok(true),
        };
        let link = self.link().await?;
        let details = link
            .engine
            .inspect_container(container.as_str())
            .await
            .map_err(|error| self.engine_error("look at the container", error))?;
        let name = freehold_plan::RELEASE_LABEL;
        Ok(details.is_some_and(|details| details.labels.get(name) == request.labels.get(name)))
    }

    async fn rename_back(&self, from: &ContainerName, to: &ContainerName) -> Result<(), StepError> {
        let link = self.link().await?;
        let there = link
            .engine
            .inspect_container(from.as_str())
            .await
            .map_err(|error| self.engine_error("look at the container", error))?;
        if there.is_some() {
            self.rename(from, to).await?;
        }
        Ok(())
    }

    async fn prepare(
        &self,
        directories: &[String],
        network: &str,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let script = scripts::make_directories(context.lease, directories);
        let (folders, network) =
            tokio::join!(self.fenced_script("make folders", &script), link.engine.ensure_network(network));
        folders?;
        network.map_err(|error| self.engine_error("make the network", error))?;
        Ok(Outcome::Done(None))
    }

    /// Returns the route to containers: their identifiers, which the engine's name service knows on its networks.
    pub(super) async fn route_to(
        &self,
        containers: &[ContainerName],
        settings: &ProxySettings,
        files: &ProxyFiles,
    ) -> Result<Route, StepError> {
        let mut targets = Vec::new();
        for container in containers {
            targets.push(self.target(container, settings.app_port).await?);
        }
        let (settings, files) = (settings.clone(), files.clone());
        Ok(Route { targets, settings, files, kamal_flags: Vec::new(), stored: None })
    }

    pub(super) async fn target(&self, container: &ContainerName, port: u16) -> Result<String, StepError> {
        let link = self.link().await?;
        let operation = format!("find container `{container}`");
        let details = link
            .engine
            .inspect_container(container.as_str())
            .await
            .map_err(|error| self.engine_error(&operation, error))?
            .ok_or_else(|| HostError::Refused {
                host: self.name.clone(),
                operation,
                message: "there is no such container".to_owned(),
            })?;
        Ok(format!("{}:{port}", details.id.short()))
    }

    async fn drain_note(
        &self,
        service: &freehold_model::ProxyServiceName,
        limit: Duration,
    ) -> Result<Option<String>, StepError> {
        let report = self.drain(service, limit).await?;
        Ok(report.filter(|report| report.requests_left + report.tunnels_left > 0).map(|report| {
            format!("cut {} requests and {} tunnels", report.requests_left, report.tunnels_left)
        }))
    }

    async fn record(
        &self,
        release: &Release,
        latest: &ImageReference,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let json = serde_json::to_string(release).map_err(|error| HostError::Stored {
            host: self.name.clone(),
            path: "release".to_owned(),
            message: error.to_string(),
        })?;
        let script = scripts::write_release(context.lease, release.id.as_str(), &json);
        self.fenced_script("store the release", &script).await?;
        link.engine
            .tag_image(&release.image.to_string(), latest)
            .await
            .map_err(|error| self.engine_error("tag the latest image", error))?;
        Ok(Outcome::Done(None))
    }

    async fn remove_unnamed_images(&self, service: &ServiceName) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let pruned = link.engine.prune_dangling_images(&format!("service={service}")).await;
        let pruned = pruned.map_err(|error| self.engine_error("remove images without a name", error))?;
        Ok(done_if(pruned.images > 0))
    }

    async fn remove_image(&self, image: &ImageReference) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let removed = link
            .engine
            .remove_image(&image.to_string())
            .await
            .map_err(|error| self.engine_error(&format!("remove image `{image}`"), error))?;
        Ok(match removed {
            Untagged::Untagged => Outcome::Done(None),
            Untagged::AlreadyGone => Outcome::AlreadyDone,
            Untagged::InUse => Outcome::Done(Some("left: a container that is not ours uses it".to_owned())),
        })
    }
}

/// How long requests may take that a step's new targets answer, and how long earlier ones may take to be healthy again.
fn restored_limits(step: &Step) -> (Duration, Duration) {
    match &step.action {
        Action::SwitchTarget { drain, health_limit, .. } => (*drain, *health_limit),
        _ => (Duration::from_secs(30), Duration::from_secs(30)),
    }
}

/// Whose proxy a step is about.
fn proxy_of(step: &Step) -> ProxyMaker {
    match &step.action {
        Action::SwitchTarget { proxy, .. }
        | Action::SetGate { proxy, .. }
        | Action::RemoveTarget { proxy, .. }
        | Action::AwaitHealthy { readiness: Readiness::Answers { proxy, .. }, .. } => *proxy,
        _ => ProxyMaker::Freehold,
    }
}

/// Returns a folder that the proxy reads as it is called on the host, relative to the login directory.
fn on_host(inside: &str) -> Option<String> {
    Some(format!("{APPS_CONFIG}{}", inside.strip_prefix(APPS_CONFIG_IN_PROXY)?))
}

async fn pause(duration: Duration, context: &StepContext<'_>) -> Result<Outcome, StepError> {
    tokio::select! {
        () = tokio::time::sleep(duration) => Ok(Outcome::Done(None)),
        () = context.stop.cancelled() => Err(StepError::Stopped),
    }
}

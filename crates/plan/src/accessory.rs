use std::collections::BTreeMap;
use std::time::Duration;

use freehold_model::{
    Accessory, AccessoryName, ContainerName, EnvName, Environment, HostName, ImageReference, InvalidName,
    Project, ProxyServiceName, ProxySettings, ReleaseId, Tag,
};
use serde::{Deserialize, Serialize};

use crate::kamal_proxy::undo_waiting;
use crate::naming::{NETWORK, RELEASE_LABEL, accessory_folders, hex_digits, state_directory};
use crate::observed::{ContainerState, ProxyMaker, Route};
use crate::peer::introduce;
use crate::plan::{Action, OnFailure, Plan, PlanKind, StageKind, Undo};
use crate::request::{
    ContainerRequest, ImageAge, PlacedDirectory, PlacedFile, ProxyFiles, Readiness, Subject,
};
use crate::rollout::{
    certificate_inside_proxy, kept_folders, users_inside_proxy, write_certificate, write_users,
};
use crate::stages::Stages;

mod error;
mod step;

pub use error::AccessoryError;
pub use step::AccessoryStep;

/// The label that says from which configuration an accessory's container was made.
pub const CONFIGURATION_LABEL: &str = "freehold.configuration";

/// How long an accessory whose image has no health check must keep running to count as healthy.
const SETTLING: Duration = Duration::from_secs(2);

/// What becomes of accessories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessoryVerb {
    /// They run; those that do already are left as they are.
    Boot,
    /// They run from the image and configuration of now. The old container comes back if the new one is not healthy.
    Reboot,
    /// Those that were stopped run again.
    Start,
    /// They are stopped and stay.
    Stop,
    /// They are stopped and started.
    Restart,
    /// Their containers, images, files and directories are removed.
    Remove,
    /// One step of the others, alone.
    Only(AccessoryStep),
}

/// The containers of accessories, as they were seen.
pub type ObservedAccessories = BTreeMap<HostName, BTreeMap<AccessoryName, ObservedAccessory>>;

/// The container of an accessory on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedAccessory {
    /// Its identifier, 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: ContainerName,
    /// The image it was created from, as it was written then.
    pub image: String,
    /// Its state.
    pub state: ContainerState,
    /// The configuration in its label; none for one that Kamal made.
    pub configuration: Option<String>,
    /// Its route in the proxy.
    pub route: Option<Route>,
}

/// What an operation on accessories is asked to do.
#[derive(Debug, Clone)]
pub struct AccessoryRequest<'a> {
    /// The project.
    pub project: &'a Project,
    /// The accessories, with the hosts of each that it is about.
    pub accessories: Vec<(&'a Accessory, Vec<HostName>)>,
    /// What becomes of them.
    pub verb: AccessoryVerb,
    /// The identifier of the operation.
    pub id: ReleaseId,
    /// Random bytes from which names are drawn.
    pub random: [u8; 16],
    /// Fingerprints of the local files that accessories mount, by their path on the host.
    pub files: &'a BTreeMap<String, String>,
    /// The proxies of the hosts that were seen.
    pub proxies: BTreeMap<HostName, ProxyMaker>,
}

/// Returns what the label [`CONFIGURATION_LABEL`] holds for an accessory as the deploy file has it: it changes when
/// anything changes that its container is made from, values of secrets excepted.
#[must_use]
pub fn accessory_configuration(accessory: &Accessory) -> String {
    let plain = Accessory { hosts: Vec::new(), ..accessory.clone() };
    // A value of these types always becomes JSON.
    let text = serde_json::to_string(&plain).unwrap_or_default();
    hex_digits([0; 16], &text, 16)
}

/// Plans what becomes of accessories.
///
/// # Errors
/// [`AccessoryError`] when something that is to be started or stopped is not there.
pub fn accessory(request: &AccessoryRequest<'_>, seen: &ObservedAccessories) -> Result<Plan, AccessoryError> {
    let planner = Planner { request, seen };
    if !matches!(request.verb, AccessoryVerb::Stop | AccessoryVerb::Remove) {
        planner.check_proxies()?;
    }
    let mut stages = Stages::default();
    match request.verb {
        AccessoryVerb::Boot | AccessoryVerb::Reboot => planner.boot(&mut stages)?,
        AccessoryVerb::Start => planner.start(&mut stages)?,
        AccessoryVerb::Stop => {
            stages.begin(StageKind::Retire, OnFailure::GoOn);
            planner.stop(&mut stages)?;
        }
        AccessoryVerb::Restart => {
            stages.begin(StageKind::Boot, OnFailure::PutBack);
            planner.stop(&mut stages)?;
            planner.start_again(&mut stages);
        }
        AccessoryVerb::Remove => planner.remove(&mut stages),
        AccessoryVerb::Only(step) => planner.only(step, &mut stages),
    }
    let mut hosts: Vec<HostName> = Vec::new();
    for host in request.project.all_hosts() {
        if request.accessories.iter().any(|(_, on)| on.contains(&host)) {
            hosts.push(host);
        }
    }
    Ok(Plan {
        format: Plan::FORMAT,
        id: request.id.clone(),
        kind: PlanKind::Accessory,
        service: request.project.service.clone(),
        destination: request.project.destination.clone(),
        version: None,
        hosts,
        stages: stages.finish(),
    })
}

struct Planner<'a> {
    request: &'a AccessoryRequest<'a>,
    seen: &'a ObservedAccessories,
}

impl Planner<'_> {
    fn places(&self) -> impl Iterator<Item = (&Accessory, &HostName, Option<&ObservedAccessory>)> {
        let observed = self.seen;
        self.request.accessories.iter().flat_map(move |(accessory, hosts)| {
            hosts.iter().map(move |host| {
                let seen = observed.get(host).and_then(|host| host.get(&accessory.name));
                (*accessory, host, seen)
            })
        })
    }

    fn by_host(&self) -> Vec<(&Accessory, &HostName, Option<&ObservedAccessory>)> {
        let mut places: Vec<_> = self.places().collect();
        places.sort_by_key(|(_, host, _)| *host);
        places
    }

    fn there<'s>(
        accessory: &Accessory,
        host: &HostName,
        seen: Option<&'s ObservedAccessory>,
    ) -> Result<&'s ObservedAccessory, AccessoryError> {
        let nothing = || AccessoryError::NoContainer { host: host.clone(), name: accessory.name.clone() };
        seen.ok_or_else(nothing)
    }

    fn boot(&self, stages: &mut Stages) -> Result<(), AccessoryError> {
        stages.begin(StageKind::Prepare, OnFailure::PutBack);
        for (accessory, host, _) in self.places() {
            self.prepare(stages, accessory, host);
        }
        let mut last: Option<&HostName> = None;
        for (accessory, host, seen) in self.by_host() {
            // Of several replicas of a database at least one goes on: a replacement takes host after host.
            if last.is_none() || (last != Some(host) && self.request.verb == AccessoryVerb::Reboot) {
                stages.begin(StageKind::Boot, OnFailure::PutBack);
            }
            last = Some(host);
            match seen {
                Some(seen) if self.request.verb == AccessoryVerb::Reboot => {
                    self.set_aside(stages, accessory, host, seen)?;
                    self.start_new(stages, accessory, host);
                }
                Some(seen) if seen.state.is_running() => {}
                Some(_) => Self::step_start(stages, accessory, host),
                None => self.start_new(stages, accessory, host),
            }
        }
        self.commit(stages);
        stages.begin(StageKind::Retire, OnFailure::GoOn);
        for (accessory, host, seen) in self.places() {
            if seen.is_some() && self.request.verb == AccessoryVerb::Reboot {
                let container = self.name_aside(accessory, host)?;
                stages.step(host, Action::RemoveContainer { container }, Undo::Impossible);
            }
            let Some(proxy) = &accessory.proxy else { continue };
            for directory in kept_folders(proxy, accessory_folders(self.request.project, &accessory.name)) {
                let directories = vec![format!("{directory}/before")];
                stages.step(host, Action::RemoveDirectories { directories }, Undo::Impossible);
            }
        }
        Ok(())
    }

    fn prepare(&self, stages: &mut Stages, accessory: &Accessory, host: &HostName) {
        let project = self.request.project;
        let stem = project.stem();
        let mut directories =
            vec![".kamal".to_owned(), format!(".kamal/apps/{stem}/env/accessories"), state_directory(&stem)];
        if accessory.proxy.is_some() {
            directories.push(".kamal/proxy/apps-config".to_owned());
        }
        let network = accessory.network.clone();
        stages.step(host, Action::PrepareHost { directories, network: network.clone() }, Undo::Nothing);
        let age = match self.request.verb {
            AccessoryVerb::Reboot => ImageAge::Newest,
            _ => ImageAge::Any,
        };
        let image = accessory.image.clone();
        stages.step(
            host,
            Action::PullAccessoryImage { accessory: accessory.name.clone(), image, age },
            Undo::Nothing,
        );
        let (files, directories) = self.placed(accessory);
        if !files.is_empty() || !directories.is_empty() {
            let action = Action::PlaceFiles { subject: (&accessory.name).into(), files, directories };
            stages.step(host, action, Undo::Nothing);
        }
        let action = Action::WriteEnvironmentFile {
            subject: (&accessory.name).into(),
            path: format!(".kamal/apps/{stem}/env/accessories/{}.env", accessory.name),
            environment: Environment { clear: BTreeMap::new(), secret: accessory.environment.secret.clone() },
        };
        stages.step(host, action, Undo::Nothing);
        if let Some(proxy) = &accessory.proxy {
            let action = Action::EnsureProxy { run: project.proxy_run(host), network: NETWORK.to_owned() };
            stages.step(host, action, Undo::Nothing);
            let [tls, users] = accessory_folders(project, &accessory.name);
            write_certificate(stages, host, &proxy.tls, ((&accessory.name).into(), tls));
            write_users(stages, host, proxy, ((&accessory.name).into(), users));
        }
    }

    /// Refuses what a kamal-proxy would serve as if nobody had asked for it.
    fn check_proxies(&self) -> Result<(), AccessoryError> {
        for (accessory, host, _) in self.places() {
            let key = accessory.proxy.as_ref().and_then(ProxySettings::own_proxy_only);
            if let Some(key) = key.filter(|_| self.maker(host) == ProxyMaker::Kamal) {
                let (host, name) = (host.clone(), accessory.name.clone());
                return Err(AccessoryError::OwnProxyOnly { host, name, key });
            }
        }
        Ok(())
    }

    fn maker(&self, host: &HostName) -> ProxyMaker {
        self.request.proxies.get(host).copied().unwrap_or_default()
    }

    fn placed(&self, accessory: &Accessory) -> (Vec<PlacedFile>, Vec<PlacedDirectory>) {
        let files = accessory.files.iter().map(|file| {
            let path = accessory.file_path(file);
            PlacedFile {
                fingerprint: self.request.files.get(&path).cloned().unwrap_or_default(),
                path,
                mode: file.mode,
                owner: file.owner.clone(),
            }
        });
        let directories = accessory.directories.iter().map(|directory| PlacedDirectory {
            path: accessory.directory_path(directory),
            mode: directory.mode,
            owner: directory.owner.clone(),
        });
        (files.collect(), directories.collect())
    }

    /// Stops the container that runs and gives it another name. Two containers of one accessory cannot run side by
    /// side: they share data and ports.
    fn set_aside(
        &self,
        stages: &mut Stages,
        accessory: &Accessory,
        host: &HostName,
        seen: &ObservedAccessory,
    ) -> Result<(), AccessoryError> {
        if seen.state.is_running() {
            Self::step_stop(stages, accessory, host);
        }
        let to = self.name_aside(accessory, host)?;
        let undo = Undo::RenameContainer { from: to.clone(), to: accessory.container.clone() };
        stages.step(host, Action::RenameContainer { from: accessory.container.clone(), to }, undo);
        Ok(())
    }

    fn name_aside(&self, accessory: &Accessory, host: &HostName) -> Result<ContainerName, InvalidName> {
        let name = &accessory.container;
        let digits = hex_digits(self.request.random, &format!("replaced {host} {name}"), 16);
        ContainerName::parse(format!("{name}_replaced_{digits}"))
    }

    fn start_new(&self, stages: &mut Stages, accessory: &Accessory, host: &HostName) {
        let mut labels = accessory.labels.clone();
        labels.insert("service".to_owned(), accessory.container.to_string());
        labels.insert(RELEASE_LABEL.to_owned(), self.request.id.to_string());
        labels.insert(CONFIGURATION_LABEL.to_owned(), accessory_configuration(accessory));
        let mut environment = accessory.environment.clone();
        if let Ok(name) = EnvName::parse("KAMAL_HOST") {
            environment.clear.entry(name).or_insert_with(|| host.to_string());
        }
        let mut options = accessory.options.clone();
        options.publish.extend(accessory.publish.clone());
        introduce(self.request.project, host, &accessory.network, (&mut options, &mut environment));
        let container = ContainerRequest {
            name: accessory.container.clone(),
            image: accessory.image.clone(),
            hostname: None,
            network: accessory.network.clone(),
            command: accessory.command.clone(),
            environment,
            labels,
            volumes: accessory.mounts(),
            options,
            logging: accessory.logging.clone(),
            stop_timeout: None,
        };
        let undo = Undo::RemoveContainer { container: accessory.container.clone() };
        stages.step(host, Action::StartContainer(Box::new(container)), undo);
        self.step_await(stages, accessory, host);
    }

    fn step_await(&self, stages: &mut Stages, accessory: &Accessory, host: &HostName) {
        let deadline = self.request.project.timeouts.deploy;
        let readiness = match &accessory.proxy {
            Some(proxy) => {
                let (check, maker) = (proxy.health_check.clone(), self.maker(host));
                Readiness::Answers { port: proxy.app_port, check, deadline, proxy: maker }
            }
            None => Readiness::Runs { delay: SETTLING, deadline },
        };
        let undo = undo_waiting(&accessory.container, &readiness);
        let action = Action::AwaitHealthy {
            subject: (&accessory.name).into(),
            container: accessory.container.clone(),
            readiness,
        };
        stages.step(host, action, undo);
    }

    fn step_start(stages: &mut Stages, accessory: &Accessory, host: &HostName) {
        let container = accessory.container.clone();
        let action = Action::StartAgain { subject: (&accessory.name).into(), container: container.clone() };
        stages.step(host, action, Undo::StopContainer { container });
    }

    fn step_stop(stages: &mut Stages, accessory: &Accessory, host: &HostName) {
        let container = accessory.container.clone();
        let action = Action::StopContainer {
            subject: Subject::Accessory(accessory.name.clone()),
            container: container.clone(),
            drain: None,
            timeout: None,
        };
        stages.step(host, action, Undo::StartContainer { container });
    }

    /// Sends the requests of those that the proxy serves to them.
    fn commit(&self, stages: &mut Stages) {
        stages.begin(StageKind::Commit, OnFailure::PutBack);
        for (accessory, host, seen) in self.places() {
            let (Some(settings), Some(service)) = (&accessory.proxy, proxy_service(accessory)) else {
                continue;
            };
            let previous = seen.and_then(|seen| seen.route.clone()).map(Box::new);
            let action = Action::SwitchTarget {
                subject: (&accessory.name).into(),
                service: service.clone(),
                containers: vec![accessory.container.clone()],
                settings: Box::new(settings.clone()),
                files: self.proxy_files(accessory, settings),
                takes_over: None,
                drain: self.request.project.timeouts.drain,
                proxy: self.maker(host),
                health_limit: self.maker(host).health_limit(self.request.project),
            };
            stages.step(host, action, Undo::RestoreRoute { service, previous });
        }
    }

    fn proxy_files(&self, accessory: &Accessory, settings: &ProxySettings) -> ProxyFiles {
        let [tls, users] = accessory_folders(self.request.project, &accessory.name);
        let certificate = certificate_inside_proxy(&settings.tls, &tls);
        ProxyFiles { error_pages: None, certificate, users: users_inside_proxy(settings, &users) }
    }

    fn start(&self, stages: &mut Stages) -> Result<(), AccessoryError> {
        for (accessory, host, seen) in self.places() {
            Self::there(accessory, host, seen)?;
        }
        self.start_again(stages);
        Ok(())
    }

    fn start_again(&self, stages: &mut Stages) {
        stages.begin(StageKind::Boot, OnFailure::PutBack);
        for (accessory, host, _) in self.places() {
            Self::step_start(stages, accessory, host);
            self.step_await(stages, accessory, host);
        }
        self.commit(stages);
    }

    fn stop(&self, stages: &mut Stages) -> Result<(), AccessoryError> {
        for (accessory, host, seen) in self.places() {
            let seen = Self::there(accessory, host, seen)?;
            let leaves = self.request.verb == AccessoryVerb::Stop && seen.route.is_some();
            if let Some(service) = proxy_service(accessory).filter(|_| leaves) {
                stages.step(
                    host,
                    Action::RemoveTarget { service, proxy: self.maker(host) },
                    Undo::Impossible,
                );
            }
            Self::step_stop(stages, accessory, host);
        }
        Ok(())
    }

    fn remove(&self, stages: &mut Stages) {
        let stem = self.request.project.stem();
        stages.begin(StageKind::Retire, OnFailure::GoOn);
        for (accessory, host, seen) in self.places() {
            if let Some(service) =
                proxy_service(accessory).filter(|_| seen.is_some_and(|seen| seen.route.is_some()))
            {
                stages.step(
                    host,
                    Action::RemoveTarget { service, proxy: self.maker(host) },
                    Undo::Impossible,
                );
            }
            if seen.is_some() {
                Self::step_stop(stages, accessory, host);
                let container = accessory.container.clone();
                stages.step(host, Action::RemoveContainer { container }, Undo::Impossible);
            }
            if let Some(image) = tagged(accessory) {
                stages.step(host, Action::RemoveImage { image }, Undo::Impossible);
            }
            let [tls, users] = accessory_folders(self.request.project, &accessory.name);
            let environment = format!(".kamal/apps/{stem}/env/accessories/{}.env", accessory.name);
            let directories = vec![accessory.container.to_string(), environment, tls, users];
            stages.step(host, Action::RemoveDirectories { directories }, Undo::Impossible);
        }
    }
}

/// Returns the name under which the proxy knows an accessory, if it serves it.
fn proxy_service(accessory: &Accessory) -> Option<ProxyServiceName> {
    accessory.proxy.as_ref()?;
    ProxyServiceName::parse(accessory.container.as_str()).ok()
}

/// Returns the tag of an accessory's image; an image by digest has none of its own.
fn tagged(accessory: &Accessory) -> Option<ImageReference> {
    let image = &accessory.image;
    let tag = match (&image.tag, &image.digest) {
        (Some(tag), None) => tag.clone(),
        (None, None) => Tag::parse("latest").ok()?,
        (_, Some(_)) => return None,
    };
    Some(ImageReference { repository: image.repository.clone(), tag })
}

//! The containers of the proxies: booting, starting, stopping, replacing and removing them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use freehold_model::{
    ContainerName, Diagnose, ErrorKind, HostName, InvalidName, Project, ProxySettings, ReleaseId, RemoteImage,
};

use crate::naming::{NETWORK, state_directory};
use crate::observed::{Observed, ObservedHost, ObservedProxy, ProxyMaker};
use crate::plan::{Action, OnFailure, Plan, PlanKind, StageKind, Undo};
use crate::request::Subject;
use crate::rollout::roles_on;
use crate::stages::Stages;

/// The name of every proxy's container, which is Kamal's.
const PROXY: &str = "kamal-proxy";

/// The name under which the proxy that was there before an adoption is kept.
pub const PROXY_BEFORE: &str = "kamal-proxy-before-freehold";

/// The name of a proxy that is being replaced.
const REPLACED: &str = "kamal-proxy-replaced";

/// How long a proxy may take to stop: it lets requests end for 10 s.
const STOP_LIMIT: Duration = Duration::from_secs(12);

/// What is done with the containers of proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVerb {
    /// They are made and started where there are none.
    Boot,
    /// They are started.
    Start,
    /// They are stopped.
    Stop,
    /// They are stopped and started.
    Restart,
    /// They hand over to a process of this build.
    Upgrade,
}

/// Which proxy serves after one was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// A new one of the same maker.
    Same,
    /// Freehold's; the earlier one is kept.
    Freehold,
    /// The one that Freehold's took the place of.
    Earlier,
}

/// What becomes of connections while a proxy is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bridging {
    /// A second proxy takes them until the new one listens.
    StandIn,
    /// They are refused for a moment.
    Gap,
}

/// A replacement of proxies.
#[derive(Debug, Clone)]
pub struct Handover<'a> {
    /// The project.
    pub project: &'a Project,
    /// Its identifier.
    pub id: ReleaseId,
    /// The hosts, the first of which keeps the lock.
    pub hosts: &'a [HostName],
    /// Which proxy comes.
    pub incoming: Incoming,
    /// What becomes of connections.
    pub bridging: Bridging,
    /// The hosts on which the proxy before an adoption is kept.
    pub kept: &'a BTreeSet<HostName>,
    /// How long requests in flight at the earlier proxy may take.
    pub drain: Duration,
}

/// Why nothing can be planned for proxies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyPlanError {
    /// There is no proxy to start or stop.
    #[error("host `{host}` has no proxy")]
    NoProxy {
        /// The host.
        host: HostName,
    },
    /// The proxy cannot hand over.
    #[error("the proxy of host `{host}` cannot hand over: {reason}")]
    CannotHandOver {
        /// The host.
        host: HostName,
        /// Why not.
        reason: &'static str,
    },
    /// Something is asked for that a kamal-proxy would serve without.
    #[error("kamal-proxy has nothing like `proxy: {key}`, which is asked for on host `{host}`")]
    OwnProxyOnly {
        /// The host.
        host: HostName,
        /// The key below `proxy`.
        key: &'static str,
    },
    /// The image of a kamal-proxy has a name that is none.
    #[error("`{image}` is not an image")]
    Image {
        /// Its name.
        image: String,
    },
    /// A name that cannot be.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

impl Diagnose for ProxyPlanError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoProxy { .. } | Self::CannotHandOver { .. } | Self::OwnProxyOnly { .. } => {
                ErrorKind::Failed
            }
            Self::Image { .. } => ErrorKind::Configuration,
            Self::Name(_) => ErrorKind::Bug,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NoProxy { .. } => vec!["boot it first: `freehold proxy boot`".to_owned()],
            Self::CannotHandOver { .. } => vec![
                "replace its container instead: `freehold proxy reboot` refuses no connection, and ends those that are \
                 still open after 10 s; with `--with-gap` connections are refused for about a second"
                    .to_owned(),
            ],
            Self::OwnProxyOnly { key, .. } => {
                vec![format!("remove `{key}` and deploy first, or keep Freehold's proxy")]
            }
            Self::Image { .. } => {
                vec![
                    "write `registry`, `repository` and `version` of `proxy: run:` as Docker does".to_owned(),
                ]
            }
            Self::Name(_) => Vec::new(),
        }
    }
}

/// Plans booting, starting or stopping the proxies of hosts.
///
/// # Errors
/// [`ProxyPlanError::NoProxy`] where there is none to start or stop.
pub fn proxy(
    project: &Project,
    id: ReleaseId,
    (hosts, observed): (&[HostName], &Observed),
    verb: ProxyVerb,
) -> Result<Plan, ProxyPlanError> {
    let container = ContainerName::parse(PROXY)?;
    let mut stages = Stages::default();
    stages.begin(StageKind::Prepare, OnFailure::PutBack);
    for host in hosts {
        let Some(seen) = observed.hosts.get(host) else { continue };
        if verb == ProxyVerb::Boot {
            prepare(&mut stages, project, host);
            ensure(&mut stages, project, host, seen);
            continue;
        }
        if seen.proxy == ObservedProxy::Absent {
            return Err(ProxyPlanError::NoProxy { host: host.clone() });
        }
        if verb == ProxyVerb::Upgrade {
            check_can_hand_over(host, &seen.proxy)?;
            let drain = project.timeouts.drain;
            stages.step(host, Action::UpgradeProxy { drain }, Undo::Nothing);
        }
        if matches!(verb, ProxyVerb::Stop | ProxyVerb::Restart) {
            let action = Action::StopContainer {
                subject: Subject::Proxy,
                container: container.clone(),
                drain: None,
                timeout: Some(STOP_LIMIT),
            };
            stages.step(host, action, Undo::StartContainer { container: container.clone() });
        }
        if matches!(verb, ProxyVerb::Start | ProxyVerb::Restart) {
            ensure(&mut stages, project, host, seen);
        }
    }
    Ok(plan(project, id, hosts, stages))
}

fn check_can_hand_over(host: &HostName, proxy: &ObservedProxy) -> Result<(), ProxyPlanError> {
    let reason = match proxy {
        ObservedProxy::Absent | ObservedProxy::Stopped { .. } => "it does not run",
        ObservedProxy::Running { maker: ProxyMaker::Kamal, .. } => "it is a kamal-proxy",
        ObservedProxy::Running { is_outdated: true, .. } => {
            "it is of an earlier Freehold that does not know how"
        }
        ObservedProxy::Running { .. } => return Ok(()),
    };
    Err(ProxyPlanError::CannotHandOver { host: host.clone(), reason })
}

fn ensure(stages: &mut Stages, project: &Project, host: &HostName, seen: &ObservedHost) {
    let run = seen.proxy_run(project, host);
    stages.step(host, Action::EnsureProxy { run, network: NETWORK.to_owned() }, Undo::Nothing);
}

fn prepare(stages: &mut Stages, project: &Project, host: &HostName) {
    let directories =
        vec![".kamal".to_owned(), ".kamal/proxy/apps-config".to_owned(), state_directory(&project.stem())];
    stages.step(host, Action::PrepareHost { directories, network: NETWORK.to_owned() }, Undo::Nothing);
}

fn plan(project: &Project, id: ReleaseId, hosts: &[HostName], stages: Stages) -> Plan {
    Plan {
        format: Plan::FORMAT,
        id,
        kind: PlanKind::Proxy,
        service: project.service.clone(),
        destination: project.destination.clone(),
        version: None,
        hosts: hosts.to_vec(),
        stages: stages.finish(),
    }
}

/// Plans the removal of the proxies with their images and files. The volume with their state stays.
///
/// # Errors
/// Never: the names are well formed.
pub fn remove_proxy(project: &Project, id: ReleaseId, hosts: &[HostName]) -> Result<Plan, ProxyPlanError> {
    let mut stages = Stages::default();
    stages.begin(StageKind::Retire, OnFailure::GoOn);
    for host in hosts {
        let container = ContainerName::parse(PROXY)?;
        let action = Action::StopContainer {
            subject: Subject::Proxy,
            container: container.clone(),
            drain: None,
            timeout: Some(STOP_LIMIT),
        };
        stages.step(host, action, Undo::Impossible);
        for container in [container, ContainerName::parse(PROXY_BEFORE)?] {
            stages.step(host, Action::RemoveContainer { container }, Undo::Impossible);
        }
        stages.step(host, Action::RemoveProxyImages, Undo::Impossible);
        let directories = vec![".kamal/proxy".to_owned()];
        stages.step(host, Action::RemoveDirectories { directories }, Undo::Impossible);
    }
    Ok(plan(project, id, hosts, stages))
}

/// Plans the replacement of the proxies of hosts. With a stand-in no connection is refused: it takes new ones while the
/// earlier proxy ends what it has begun, until the new one listens on the ports.
///
/// # Errors
/// [`ProxyPlanError::Image`] where the deploy file names an image that is none.
pub fn handover(request: &Handover<'_>, observed: &Observed) -> Result<Plan, ProxyPlanError> {
    let mut hosts = BTreeMap::new();
    for host in request.hosts {
        if let Some(seen) = observed.hosts.get(host) {
            hosts.insert(host, Replacement::of(request, host, seen)?);
        }
    }
    let each = || request.hosts.iter().filter_map(|host| Some((host, hosts.get(host)?)));
    let mut stages = Stages::default();
    stages.begin(StageKind::Prepare, OnFailure::PutBack);
    for (host, replacement) in each() {
        prepare(&mut stages, request.project, host);
        replacement.prepare(&mut stages, host);
    }
    stages.begin(StageKind::Commit, OnFailure::PutBack);
    for (host, replacement) in each() {
        replacement.commit(&mut stages, host);
    }
    stages.begin(StageKind::Retire, OnFailure::GoOn);
    for (host, replacement) in each() {
        replacement.retire(&mut stages, host);
    }
    Ok(plan(request.project, request.id.clone(), request.hosts, stages))
}

/// Returns a key that only Freehold's proxy follows and that is asked for on a host.
fn own_proxy_only(
    project: &Project,
    host: &HostName,
    run: &freehold_model::ProxyRun,
) -> Option<&'static str> {
    let roles = roles_on(project, host).filter_map(|(role, _)| role.proxy.as_ref());
    let accessories = project.accessories.values().filter(|accessory| accessory.hosts.contains(host));
    let accessories = accessories.filter_map(|accessory| accessory.proxy.as_ref());
    let key = roles.chain(accessories).find_map(ProxySettings::own_proxy_only);
    key.or_else(|| run.own_proxy_only())
}

/// What becomes of the proxy of one host.
struct Replacement {
    /// The proxy that comes, or none for the one that was kept.
    arriving: Option<ProxyMaker>,
    run: freehold_model::ProxyRun,
    /// The image to pull.
    pulled: Option<RemoteImage>,
    /// Whether one is there that goes.
    is_there: bool,
    /// Whether it runs, so that connections come.
    is_bridged: bool,
    /// The name under which it is set aside.
    aside: ContainerName,
    /// Whether it is kept.
    is_kept: bool,
    before: ContainerName,
    drain: Duration,
}

impl Replacement {
    fn of(request: &Handover<'_>, host: &HostName, seen: &ObservedHost) -> Result<Self, ProxyPlanError> {
        let run = seen.proxy_run(request.project, host);
        if request.incoming == Incoming::Earlier
            && let Some(key) = own_proxy_only(request.project, host, &run)
        {
            return Err(ProxyPlanError::OwnProxyOnly { host: host.clone(), key });
        }
        let arriving = match request.incoming {
            Incoming::Same => Some(seen.proxy.maker()),
            Incoming::Freehold => Some(ProxyMaker::Freehold),
            Incoming::Earlier if request.kept.contains(host) => None,
            Incoming::Earlier => Some(ProxyMaker::Kamal),
        };
        let pulled = match arriving {
            Some(ProxyMaker::Kamal) => Some(kamal_image(&run)?),
            Some(ProxyMaker::Freehold) | None => None,
        };
        let is_kept = request.incoming == Incoming::Freehold && seen.proxy.maker() == ProxyMaker::Kamal;
        let runs = matches!(seen.proxy, ObservedProxy::Running { .. });
        Ok(Self {
            arriving,
            run,
            pulled,
            is_there: seen.proxy != ObservedProxy::Absent,
            is_bridged: runs && request.bridging == Bridging::StandIn,
            aside: ContainerName::parse(if is_kept { PROXY_BEFORE } else { REPLACED })?,
            is_kept,
            before: ContainerName::parse(PROXY_BEFORE)?,
            drain: request.drain,
        })
    }

    fn prepare(&self, stages: &mut Stages, host: &HostName) {
        if self.is_bridged || self.arriving == Some(ProxyMaker::Freehold) {
            stages.step(host, Action::DeliverProxyImage, Undo::Nothing);
        }
        if let Some(image) = &self.pulled {
            stages.step(host, Action::PullProxyImage { image: image.clone() }, Undo::Nothing);
        }
        if self.is_bridged {
            let action = Action::StartStandIn { run: self.run.clone(), network: NETWORK.to_owned() };
            stages.step(host, action, Undo::RemoveStandIn);
        }
    }

    fn commit(&self, stages: &mut Stages, host: &HostName) {
        if self.is_bridged {
            stages.step(host, Action::DivertPorts { network: NETWORK.to_owned() }, Undo::ReleasePorts);
        }
        if self.is_there {
            let name = self.aside.clone();
            let action = Action::SetProxyAside { name: name.clone(), drain: self.drain };
            stages.step(host, action, Undo::BringProxyBack { name });
        }
        match self.arriving {
            Some(maker) => {
                let (run, network) = (self.run.clone(), NETWORK.to_owned());
                stages.step(host, Action::StartProxy { maker, run, network }, Undo::RemoveProxy);
            }
            None => {
                let name = self.before.clone();
                stages.step(
                    host,
                    Action::BringProxyBack { name: name.clone() },
                    Undo::SetProxyAside { name },
                );
            }
        }
        if self.is_bridged {
            let undo = Undo::DivertPorts { network: NETWORK.to_owned() };
            stages.step(host, Action::ReleasePorts, undo);
        }
    }

    fn retire(&self, stages: &mut Stages, host: &HostName) {
        if self.is_bridged {
            stages.step(host, Action::RemoveStandIn, Undo::Impossible);
        }
        if self.is_there && !self.is_kept {
            let container = self.aside.clone();
            stages.step(host, Action::RemoveContainer { container }, Undo::Impossible);
        }
    }
}

/// Returns the image of the kamal-proxy that Kamal would boot.
///
/// # Errors
/// [`ProxyPlanError::Image`] where its name is none.
pub fn kamal_image(run: &freehold_model::ProxyRun) -> Result<RemoteImage, ProxyPlanError> {
    let image = run.image.as_ref();
    let registry = image.and_then(|image| image.registry.as_deref());
    let repository = image.map_or("basecamp/kamal-proxy", |image| image.repository.as_str());
    let version = image.map_or("v0.9.2", |image| image.version.as_str());
    let name = registry.map_or_else(String::new, |registry| format!("{registry}/"));
    let name = format!("{name}{repository}:{version}");
    RemoteImage::parse(&name).map_err(|_| ProxyPlanError::Image { image: name })
}

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use freehold_model::{
    Architecture, ContainerName, HostName, ImageReference, Project, ProxyRun, ProxyServiceName,
    ProxySettings, Release, ReleaseId, RoleName,
};
use serde::{Deserialize, Serialize};

use crate::canary::ObservedCanary;
use crate::gate::Gate;
use crate::request::ProxyFiles;
use crate::schedule::ObservedAgent;

/// What was seen on the hosts of a project before a plan is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// Every host of the project.
    pub hosts: BTreeMap<HostName, ObservedHost>,
}

/// What was seen on one host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedHost {
    /// The engine's version, for people.
    pub engine: String,
    /// The processor architecture, if it is one that Freehold names.
    pub architecture: Option<Architecture>,
    /// Whether the network of the service's containers exists.
    pub has_network: bool,
    /// The containers that carry the service's label, newest first.
    pub containers: Vec<ObservedContainer>,
    /// The images of the service's roles.
    pub images: Vec<ObservedImage>,
    /// The identifiers of the service's images that have lost their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unnamed_images: Vec<String>,
    /// The proxy.
    pub proxy: ObservedProxy,
    /// The proxy's own ports to which ports of the host lead; none where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_ports: Option<BTreeSet<u16>>,
    /// Services of the proxy, by those of the project that are to have one of their hosts and paths.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub holders: BTreeMap<ProxyServiceName, Holder>,
    /// How the proxy's container runs after the files that `proxy boot_config` wrote, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_boot: Option<ProxyRun>,
    /// The agent, which runs scheduled jobs.
    #[serde(default, skip_serializing_if = "ObservedAgent::is_absent")]
    pub agent: ObservedAgent,
    /// The releases stored on the host for this service and destination, newest first.
    pub releases: Vec<Release>,
    /// The release that is tried beside the one that serves, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Release>,
    /// Folders with pieces of the service's images that a delivery left which broke off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pieces: Vec<String>,
}

/// A container of the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedContainer {
    /// Its identifier, 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: ContainerName,
    /// The role in its label.
    pub role: Option<RoleName>,
    /// The destination in its label; empty means none.
    pub destination: String,
    /// The reference it was created from.
    pub image: String,
    /// The identifier of its image.
    pub image_id: String,
    /// The release in its label.
    pub release: Option<ReleaseId>,
    /// Its state.
    pub state: ContainerState,
    /// When it was created, seconds since 1970.
    pub created_seconds: i64,
}

/// The state of a container, in Docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerState {
    /// Made, never started.
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Between two starts.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// Could not be removed.
    Dead,
}

impl ContainerState {
    /// Says whether the container's processes exist.
    #[must_use]
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Restarting | Self::Paused)
    }
}

/// A tagged image of the service's repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedImage {
    /// The reference.
    pub reference: ImageReference,
    /// The engine's identifier.
    pub id: String,
}

/// A service of the proxy that has a host and path which another one is to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// Its name.
    pub service: ProxyServiceName,
    /// Its route.
    pub route: Route,
}

/// The proxy of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ObservedProxy {
    /// There is no container of that name.
    #[default]
    Absent,
    /// There is one and it does not run.
    Stopped {
        /// The image it was made from.
        image: String,
        /// Whose it is.
        maker: ProxyMaker,
    },
    /// It runs.
    Running {
        /// The image it was made from.
        image: String,
        /// Whose it is.
        maker: ProxyMaker,
        /// Whether it is of an earlier build of Freehold that does not understand all of this one's requests.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_outdated: bool,
        /// The routes of the project's services.
        routes: BTreeMap<ProxyServiceName, ObservedRoute>,
    },
}

/// Whose proxy it is, which decides the language that is spoken with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyMaker {
    /// Freehold's, with its API.
    #[default]
    Freehold,
    /// The kamal-proxy that Kamal boots, with its command line.
    Kamal,
}

impl ProxyMaker {
    /// Says whether it is Freehold's.
    #[must_use]
    pub fn is_freehold(&self) -> bool {
        *self == Self::Freehold
    }
}

impl ProxyMaker {
    /// Returns how long a switch may wait for containers to be healthy.
    pub(crate) fn health_limit(self, project: &Project) -> Duration {
        match self {
            Self::Freehold => Duration::ZERO,
            Self::Kamal => project.timeouts.deploy,
        }
    }
}

impl ObservedProxy {
    /// Returns whose proxy serves once one is made sure of: that which is there, otherwise Freehold's.
    #[must_use]
    pub fn maker(&self) -> ProxyMaker {
        match self {
            Self::Absent => ProxyMaker::Freehold,
            Self::Stopped { maker, .. } | Self::Running { maker, .. } => *maker,
        }
    }
}

/// One service of the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedRoute {
    /// Enough to set it again.
    pub route: Route,
    /// Whether requests go to the targets.
    #[serde(default, skip_serializing_if = "Gate::is_open")]
    pub gate: Gate,
    /// The certificates that the proxy orders for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<ObservedCertificate>,
    /// What is tried with a part of the visitors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<ObservedCanary>,
}

/// A certificate that the proxy orders and renews.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedCertificate {
    /// The name that it is for.
    pub name: String,
    /// How it stands.
    pub state: CertificateState,
    /// When the one that is served ends, RFC 3339 in UTC.
    pub expires_at: Option<String>,
    /// When it is ordered next.
    pub next_order_at: Option<String>,
    /// Why the last order failed.
    pub error: Option<String>,
}

/// How a certificate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateState {
    /// It is there.
    Valid,
    /// It is being ordered.
    Ordering,
    /// The last order failed.
    Failed,
}

/// Where the proxy sends the requests of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The targets, `host:port`.
    pub targets: Vec<String>,
    /// The settings.
    pub settings: ProxySettings,
    /// Files that the proxy reads.
    #[serde(default, skip_serializing_if = "ProxyFiles::is_empty")]
    pub files: ProxyFiles,
    /// The flags with which a running kamal-proxy sets it again, to the letter: it knows settings that no deploy file has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kamal_flags: Vec<String>,
    /// The service to the letter as a running proxy of Freehold has it, in the JSON of its API: it may have settings that no
    /// deploy file has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<String>,
}

impl ObservedHost {
    /// Returns the containers of a role and the project's destination, newest first.
    pub fn containers_of<'a>(
        &'a self,
        project: &'a Project,
        role: &'a RoleName,
    ) -> impl Iterator<Item = &'a ObservedContainer> {
        let destination = project.destination.as_ref().map_or("", |destination| destination.as_str());
        self.containers.iter().filter(move |container| {
            container.role.as_ref() == Some(role) && container.destination == destination
        })
    }

    /// Returns the container of a role that serves now: the one that the proxy sends requests to, otherwise the newest
    /// running one.
    #[must_use]
    pub fn current<'a>(&'a self, project: &'a Project, role: &'a RoleName) -> Option<&'a ObservedContainer> {
        self.serving(project, role).first().copied()
    }

    /// Returns the containers of a role that serve now: those that the proxy sends requests to, otherwise the newest
    /// running one and the others of its release.
    #[must_use]
    pub fn serving<'a>(&'a self, project: &'a Project, role: &'a RoleName) -> Vec<&'a ObservedContainer> {
        let is_meant =
            |container: &&ObservedContainer| container.state.is_running() && !self.is_tried(container);
        let running = || self.containers_of(project, role).filter(is_meant);
        let targets: Vec<&str> = project
            .roles
            .get(role)
            .and_then(|role| self.route(&role.proxy_service))
            .into_iter()
            .flat_map(|route| &route.targets)
            .filter_map(|target| target.split(':').next())
            .collect();
        let routed: Vec<&ObservedContainer> = targets
            .iter()
            .filter_map(|host| {
                running().find(|container| container.id.starts_with(host) || container.name.as_str() == *host)
            })
            .collect();
        if !routed.is_empty() {
            return routed;
        }
        let Some(newest) = running().next() else { return Vec::new() };
        let is_beside = |container: &&ObservedContainer| {
            container.id != newest.id && newest.release.is_some() && container.release == newest.release
        };
        std::iter::once(newest).chain(running().filter(is_beside)).collect()
    }

    /// Returns the route of a proxy service.
    #[must_use]
    pub fn route(&self, service: &ProxyServiceName) -> Option<&Route> {
        match &self.proxy {
            ObservedProxy::Running { routes, .. } => routes.get(service).map(|observed| &observed.route),
            ObservedProxy::Absent | ObservedProxy::Stopped { .. } => None,
        }
    }

    /// Returns how the proxy's container runs on this host: as the deploy file says, otherwise after the files of
    /// `proxy boot_config`, otherwise as by default.
    #[must_use]
    pub fn proxy_run(&self, project: &Project, host: &HostName) -> ProxyRun {
        let written = project.proxy_runs.get(host).or(self.proxy_boot.as_ref());
        written.cloned().unwrap_or_default()
    }

    /// Returns whether requests go to the containers of a proxy service, if the proxy has it.
    #[must_use]
    pub fn gate(&self, service: &ProxyServiceName) -> Option<&Gate> {
        match &self.proxy {
            ObservedProxy::Running { routes, .. } => routes.get(service).map(|observed| &observed.gate),
            ObservedProxy::Absent | ObservedProxy::Stopped { .. } => None,
        }
    }
}

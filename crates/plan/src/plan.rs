use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use freehold_model::{
    AccessoryName, Canary, ContainerName, Destination, Environment, HostName, ImageReference, ProxyRun,
    ProxyServiceName, Release, ReleaseId, ReleaseVersion, RemoteImage, ScheduleName, ScheduleState,
    SecretName, ServiceName,
};
use serde::{Deserialize, Serialize};

use crate::request::{
    AssetBridge, BuildPlaceName, ContainerRequest, ImageAge, ImageOrigin, ImagePlace, ImageScan,
    PlacedDirectory, PlacedFile, ProxyFiles, Readiness, ReleaseCommand, Subject,
};
use crate::schedule::ScheduleRequest;
use crate::{Gate, ProxyMaker};

mod kind;
mod undo;

pub use kind::{PlanKind, StageKind};
pub use undo::{OnFailure, Undo};

/// Everything that one command will do, decided before it begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The format of this value; a plan of another format is refused.
    pub format: u32,
    /// The rollout's identifier.
    pub id: ReleaseId,
    /// What the plan is for.
    pub kind: PlanKind,
    /// The service.
    pub service: ServiceName,
    /// The destination.
    pub destination: Option<Destination>,
    /// The version that serves when the plan is done, if it is one.
    pub version: Option<ReleaseVersion>,
    /// The hosts, the primary host first.
    pub hosts: Vec<HostName>,
    /// The stages, one after another.
    pub stages: Vec<Stage>,
}

impl Plan {
    /// The format that this version writes.
    pub const FORMAT: u32 = 1;

    /// Returns every step in the order of stages, lanes and lines.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.stages.iter().flat_map(|stage| &stage.lanes).flat_map(|lane| &lane.steps)
    }

    /// Says whether the plan does nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps().next().is_none()
    }
}

/// A part of a plan that must be finished on every host before the next part begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// What it is.
    pub kind: StageKind,
    /// What a failure in it does.
    pub on_failure: OnFailure,
    /// The steps by host; lanes run side by side.
    pub lanes: Vec<Lane>,
}

/// The steps of one host in a stage, one after another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lane {
    /// The host.
    pub host: HostName,
    /// The steps.
    pub steps: Vec<Step>,
}

/// The number of a step in its plan, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StepId(pub u32);

impl fmt::Display for StepId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// One change of one host, with everything that it needs in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its number.
    pub id: StepId,
    /// The host.
    pub host: HostName,
    /// What is done. Every action recognises that it was done already and does nothing then.
    pub action: Action,
    /// How it is undone.
    pub undo: Undo,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// Builds the image. Done already: one of the same content is where it would go.
    BuildImage {
        /// The tag it gets.
        image: ImageReference,
        /// The engine.
        place: BuildPlaceName,
    },
    /// Logs in to the registry, to learn before the build that name and password are good. Changes nothing.
    CheckRegistry {
        /// The registry, for people.
        registry: String,
        /// The engine that asks.
        place: BuildPlaceName,
    },
    /// Checks that somebody whom the project trusts has signed the image. Changes nothing.
    VerifyImage {
        /// The image.
        image: ImageReference,
        /// Where it is.
        at: ImagePlace,
    },
    /// Lets a command of the project look at the image. Changes nothing.
    ScanImage {
        /// The image.
        image: ImageReference,
        /// Where it is.
        at: ImagePlace,
        /// What looks at it.
        scan: ImageScan,
    },
    /// Pushes the image under its tag and as the latest one. Done already: the registry has every layer.
    PushImage {
        /// The image.
        image: ImageReference,
        /// Its second tag, which the engine that builds does not keep.
        latest: ImageReference,
        /// The engine that has it.
        from: BuildPlaceName,
    },
    /// Pulls an image by its digest and tags it. Done already: the host has that digest.
    PullImage {
        /// The tag it gets.
        image: ImageReference,
        /// What decides the digest.
        origin: ImageOrigin,
        /// The service that its label must name, or none for an image that others made.
        service: Option<ServiceName>,
    },
    /// Brings the image to the host, only the layers that it lacks. Done already: it has all of them.
    DeliverImage {
        /// The image.
        image: ImageReference,
        /// The engine that has it.
        from: BuildPlaceName,
        /// The hosts that get it in one go, this one among them: the image is read once for all.
        #[serde(default)]
        together: BTreeSet<HostName>,
    },
    /// Pulls the image of an accessory. Done already: the host has it, unless the newest is wanted.
    PullAccessoryImage {
        /// The accessory, which may have a registry of its own.
        accessory: AccessoryName,
        /// The image.
        image: RemoteImage,
        /// Whether an older image of that name will do.
        age: ImageAge,
    },
    /// Writes files of the project and makes directories on the host. Doing it again changes nothing.
    PlaceFiles {
        /// What they belong to.
        subject: Subject,
        /// The files.
        files: Vec<PlacedFile>,
        /// The directories.
        directories: Vec<PlacedDirectory>,
    },
    /// Makes folders and the network. Done already: they exist.
    PrepareHost {
        /// Folders relative to the login directory, mode 700.
        directories: Vec<String>,
        /// The network's name.
        network: String,
    },
    /// Makes sure that the proxy runs. Done already: it does, of this image or a compatible one.
    EnsureProxy {
        /// How it runs.
        run: ProxyRun,
        /// The network's name.
        network: String,
    },
    /// Lets the running proxy hand over to a process of this build. Never done already: to do it again hands over once more.
    UpgradeProxy {
        /// How long the earlier process may take to end what it has begun.
        drain: Duration,
    },
    /// Brings the image of Freehold's proxy to the host. Done already: it has it.
    DeliverProxyImage,
    /// Pulls the image of a kamal-proxy. Done already: the host has it.
    PullProxyImage {
        /// The image.
        image: RemoteImage,
    },
    /// Starts a second proxy that knows every route of the one that serves. Done already: it runs.
    StartStandIn {
        /// How the proxy runs whose place it takes for a while: who may connect, and what is seen of it, are the same.
        #[serde(default)]
        run: ProxyRun,
        /// The network's name.
        network: String,
    },
    /// Sends new connections to the proxy's ports to the stand-in. Doing it again changes nothing.
    DivertPorts {
        /// The network's name.
        network: String,
    },
    /// Lets connections reach the proxy itself again. Doing it again changes nothing.
    ReleasePorts,
    /// Lets the proxy end what it has begun, stops it and keeps its container under another name. Done already: there is
    /// none of its name.
    SetProxyAside {
        /// The name under which it is kept.
        name: ContainerName,
        /// How long requests in flight may take.
        drain: Duration,
    },
    /// Makes and starts a proxy. Done already: one runs.
    StartProxy {
        /// Whose it is.
        maker: ProxyMaker,
        /// How it runs.
        run: ProxyRun,
        /// The network's name.
        network: String,
    },
    /// Gives the proxy that was kept its name back and starts it. Done already: it runs.
    BringProxyBack {
        /// The name under which it is kept.
        name: ContainerName,
    },
    /// Lets the stand-in end what it has begun and removes it. Done already: there is none.
    RemoveStandIn,
    /// Removes the images of proxies that no container is made from.
    RemoveProxyImages,
    /// Gives a container another name. Done already: there is one of the new name and none of the old.
    RenameContainer {
        /// The old name.
        from: ContainerName,
        /// The new name.
        to: ContainerName,
    },
    /// Creates and starts a container. Done already: it runs.
    StartContainer(Box<ContainerRequest>),
    /// Starts a container that exists. Done already: it runs.
    StartAgain {
        /// What it belongs to.
        subject: Subject,
        /// The container.
        container: ContainerName,
    },
    /// Waits until a container is healthy.
    AwaitHealthy {
        /// What it belongs to.
        subject: Subject,
        /// The container.
        container: ContainerName,
        /// What healthy means.
        readiness: Readiness,
    },
    /// Copies the assets of the new image to the host and shares them with the release that serves. Doing it again
    /// copies what is missing.
    BridgeAssets(AssetBridge),
    /// Writes the proxy's error pages of a version. Writing them again changes nothing.
    WriteErrorPages {
        /// Their folder relative to the login directory.
        directory: String,
        /// The pages by file name.
        pages: BTreeMap<String, String>,
    },
    /// Writes a certificate and its key for the proxy, and keeps what was there. Writing them again changes nothing.
    WriteCertificate {
        /// What it belongs to.
        subject: Subject,
        /// Their folder relative to the login directory.
        directory: String,
        /// The secret that holds the certificate with its chain.
        certificate: SecretName,
        /// The secret that holds the private key.
        private_key: SecretName,
    },
    /// Writes the file with those who may come, for the proxy, and keeps what was there. Writing it again changes nothing.
    WriteUsers {
        /// What they come to.
        subject: Subject,
        /// Its folder relative to the login directory.
        directory: String,
        /// The secret with the lines.
        users: SecretName,
    },
    /// Runs the release command of a role to its end. Done already: its container is there and has ended well.
    RunReleaseCommand(Box<ReleaseCommand>),
    /// Sends the requests of a proxy service to containers. Done already: they go there.
    SwitchTarget {
        /// What it belongs to.
        subject: Subject,
        /// The service's name in the proxy.
        service: ProxyServiceName,
        /// The containers.
        containers: Vec<ContainerName>,
        /// The new route but for its targets, which are the containers' identifiers and port.
        settings: Box<freehold_model::ProxySettings>,
        /// Files that the proxy reads.
        #[serde(default, skip_serializing_if = "ProxyFiles::is_empty")]
        files: ProxyFiles,
        /// Another service that had these hosts and paths, and goes in the same moment.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        takes_over: Option<ProxyServiceName>,
        /// How long requests in flight on the old target may take.
        drain: Duration,
        /// Whose proxy it is.
        #[serde(default, skip_serializing_if = "ProxyMaker::is_freehold")]
        proxy: ProxyMaker,
        /// How long a kamal-proxy may wait until the containers are healthy, which it finds out by itself.
        #[serde(default, skip_serializing_if = "Duration::is_zero")]
        health_limit: Duration,
    },
    /// Takes a service out of the proxy. Done already: the proxy does not know it.
    RemoveTarget {
        /// The service's name in the proxy.
        service: ProxyServiceName,
        /// Whose proxy it is.
        #[serde(default, skip_serializing_if = "ProxyMaker::is_freehold")]
        proxy: ProxyMaker,
    },
    /// Opens or closes the way of a service's requests to its containers. Done already: it is so.
    SetGate {
        /// The service's name in the proxy.
        service: ProxyServiceName,
        /// The new state.
        gate: Gate,
        /// How long requests in flight may take where it is closed.
        drain: Duration,
        /// Whose proxy it is.
        #[serde(default, skip_serializing_if = "ProxyMaker::is_freehold")]
        proxy: ProxyMaker,
    },
    /// Makes sure that the agent runs, of this very executable. Done already: it does.
    EnsureAgent,
    /// Gives the agent the jobs of a release, which do not run yet. Storing them again changes nothing.
    StoreSchedule(Box<ScheduleRequest>),
    /// Decides which jobs of a role run when they are due. Done already: it is so.
    SwitchSchedule {
        /// What they belong to.
        subject: Subject,
        /// The schedule.
        name: ScheduleName,
        /// The new state.
        to: ScheduleState,
    },
    /// Lets the agent forget the jobs of releases. Done already: it does not know them.
    ForgetSchedules {
        /// The schedule.
        name: ScheduleName,
        /// The releases.
        releases: Vec<ReleaseId>,
    },
    /// Removes a schedule with its runs, their containers and its history. Done already: there is none.
    RemoveSchedule {
        /// The schedule.
        name: ScheduleName,
    },
    /// Removes the agent and its volume if it has no jobs.
    RemoveAgentIfUnused,
    /// Watches containers and their answers.
    Soak {
        /// The containers, with the proxy service of those that have one.
        containers: Vec<(ContainerName, Option<ProxyServiceName>)>,
        /// How long.
        duration: Duration,
    },
    /// Lets requests in flight end and stops a container. Done already: it does not run.
    StopContainer {
        /// What it belongs to.
        subject: Subject,
        /// The container.
        container: ContainerName,
        /// The proxy service that drains first.
        drain: Option<(ProxyServiceName, Duration)>,
        /// How long it may take to stop; none is the engine's default.
        timeout: Option<Duration>,
    },
    /// Writes the secrets' file of a role or accessory, as Kamal has it, mode 600.
    WriteEnvironmentFile {
        /// What it belongs to.
        subject: Subject,
        /// Its path relative to the login directory.
        path: String,
        /// The environment, secrets by name.
        environment: Environment,
    },
    /// Stores the release on the host and tags its image as the latest.
    RecordRelease {
        /// The release, without what is only known when it runs.
        release: Box<Release>,
        /// The tag of the latest image.
        latest: ImageReference,
    },
    /// Removes a container that does not run. Done already: there is none.
    RemoveContainer {
        /// The container.
        container: ContainerName,
    },
    /// Removes a tag, and the image with its last tag. Done already: there is none.
    RemoveImage {
        /// The tag.
        image: ImageReference,
    },
    /// Removes the images of the service that have no name and no container. Done already: there is none.
    RemoveUnnamedImages {
        /// The service in their label.
        service: ServiceName,
    },
    /// Notes on the host which release is tried. Done already: it is noted.
    RecordCanary {
        /// The release.
        release: Box<Release>,
    },
    /// Sends the requests of some visitors of a proxy service to other containers. Doing it again changes nothing.
    StartCanary {
        /// What it belongs to.
        subject: Subject,
        /// The service's name in the proxy.
        service: ProxyServiceName,
        /// The containers.
        containers: Vec<ContainerName>,
        /// The port on which they listen.
        port: u16,
        /// Which visitors, and how both sides are compared.
        canary: Box<Canary>,
        /// How long they may take to be healthy.
        deadline: Duration,
    },
    /// Sends all visitors of a proxy service to its own containers. Done already: no others are tried.
    EndCanary {
        /// The service's name in the proxy.
        service: ProxyServiceName,
        /// How long requests in flight may take.
        drain: Duration,
    },
    /// Forgets which release is tried. Done already: none is.
    ForgetCanary,
    /// Forgets stored releases.
    ForgetReleases {
        /// Their identifiers.
        releases: Vec<ReleaseId>,
    },
    /// Removes the proxy if it serves nobody else.
    RemoveProxyIfUnused,
    /// Removes files of the service from the host. Done already: they are not there.
    RemoveDirectories {
        /// Folders and files relative to the login directory.
        directories: Vec<String>,
    },
    /// Pauses.
    Wait {
        /// How long.
        duration: Duration,
    },
}

use std::time::Duration;

use freehold_model::{ContainerName, ProxyServiceName, ReleaseId, ScheduleName, ScheduleState};
use serde::{Deserialize, Serialize};

use crate::{Gate, Route};

/// What a failed step in a stage does to the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Everything that the plan did is undone on every host.
    PutBack,
    /// The new release is live: the other steps go on, and what is left needs attention.
    GoOn,
}

/// How a step is undone. Undoing twice does nothing the second time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Undo {
    /// Nothing to undo: what it made is harmless or needed anyway.
    Nothing,
    /// Cannot be undone.
    Impossible,
    /// Stops and removes the container.
    RemoveContainer {
        /// The container.
        container: ContainerName,
    },
    /// Stops the container and leaves it.
    StopContainer {
        /// The container.
        container: ContainerName,
    },
    /// Starts the container.
    StartContainer {
        /// The container.
        container: ContainerName,
    },
    /// Gives a container its old name.
    RenameContainer {
        /// The name it has.
        from: ContainerName,
        /// The name it had.
        to: ContainerName,
    },
    /// Sets the route that was there before, or removes the service if there was none.
    RestoreRoute {
        /// The service's name in the proxy.
        service: ProxyServiceName,
        /// The earlier route.
        previous: Option<Box<Route>>,
    },
    /// Gives the hosts and paths back to the service that had them, which takes the new one's place in the same moment.
    ReturnRoute {
        /// The new service's name in the proxy.
        service: ProxyServiceName,
        /// The name of the one that had them.
        to: ProxyServiceName,
        /// Its route.
        previous: Box<Route>,
    },
    /// Sends all visitors to the service's own containers.
    EndCanary {
        /// The service's name in the proxy.
        service: ProxyServiceName,
        /// How long requests in flight may take.
        drain: Duration,
    },
    /// Forgets which release is tried.
    ForgetCanary,
    /// Sets the gate that was there before.
    RestoreGate {
        /// The service's name in the proxy.
        service: ProxyServiceName,
        /// The earlier state.
        previous: Gate,
    },
    /// Removes the stand-in once it has ended what it has begun.
    RemoveStandIn,
    /// Lets connections reach the proxy itself again.
    ReleasePorts,
    /// Sends connections to the stand-in again.
    DivertPorts {
        /// The network's name.
        network: String,
    },
    /// Stops the proxy that came and removes it.
    RemoveProxy,
    /// Gives the proxy that was set aside its name back and starts it.
    BringProxyBack {
        /// The name under which it is kept.
        name: ContainerName,
    },
    /// Stops the proxy and keeps its container under another name.
    SetProxyAside {
        /// The name under which it is kept.
        name: ContainerName,
    },
    /// Removes folders that the step made.
    RemoveDirectories {
        /// Folders relative to the login directory.
        directories: Vec<String>,
    },
    /// Lets the agent forget the jobs of the new release.
    ForgetSchedule {
        /// The schedule.
        name: ScheduleName,
        /// The release.
        release: ReleaseId,
    },
    /// Lets those jobs run again that ran before.
    RevertSchedule {
        /// The schedule.
        name: ScheduleName,
        /// The state to which was switched: another one is left.
        from: ScheduleState,
    },
    /// Removes the agent if it has no jobs.
    RemoveAgentIfUnused,
    /// Puts the certificate and key back that were there before, or removes the new ones.
    RestoreCertificate {
        /// Their folder relative to the login directory.
        directory: String,
    },
    /// Puts the users back who could come before, or removes the new file.
    RestoreUsers {
        /// Its folder relative to the login directory.
        directory: String,
    },
}

use std::fmt;

use freehold_model::ScheduleState;

use crate::gate::Gate;
use crate::observed::ProxyMaker;
use crate::plan::{Action, Undo};
use crate::request::BuildPlaceName;

fn proxy_name(maker: ProxyMaker) -> &'static str {
    match maker {
        ProxyMaker::Freehold => "the proxy",
        ProxyMaker::Kamal => "kamal-proxy",
    }
}

fn switch_title(formatter: &mut fmt::Formatter<'_>, role: &str, to: &ScheduleState) -> fmt::Result {
    match to {
        ScheduleState::Off => write!(formatter, "end the jobs of {role} on this host"),
        ScheduleState::Active { .. } => write!(formatter, "run the jobs of {role} when they are due"),
        ScheduleState::Paused { .. } => write!(formatter, "pause the jobs of {role}"),
    }
}

impl fmt::Display for Action {
    /// Says in a few words what is done: `start app-web-3f2a`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuildImage { image, place: BuildPlaceName::Local } => write!(formatter, "build {image}"),
            Self::BuildImage { image, place: BuildPlaceName::Host(host) } => {
                write!(formatter, "build {image} on {host}")
            }
            Self::DeliverImage { image, .. } => write!(formatter, "deliver {image}"),
            Self::CheckRegistry { registry, .. } => write!(formatter, "log in to {registry}"),
            Self::VerifyImage { image, .. } => write!(formatter, "verify the signature of {image}"),
            Self::ScanImage { image, .. } => write!(formatter, "scan {image}"),
            Self::PushImage { image, .. } => write!(formatter, "push {image}"),
            Self::PullImage { image, .. } => write!(formatter, "pull {image}"),
            Self::PullAccessoryImage { image, .. } => write!(formatter, "pull {image}"),
            Self::PlaceFiles { subject, .. } => write!(formatter, "place the files of {subject}"),
            Self::PrepareHost { .. } => formatter.write_str("prepare the host"),
            Self::EnsureProxy { .. } => formatter.write_str("make sure that the proxy runs"),
            Self::UpgradeProxy { .. } => formatter.write_str("let the proxy hand over to this build"),
            Self::DeliverProxyImage => formatter.write_str("deliver the proxy's image"),
            Self::PullProxyImage { image } => write!(formatter, "pull {image}"),
            Self::StartStandIn { .. } => formatter.write_str("start a proxy that stands in"),
            Self::DivertPorts { .. } => formatter.write_str("send new connections to the stand-in"),
            Self::ReleasePorts => formatter.write_str("send new connections to the proxy"),
            Self::SetProxyAside { name, .. } => write!(formatter, "stop the proxy and keep it as {name}"),
            Self::StartProxy { maker: ProxyMaker::Freehold, .. } => {
                formatter.write_str("start Freehold's proxy")
            }
            Self::StartProxy { maker: ProxyMaker::Kamal, .. } => formatter.write_str("start kamal-proxy"),
            Self::BringProxyBack { name } => write!(formatter, "start the proxy kept as {name} again"),
            Self::RemoveStandIn => formatter.write_str("remove the stand-in"),
            Self::RemoveProxyImages => formatter.write_str("remove the images of the proxy"),
            Self::RenameContainer { from, to } => write!(formatter, "rename {from} to {to}"),
            Self::StartContainer(request) => write!(formatter, "start {}", request.name),
            Self::StartAgain { container, .. } => write!(formatter, "start {container} again"),
            Self::AwaitHealthy { container, .. } => write!(formatter, "wait until {container} is healthy"),
            Self::BridgeAssets(bridge) => write!(formatter, "share the assets of {}", bridge.role),
            Self::WriteErrorPages { .. } => formatter.write_str("write the error pages"),
            Self::WriteCertificate { subject, .. } => write!(formatter, "write the certificate of {subject}"),
            Self::WriteUsers { subject, .. } => write!(formatter, "write who may come to {subject}"),
            Self::RunReleaseCommand(command) => {
                write!(formatter, "run the release command of {}", command.role)
            }
            Self::SwitchTarget { .. } | Self::SetGate { .. } => self.of_traffic(formatter),
            Self::RemoveTarget { service, proxy } => {
                write!(formatter, "take {service} out of {}", proxy_name(*proxy))
            }
            Self::EnsureAgent
            | Self::StoreSchedule(_)
            | Self::SwitchSchedule { .. }
            | Self::ForgetSchedules { .. }
            | Self::RemoveSchedule { .. }
            | Self::RemoveAgentIfUnused => self.of_schedules(formatter),
            Self::Soak { duration, .. } => {
                write!(formatter, "watch the new release for {} s", duration.as_secs_f64())
            }
            Self::StopContainer { container, drain: Some(_), .. } => {
                write!(formatter, "drain and stop {container}")
            }
            Self::StopContainer { container, .. } => write!(formatter, "stop {container}"),
            Self::WriteEnvironmentFile { subject, .. } => write!(formatter, "write the secrets of {subject}"),
            Self::RecordRelease { release, .. } => write!(formatter, "record release {}", release.version),
            Self::RecordCanary { .. }
            | Self::StartCanary { .. }
            | Self::EndCanary { .. }
            | Self::ForgetCanary => self.of_canaries(formatter),
            Self::RemoveContainer { container } => write!(formatter, "remove container {container}"),
            Self::RemoveImage { image } => write!(formatter, "remove image {image}"),
            Self::RemoveUnnamedImages { service } => {
                write!(formatter, "remove the images of {service} that have no name")
            }
            Self::ForgetReleases { releases } => {
                let names: Vec<&str> = releases.iter().map(|release| release.as_str()).collect();
                write!(formatter, "forget release {}", names.join(", "))
            }
            Self::RemoveProxyIfUnused => formatter.write_str("remove the proxy if it is unused"),
            Self::RemoveDirectories { directories } => write!(formatter, "remove {}", directories.join(", ")),
            Self::Wait { duration } => write!(formatter, "wait for {} s", duration.as_secs_f64()),
        }
    }
}

impl Action {
    /// Says where requests are sent, or whether they wait. Of anything else it says nothing.
    fn of_traffic(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::SetGate { service, gate, .. } = self {
            return match gate {
                Gate::Open => write!(formatter, "serve {service} again"),
                Gate::Paused { .. } => write!(formatter, "let requests of {service} wait"),
                Gate::Stopped { .. } => write!(formatter, "answer requests of {service} with a page"),
            };
        }
        let Self::SwitchTarget { service, containers, proxy, takes_over, .. } = self else { return Ok(()) };
        let names: Vec<&str> = containers.iter().map(|container| container.as_str()).collect();
        write!(formatter, "send requests of {service} to {}", names.join(", "))?;
        if let Some(former) = takes_over {
            write!(formatter, " in place of {former}")?;
        }
        if proxy.is_freehold() { Ok(()) } else { formatter.write_str(" through kamal-proxy") }
    }

    /// Says what is done with a release that is tried. Of anything else it says nothing.
    fn of_canaries(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RecordCanary { release } => write!(formatter, "note that {} is tried", release.version),
            Self::StartCanary { service, containers, canary, .. } => {
                let names: Vec<&str> = containers.iter().map(|container| container.as_str()).collect();
                write!(formatter, "send {} % of the visitors of {service}", canary.percent)?;
                if !canary.list.is_empty() || canary.header.is_some() {
                    formatter.write_str(", and those who are named,")?;
                }
                write!(formatter, " to {}", names.join(", "))
            }
            Self::EndCanary { service, .. } => {
                write!(formatter, "send all visitors of {service} to its own containers")
            }
            Self::ForgetCanary => formatter.write_str("note that no release is tried"),
            _ => Ok(()),
        }
    }

    /// Says what is done with scheduled jobs. Of anything else it says nothing.
    fn of_schedules(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EnsureAgent => formatter.write_str("make sure that the agent runs"),
            Self::StoreSchedule(set) => {
                let names: Vec<&str> = set.jobs.iter().map(|(job, _)| job.name.as_str()).collect();
                write!(formatter, "store the jobs of {}: {}", set.role, names.join(", "))
            }
            Self::SwitchSchedule { subject, to, .. } => switch_title(formatter, &subject.to_string(), to),
            Self::ForgetSchedules { name, releases } => {
                let names: Vec<&str> = releases.iter().map(|release| release.as_str()).collect();
                write!(formatter, "forget the jobs of {name} in release {}", names.join(", "))
            }
            Self::RemoveSchedule { name } => write!(formatter, "remove the jobs of {name}"),
            Self::RemoveAgentIfUnused => formatter.write_str("remove the agent if it is unused"),
            _ => Ok(()),
        }
    }

    /// Says whether the action takes something away that visitors may need. It is not done where a canary of the host could not
    /// be ended in the same stage: they may still be sent there.
    #[must_use]
    pub fn takes_away(&self) -> bool {
        matches!(
            self,
            Self::ForgetCanary
                | Self::StopContainer { .. }
                | Self::RemoveContainer { .. }
                | Self::RemoveDirectories { .. }
        )
    }

    /// Says whether the action only waits or makes what may be left half made, so that it can be cut short when the
    /// rollout fails elsewhere. Any other action is always let end.
    #[must_use]
    pub fn may_be_cut_short(&self) -> bool {
        matches!(
            self,
            Self::BuildImage { .. }
                | Self::ScanImage { .. }
                | Self::PushImage { .. }
                | Self::PullImage { .. }
                | Self::DeliverImage { .. }
                | Self::PullAccessoryImage { .. }
                | Self::PullProxyImage { .. }
                | Self::AwaitHealthy { .. }
                | Self::Soak { .. }
                | Self::Wait { .. }
        )
    }
}

impl fmt::Display for Undo {
    /// Says in a few words what is undone: `remove container app-web-3f2a`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => formatter.write_str("leave it"),
            Self::Impossible => formatter.write_str("cannot be undone"),
            Self::RemoveContainer { container } => write!(formatter, "remove container {container}"),
            Self::StopContainer { container } => write!(formatter, "stop {container}"),
            Self::StartContainer { container } => write!(formatter, "start {container} again"),
            Self::RenameContainer { from, to } => write!(formatter, "rename {from} to {to}"),
            Self::RestoreRoute { service, previous: None } => {
                write!(formatter, "take {service} out of the proxy")
            }
            Self::RestoreRoute { service, previous: Some(route) } => {
                write!(formatter, "send requests of {service} back to {}", route.targets.join(", "))
            }
            Self::ReturnRoute { service, to, previous } => {
                write!(
                    formatter,
                    "send the requests that {service} took over back to {to}: {}",
                    previous.targets.join(", ")
                )
            }
            Self::RemoveStandIn => formatter.write_str("remove the stand-in"),
            Self::ReleasePorts => formatter.write_str("send new connections to the proxy"),
            Self::DivertPorts { .. } => formatter.write_str("send new connections to the stand-in"),
            Self::RemoveProxy => formatter.write_str("remove the new proxy"),
            Self::BringProxyBack { name } => write!(formatter, "start the proxy kept as {name} again"),
            Self::SetProxyAside { name } => write!(formatter, "stop the proxy and keep it as {name}"),
            Self::EndCanary { service, .. } => {
                write!(formatter, "send all visitors of {service} to its own containers")
            }
            Self::ForgetCanary => formatter.write_str("note that no release is tried"),
            Self::RestoreGate { service, previous: Gate::Open } => {
                write!(formatter, "serve {service} again")
            }
            Self::RestoreGate { service, .. } => write!(formatter, "close {service} again"),
            Self::RemoveDirectories { directories } => write!(formatter, "remove {}", directories.join(", ")),
            Self::ForgetSchedule { name, .. } => write!(formatter, "forget the new jobs of {name}"),
            Self::RevertSchedule { name, .. } => write!(formatter, "run the earlier jobs of {name} again"),
            Self::RemoveAgentIfUnused => formatter.write_str("remove the agent if it is unused"),
            Self::RestoreCertificate { .. } => formatter.write_str("put the earlier certificate back"),
            Self::RestoreUsers { .. } => formatter.write_str("put back who could come before"),
        }
    }
}

//! A short proof after a change: from this computer, of the ports that the change concerns.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use freehold_fleet::{PublishedBy, ReachTarget, Reachability, database_from_here, reach_from_here};
use freehold_model::{
    Diagnose, ErrorKind, Evidence, FirewallPorts, HostName, PortProtocol, Project, PublishedPorts,
};
use serde::Serialize;

use super::Survey;
use super::probe::{Check, Meaning, Subject, Vantage, word};
use crate::change::Change;
use crate::context::Context;
use crate::error::CommandError;
use crate::hosts::Hosts;
use crate::preflight::Building;
use crate::ui::{Line, Tone, counted_items};

/// A change left something that is not as the deploy file says.
#[derive(Debug, thiserror::Error)]
#[error("the change is done, and {} not as the deploy file says", counted(differs.len()))]
pub(crate) struct StillDiffers {
    differs: Vec<String>,
}

/// Says how many connections are something.
pub(crate) fn counted(count: usize) -> String {
    if count == 1 { "1 connection is".to_owned() } else { format!("{count} connections are") }
}

impl Diagnose for StillDiffers {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }

    fn evidence(&self) -> Vec<Evidence> {
        vec![Evidence { title: "tried from this computer".to_owned(), lines: self.differs.clone() }]
    }

    fn help(&self) -> Vec<String> {
        vec!["look further: `freehold firewall verify`".to_owned()]
    }
}

/// How long an answer is waited for, twice.
const WAIT: Duration = Duration::from_secs(2);

/// What a short proof shows.
#[derive(Debug, Default, Serialize)]
pub(crate) struct ShortProof {
    /// How many tries told something.
    pub(crate) proven: usize,
    /// How many did not.
    pub(crate) not_checked: usize,
    /// What is not as the deploy file says.
    pub(crate) differs: Vec<String>,
}

impl ShortProof {
    /// Makes what differs an error.
    ///
    /// # Errors
    /// [`StillDiffers`] if something does.
    pub(crate) fn check(&self) -> Result<(), StillDiffers> {
        if self.differs.is_empty() { Ok(()) } else { Err(StillDiffers { differs: self.differs.clone() }) }
    }

    /// Says it in a line, and what differs in lines of warning.
    pub(crate) fn show(&self, context: &Context) {
        for text in &self.differs {
            context.ui.warn(format!("{text}; look further with `freehold firewall verify`"));
        }
        if self.differs.is_empty() {
            let told = match (self.proven, self.not_checked) {
                (0, 0) => return,
                (0, _) => "from this computer nothing can be told of the ports concerned".to_owned(),
                (proven, 0) => {
                    format!("tried from this computer: {}, all as the deploy file says", ports(proven))
                }
                (proven, left) => format!(
                    "tried from this computer: {} as the deploy file says, {left} not told from here",
                    ports(proven)
                ),
            };
            context.ui.note(Line::new().plain("  ").add(Tone::Faint, told));
        }
    }
}

fn ports(count: usize) -> String {
    counted_items(count, "port")
}

/// What is published somewhere, by the host.
pub(crate) type Concerned = BTreeMap<HostName, Vec<FirewallPorts>>;

/// Returns the ports that a text of `--publish` opens to others.
pub(crate) fn opened(text: &str) -> Option<FirewallPorts> {
    PublishedPorts::parse(text).filter(|published| !published.is_loopback()).map(|published| published.ports)
}

/// Returns the ports that roles publish themselves, by the host.
pub(crate) fn of_roles(project: &Project) -> Concerned {
    let mut concerned = Concerned::new();
    for role in project.roles.values() {
        let ports: Vec<FirewallPorts> = role.options.publish.iter().filter_map(|text| opened(text)).collect();
        for host in role.hosts.iter().filter(|_| !ports.is_empty()) {
            concerned.entry(host.name.clone()).or_default().extend(ports.iter().copied());
        }
    }
    concerned
}

/// Returns this computer's address as a host sees it, unless we come through another host.
pub(crate) fn seen_as(project: &Project, survey: &Survey, name: &HostName) -> Option<IpAddr> {
    let client = survey.state(name)?.network.ssh?.client;
    let is_of_project = |host: HostName| {
        survey
            .state(&host)
            .is_some_and(|state| state.network.own_addresses().any(|entry| entry.address == client))
    };
    let is_direct = project.ssh.proxy.is_empty() && project.ssh.proxy_command.is_none();
    (is_direct && !project.all_hosts().into_iter().any(is_of_project)).then_some(client)
}

/// Returns this computer as a place to try from.
pub(crate) fn this_computer(project: &Project, survey: &Survey, name: &HostName) -> Vantage {
    let seen_as = seen_as(project, survey, name);
    Vantage { name: "this computer".to_owned(), seen_as, is_outside: true }
}

/// Tells one try.
pub(crate) fn tell(name: &HostName, from: &str, check: &Check) -> String {
    let behind = check.behind.as_deref().map(|behind| format!(", {behind}")).unwrap_or_default();
    let answers = check.database.as_ref().map(|answer| format!(", {answer}, answers")).unwrap_or_default();
    let address = SocketAddr::new(check.target.address, check.target.port);
    format!("{name}: {address}/{} from {from}: {}{behind}{answers}", check.target.protocol, word(check.seen))
}

/// Looks at the hosts anew and tries the ports that a change concerns. That it cannot is a warning: the change is done.
pub(crate) async fn after(change: &Change<'_>, concerned: &Concerned) {
    if concerned.keys().all(HostName::is_local) {
        return;
    }
    let (context, project) = (change.context, &change.loaded.whole);
    let all = project.all_hosts();
    let lacks_some = all.iter().any(|host| change.hosts.get(host).is_none());
    let every = lacks_some.then(|| Hosts::new(context, project, &all, &change.secrets, Building::default()));
    let every = every.flatten();
    let hosts = every.as_ref().unwrap_or(&change.hosts);
    let look = async || -> Result<ShortProof, CommandError> {
        let survey = Survey::take(project, hosts).await?;
        try_ports(context, project, (hosts, &survey), concerned).await
    };
    match look().await {
        Ok(proof) => proof.show(context),
        Err(error) => context.ui.warn(format!(
            "whether the ports are open to others was not tried: {}; `freehold firewall verify` does",
            error.diagnose()
        )),
    }
}

/// Tries ports of hosts from this computer.
///
/// # Errors
/// An engine that does not say what is published.
pub(crate) async fn try_ports(
    context: &Context,
    project: &Project,
    (hosts, survey): (&Hosts, &Survey),
    concerned: &Concerned,
) -> Result<ShortProof, CommandError> {
    let mut proof = ShortProof::default();
    for (name, ports) in concerned.iter().filter(|(name, _)| !name.is_local()) {
        let (Some(host), Some(state)) = (hosts.get(name), survey.state(name)) else { continue };
        let published: Vec<PublishedBy> = host.published_ports().await?;
        let rules = survey.wanted(name);
        let subject = Subject { state, rules: &rules, published: &published };
        let activity = context.ui.begin("verify", name.as_str());
        let report = reach_from_here(&subject.targets_of(ports), WAIT).await;
        let checks = subject.judge(&this_computer(project, survey, name), &report, &BTreeSet::new());
        for mut check in checks {
            name_database(&mut check).await;
            match check.meaning {
                Meaning::Exposed | Meaning::Blocked => {
                    let why = check.meaning.word();
                    proof.differs.push(format!("{}: {why}", tell(name, "this computer", &check)));
                }
                Meaning::Expected => proof.proven += 1,
                Meaning::Free | Meaning::NotChecked => proof.not_checked += 1,
            }
        }
        activity.done(None);
    }
    Ok(proof)
}

/// Finds out which database it is that is open to this computer and should not be.
async fn name_database(check: &mut Check) {
    if is_worth_asking(check) {
        check.database = database_from_here(address(check.target), WAIT).await;
    }
}

/// Says whether something answers that should not.
pub(crate) fn is_worth_asking(check: &Check) -> bool {
    check.meaning == Meaning::Exposed
        && check.seen == Reachability::Open
        && check.target.protocol == PortProtocol::Tcp
}

/// Returns a target's address.
pub(crate) fn address(target: ReachTarget) -> SocketAddr {
    SocketAddr::new(target.address, target.port)
}

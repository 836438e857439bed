use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use freehold_docker::PublishedPort;
use freehold_fleet::{EngineHost, HostError, ReachReport, ReachTarget, Reachability, reach_from_here};
use freehold_model::{Diagnose, ErrorKind, Evidence, HostName, Project};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::context::Context;
use crate::error::{CommandError, UsageError};
use crate::filter;
use crate::guard::Survey;
use crate::guard::probe::{Check, Meaning, Subject, Vantage, word};
use crate::sight::Sight;
use crate::ui::{Line, Table, Tone, counted_items};

/// Prove from outside that the hosts let in what the deploy file says, and nothing else.
///
/// Connections are tried to every address of every host, from this computer, from the other hosts, and from those that `--from`
/// names: to every port that is published, listened on, or let in, and to those of well-known databases. Nothing that a host
/// says of its own firewall is believed. Exits with 1 when something is open that should be closed, or the other way round.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  freehold firewall verify\n  freehold firewall verify -h db-1 --from monitor.example.com"
)]
pub(crate) struct Args {
    /// Try from these hosts, too; they are reached by SSH like those of the project, and need not belong to it.
    #[arg(long, value_name = "HOSTS", value_delimiter = ',')]
    from: Vec<String>,

    /// How many seconds to wait for an answer, twice.
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
}

/// Something is not as the deploy file says.
#[derive(Debug, thiserror::Error)]
#[error("{} not as the deploy file says", counted(.exposed.len() + .blocked.len()))]
struct Differs {
    exposed: Vec<String>,
    blocked: Vec<String>,
    firewalls: BTreeMap<HostName, Vec<String>>,
}

fn counted(count: usize) -> String {
    if count == 1 { "1 connection is".to_owned() } else { format!("{count} connections are") }
}

impl Diagnose for Differs {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }

    fn evidence(&self) -> Vec<Evidence> {
        let of =
            |title: &str, lines: &Vec<String>| Evidence { title: title.to_owned(), lines: lines.clone() };
        vec![of("open, and should be closed", &self.exposed), of("closed, and should be open", &self.blocked)]
    }

    fn help(&self) -> Vec<String> {
        let mut help = Vec::new();
        if !self.exposed.is_empty() {
            help.push(
                "close everything that the deploy file does not name: `freehold firewall apply`".to_owned(),
            );
            help.push("or publish the port at a private address: `port: \"10.0.0.5:5432:5432\"`".to_owned());
            help.push("or let it in: `firewall: {allow: [{port: 5432, from: any}]}`".to_owned());
        }
        if !self.blocked.is_empty() {
            for (host, names) in &self.firewalls {
                help.push(format!(
                    "{} on host `{host}` may drop it: allow it there, too",
                    names.join(" and ")
                ));
            }
            help.push("see what the guard of the host has dropped: `freehold firewall show`".to_owned());
        }
        help
    }

    fn is_in_result(&self) -> bool {
        true
    }
}

#[derive(Debug, Serialize)]
struct Verified {
    as_expected: bool,
    hosts: Vec<VerifiedHost>,
}

#[derive(Debug, Serialize)]
struct VerifiedHost {
    host: String,
    ports_left_out: usize,
    checks: Vec<VerifiedPort>,
}

#[derive(Debug, Serialize)]
struct VerifiedPort {
    from: String,
    protocol: String,
    address: String,
    port: u16,
    seen: &'static str,
    expected: &'static str,
    verdict: &'static str,
    behind: Option<String>,
}

/// Somewhere that is tried from.
enum Place {
    Here,
    Host(Arc<EngineHost>),
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let more = vantages(&arguments.from)?;
    let sight = Sight::of_all_and(context, &more).await?;
    let whole = &sight.loaded.whole;
    let survey = Survey::take(whole, &sight.hosts).await?;
    let names = filter::all_hosts(whole, &sight.loaded.chosen, &context.arguments);
    let verification = Verification {
        context,
        sight: &sight,
        survey: &survey,
        wait: Duration::from_secs(arguments.timeout),
    };
    let mut hosts = Vec::new();
    for name in &names {
        hosts.push((name.clone(), verification.host(name, &more).await?));
    }
    context.ui.close();
    let differs = differs(&survey, &hosts);
    context.ui.result(&lines(context, &hosts));
    let is_good = differs.exposed.is_empty() && differs.blocked.is_empty();
    let hosts = hosts.into_iter().map(|(name, found)| verified(&name, found)).collect();
    context.ui.result_json(context.command, &Verified { as_expected: is_good, hosts });
    if is_good { Ok(()) } else { Err(differs.into()) }
}

fn vantages(texts: &[String]) -> Result<Vec<HostName>, UsageError> {
    let parse = |text: &String| {
        HostName::parse(text.as_str()).map_err(|error| UsageError::new(error.to_string()).help(error.rule()))
    };
    texts.iter().map(parse).collect()
}

/// What was found of one host.
struct Found {
    checks: Vec<(String, Check)>,
    left_out: usize,
}

struct Verification<'a> {
    context: &'a Context,
    sight: &'a Sight,
    survey: &'a Survey,
    wait: Duration,
}

impl Verification<'_> {
    /// Tries one host from everywhere, all places at once.
    async fn host(&self, name: &HostName, more: &[HostName]) -> Result<Found, CommandError> {
        let (Some(state), Some(host)) = (self.survey.state(name), self.sight.hosts.get(name)) else {
            return Ok(Found { checks: Vec::new(), left_out: 0 });
        };
        let published: Vec<(PublishedPort, String)> = host.published_ports().await?;
        let rules = self.survey.wanted(name);
        let subject = Subject { state, rules: &rules, published: &published };
        let (targets, left_out) = subject.targets();
        let activity = self.context.ui.begin("verify", name.as_str());
        let mut tries = JoinSet::new();
        for (vantage, place) in self.places(name, more) {
            let (targets, wait) = (targets.clone(), self.wait);
            tries.spawn(async move { (vantage, try_from(place, &targets, wait).await) });
        }
        let mut reports: Vec<(Vantage, Result<ReachReport, HostError>)> = tries.join_all().await;
        reports.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        let mut checks = Vec::new();
        for (vantage, report) in reports {
            let judged = subject.judge(&vantage, &report?);
            checks.extend(judged.into_iter().map(|check| (vantage.name.clone(), check)));
        }
        activity.done(Some(format!("{} tries", checks.len())));
        Ok(Found { checks, left_out })
    }

    fn places(&self, name: &HostName, more: &[HostName]) -> Vec<(Vantage, Place)> {
        let whole = &self.sight.loaded.whole;
        let mut places = Vec::new();
        if !name.is_local() {
            let seen_as = seen_as(whole, self.survey, name);
            places
                .push((Vantage { name: "this computer".to_owned(), seen_as, is_outside: true }, Place::Here));
        }
        let others: BTreeSet<HostName> = whole.all_hosts().into_iter().chain(more.iter().cloned()).collect();
        for other in others.iter().filter(|other| *other != name) {
            let Some(host) = self.sight.hosts.get(other) else { continue };
            let vantage = Vantage { name: other.to_string(), seen_as: None, is_outside: false };
            places.push((vantage, Place::Host(Arc::clone(host))));
        }
        places
    }
}

/// Returns this computer's address as a host sees it, unless we come through another host.
fn seen_as(project: &Project, survey: &Survey, name: &HostName) -> Option<IpAddr> {
    let client = survey.state(name)?.network.ssh?.client;
    let is_of_project = |host: HostName| {
        survey
            .state(&host)
            .is_some_and(|state| state.network.own_addresses().any(|entry| entry.address == client))
    };
    let is_direct = project.ssh.proxy.is_empty() && project.ssh.proxy_command.is_none();
    (is_direct && !project.all_hosts().into_iter().any(is_of_project)).then_some(client)
}

async fn try_from(place: Place, targets: &[ReachTarget], wait: Duration) -> Result<ReachReport, HostError> {
    match place {
        Place::Here => Ok(reach_from_here(targets, wait).await),
        Place::Host(host) => host.reach(targets, wait).await,
    }
}

fn tell(name: &HostName, from: &str, check: &Check) -> String {
    let behind = check.behind.as_deref().map(|behind| format!(", {behind}")).unwrap_or_default();
    let address = std::net::SocketAddr::new(check.target.address, check.target.port);
    format!("{name}: {address}/{} from {from}: {}{behind}", check.target.protocol, word(check.seen))
}

fn differs(survey: &Survey, hosts: &[(HostName, Found)]) -> Differs {
    let mut differs = Differs { exposed: Vec::new(), blocked: Vec::new(), firewalls: BTreeMap::new() };
    for (name, found) in hosts {
        for (from, check) in &found.checks {
            match check.meaning {
                Meaning::Exposed => differs.exposed.push(tell(name, from, check)),
                Meaning::Blocked => {
                    differs.blocked.push(tell(name, from, check));
                    let beside = survey.state(name).map(|state| state.firewalls.clone()).unwrap_or_default();
                    if !beside.is_empty() {
                        differs.firewalls.insert(name.clone(), beside);
                    }
                }
                Meaning::Expected | Meaning::Free | Meaning::NotChecked => {}
            }
        }
    }
    differs
}

/// Shows what is open and what is not as it should be; the rest is counted, but for `--verbose`.
fn lines(context: &Context, hosts: &[(HostName, Found)]) -> Vec<Line> {
    let mut lines = Vec::new();
    for (name, found) in hosts {
        let mut table = Table::new(["from", "address", "seen", "", "behind"]);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for (from, check) in &found.checks {
            let is_telling = check.seen == Reachability::Open || check.meaning.is_bad();
            if !is_telling && !context.arguments.verbose {
                let what = match check.meaning {
                    Meaning::Expected => "closed as expected".to_owned(),
                    _ => format!("{}, {}", word(check.seen), check.meaning.word()),
                };
                *counts.entry(what).or_default() += 1;
                continue;
            }
            let tone = match check.meaning {
                Meaning::Exposed | Meaning::Blocked => Tone::Bad,
                Meaning::Expected => Tone::Good,
                Meaning::Free | Meaning::NotChecked => Tone::Faint,
            };
            let address = std::net::SocketAddr::new(check.target.address, check.target.port);
            table.row([
                (Tone::Plain, from.clone()),
                (Tone::Plain, format!("{address}/{}", check.target.protocol)),
                (Tone::Plain, word(check.seen).to_owned()),
                (tone, check.meaning.word().to_owned()),
                (Tone::Faint, check.behind.clone().unwrap_or_default()),
            ]);
        }
        lines.push(Line::new().add(Tone::Strong, name.as_str()));
        if !table.is_empty() {
            lines.extend(table.lines());
        }
        let counts: Vec<String> = counts.into_iter().map(|(what, count)| format!("{count} {what}")).collect();
        if !counts.is_empty() {
            lines.push(Line::new().add(Tone::Faint, counts.join("; ")));
        }
        if found.left_out > 0 {
            let text = format!("{} not tried: there are too many", counted_items(found.left_out, "port"));
            lines.push(Line::new().add(Tone::Warn, text));
        }
        lines.push(Line::new());
    }
    lines
}

fn verified(name: &HostName, found: Found) -> VerifiedHost {
    let port = |(from, check): (String, Check)| VerifiedPort {
        from,
        protocol: check.target.protocol.to_string(),
        address: check.target.address.to_string(),
        port: check.target.port,
        seen: word(check.seen),
        expected: check.expected,
        verdict: check.meaning.word(),
        behind: check.behind,
    };
    VerifiedHost {
        host: name.to_string(),
        ports_left_out: found.left_out,
        checks: found.checks.into_iter().map(port).collect(),
    }
}

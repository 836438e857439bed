mod report;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use freehold_fleet::{
    DatabaseAnswer, EngineHost, HostError, PublishedBy, ReachReport, ReachTarget, Reachability,
    database_from_here, reach_from_here,
};
use freehold_model::{HostName, PortProtocol};
use tokio::task::JoinSet;

use crate::context::Context;
use crate::error::{CommandError, UsageError};
use crate::filter;
use crate::guard::Survey;
use crate::guard::probe::{Check, Subject, Vantage};
use crate::guard::short::{address, is_worth_asking, this_computer};
use crate::sight::Sight;

/// Prove from outside that the hosts let in what the deploy file says, and nothing else.
///
/// Connections are tried to every address of every host, from this computer, from the other hosts, and from those that `--from`
/// names: to every port that is published, listened on, or let in, and to those of well-known databases. Nothing that a host
/// says of its own firewall is believed. Where a port of a database is open that should not be, the database that answers is
/// named. Exits with 1 when something is open that should be closed, or the other way round, and when nothing of a host could
/// be proven.
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

/// Somewhere that is tried from.
#[derive(Clone)]
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
    report::show(context, &survey, hosts)
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

impl Found {
    /// Says whether anything was shown, whatever it was.
    fn is_proven(&self) -> bool {
        self.checks.iter().any(|(_, check)| check.is_proof())
    }
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
        let published: Vec<PublishedBy> = host.published_ports().await?;
        let rules = self.survey.wanted(name);
        let subject = Subject { state, rules: &rules, published: &published };
        let (targets, left_out) = subject.targets();
        let activity = self.context.ui.begin("verify", name.as_str());
        let mut tries = JoinSet::new();
        for (vantage, place) in self.places(name, more) {
            let (targets, wait) = (targets.clone(), self.wait);
            tries.spawn(async move {
                let report = try_from(&place, &targets, wait).await;
                (vantage, place, report)
            });
        }
        let mut reports = Vec::new();
        for (vantage, place, report) in tries.join_all().await {
            reports.push((vantage, place, report?));
        }
        reports.sort_by(|(one, ..), (other, ..)| one.name.cmp(&other.name));
        let is_answer = |(target, seen): &(&ReachTarget, &Reachability)| {
            let is_answer = matches!(seen, Reachability::Open | Reachability::Refused);
            target.protocol == PortProtocol::Udp && is_answer
        };
        let seen = reports.iter().flat_map(|(.., report)| &report.seen);
        let answering: BTreeSet<ReachTarget> = seen.filter(is_answer).map(|(target, _)| *target).collect();
        let mut checks = Vec::new();
        for (vantage, place, report) in reports {
            for mut check in subject.judge(&vantage, &report, &answering) {
                if is_worth_asking(&check) {
                    check.database = database_at(&place, address(check.target), self.wait).await;
                }
                checks.push((vantage.name.clone(), check));
            }
        }
        activity.done(Some(format!("{} tries", checks.len())));
        Ok(Found { checks, left_out })
    }

    fn places(&self, name: &HostName, more: &[HostName]) -> Vec<(Vantage, Place)> {
        let whole = &self.sight.loaded.whole;
        let mut places = Vec::new();
        if !name.is_local() {
            places.push((this_computer(whole, self.survey, name), Place::Here));
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

async fn database_at(place: &Place, address: SocketAddr, wait: Duration) -> Option<DatabaseAnswer> {
    match place {
        Place::Here => database_from_here(address, wait).await,
        Place::Host(host) => host.database_from(address, wait).await,
    }
}

async fn try_from(place: &Place, targets: &[ReachTarget], wait: Duration) -> Result<ReachReport, HostError> {
    match place {
        Place::Here => Ok(reach_from_here(targets, wait).await),
        Place::Host(host) => host.reach(targets, wait).await,
    }
}

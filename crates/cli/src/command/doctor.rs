use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use freehold_fleet::{EngineHost, Examination};
use freehold_model::{Accessory, Diagnose, ErrorKind, HostName, Project};
use freehold_plan::doctor::{self, Check, Examined, Finding, Surroundings, Unseen, Verdict};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::context::Context;
use crate::error::CommandError;
use crate::sight::Sight;
use crate::ui::{Line, Table, Tone, counted_items};

/// Find out what keeps the hosts from working, and what mends it.
///
/// Every host is looked at, and every hop on the way to it: names, routes, ports, host keys, logins; the container
/// engine, disks, memory, clock, processor; the names and ports of the proxy, the registry, certificates; the deploy
/// lock, rollouts that did not end, and what runs in place of what the deploy file says. Nothing is changed.
///
/// It ends with 1 if there is a fault, with 4 if a host cannot be reached, and with 0 otherwise, also with warnings.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    freehold doctor\n  \
    freehold doctor -h 'web-*' --json\n  \
    freehold doctor --all   # also what is as it should be")]
pub(crate) struct Args {
    /// Also show what is as it should be.
    #[arg(long)]
    all: bool,
}

/// What was found on everything together.
#[derive(Debug, Serialize)]
struct Diagnosis {
    is_healthy: bool,
    faults: usize,
    warnings: usize,
    findings: Vec<Finding>,
}

/// There are faults. They were shown already.
#[derive(Debug, thiserror::Error)]
#[error("{}", counted_items(*.faults, "fault"))]
struct Unwell {
    faults: usize,
    kind: ErrorKind,
}

impl Diagnose for Unwell {
    fn kind(&self) -> ErrorKind {
        self.kind
    }

    fn is_told(&self) -> bool {
        true
    }
}

type Seen = BTreeMap<HostName, Result<Box<Examined>, Unseen>>;

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let sight = Sight::of_everything(context).await?;
    let project = Arc::new(sight.loaded.chosen.clone());
    let names = doctor::names(&project);
    let (seen, names) = tokio::join!(look(&sight, &project), resolve(names));
    let around = Surroundings { project: &sight.loaded.chosen, now_seconds: context.now().as_second() };
    let mut findings = Vec::new();
    for name in sight.hosts.names() {
        findings.extend(seen.get(name).map(|seen| doctor::examine(around, name, seen)).unwrap_or_default());
    }
    findings.extend(doctor::examine_names(&names));
    findings.extend(doctor::compare(around, &seen));
    context.ui.close();
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (faults, warnings) = (count(Verdict::Fault), count(Verdict::Warning));
    let kind = kind(&findings);
    let diagnosis = Diagnosis { is_healthy: faults == 0, faults, warnings, findings };
    context.ui.result(&lines(&diagnosis, sight.hosts.names().len(), arguments.all));
    context.ui.result_json(context.command, &diagnosis);
    if faults == 0 { Ok(()) } else { Err(Unwell { faults, kind }.into()) }
}

/// A host that cannot be reached goes before everything else.
fn kind(findings: &[Finding]) -> ErrorKind {
    let is_of_way = |finding: &&Finding| {
        let way = [
            Check::Configuration,
            Check::Name,
            Check::Route,
            Check::Port,
            Check::Jump,
            Check::Handshake,
            Check::HostKey,
            Check::Authentication,
            Check::Shell,
        ];
        finding.verdict == Verdict::Fault && way.contains(&finding.check)
    };
    if findings.iter().any(|finding| is_of_way(&finding)) {
        ErrorKind::Unreachable
    } else {
        ErrorKind::Failed
    }
}

/// Looks at every host, all at once.
async fn look(sight: &Sight, project: &Arc<Project>) -> Seen {
    let whole = &sight.loaded.whole;
    let keeper = whole.all_hosts().into_iter().next();
    let mut tasks = JoinSet::new();
    for name in sight.hosts.names() {
        let Some(engine) = sight.hosts.get(name).cloned() else { continue };
        let of_host = whole.accessories.values().filter(|accessory| accessory.hosts.contains(name));
        let accessories: Vec<Accessory> = of_host.cloned().collect();
        let keeps_lock = keeper.as_ref() == Some(name);
        let (name, project) = (name.clone(), Arc::clone(project));
        tasks.spawn(async move { (name, examine(&engine, &project, &accessories, keeps_lock).await) });
    }
    tasks.join_all().await.into_iter().collect()
}

async fn examine(
    engine: &EngineHost,
    project: &Project,
    accessories: &[Accessory],
    keeps_lock: bool,
) -> Result<Box<Examined>, Unseen> {
    let accessories: Vec<&Accessory> = accessories.iter().collect();
    engine.examine(Examination { project, accessories: &accessories, keeps_lock }).await
}

/// Looks the proxy's names up here, as visitors do.
async fn resolve(names: Vec<String>) -> BTreeMap<String, Result<Vec<IpAddr>, String>> {
    let mut tasks = JoinSet::new();
    for name in names {
        tasks.spawn(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let addresses = found.map(|found| {
                let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
                addresses.sort();
                addresses.dedup();
                addresses
            });
            (name, addresses.map_err(|error| error.to_string()))
        });
    }
    tasks.join_all().await.into_iter().collect()
}

fn lines(diagnosis: &Diagnosis, hosts: usize, all: bool) -> Vec<Line> {
    let mut lines = Vec::new();
    if all {
        let mut table = Table::new(["host", "check", ""]);
        for finding in diagnosis.findings.iter().filter(|finding| finding.verdict == Verdict::Good) {
            table.row([
                (Tone::Strong, host_of(finding)),
                (Tone::Plain, check_of(finding)),
                (Tone::Good, finding.finding.clone()),
            ]);
        }
        if !table.is_empty() {
            lines.extend(table.lines());
            lines.push(Line::new());
        }
    }
    // The worst first; within that the order in which things have to be mended.
    for verdict in [Verdict::Fault, Verdict::Warning] {
        let (tone, word) =
            if verdict == Verdict::Fault { (Tone::Bad, "fault") } else { (Tone::Warn, "warning") };
        for finding in diagnosis.findings.iter().filter(|finding| finding.verdict == verdict) {
            let place = Some(host_of(finding)).filter(|host| !host.is_empty());
            let place = place.map_or_else(String::new, |host| format!("{host}  "));
            lines.push(Line::new().add(tone, format!("{word}  ")).add(Tone::Strong, place).plain(format!(
                "{}: {}",
                check_of(finding),
                finding.finding
            )));
            lines.extend(finding.cause.iter().map(|cause| Line::new().plain(format!("  because  {cause}"))));
            lines
                .extend(finding.fix.iter().map(|fix| Line::new().add(Tone::Faint, "  mend     ").plain(fix)));
        }
    }
    let of_hosts = counted_items(hosts, "host");
    let looked = format!("{} on {of_hosts}", counted_items(diagnosis.findings.len(), "finding"));
    let summary = format!(
        "{looked}: {}, {}",
        counted_items(diagnosis.faults, "fault"),
        counted_items(diagnosis.warnings, "warning")
    );
    lines.push(Line::new().add(if diagnosis.is_healthy { Tone::Good } else { Tone::Bad }, summary));
    lines
}

fn host_of(finding: &Finding) -> String {
    finding.host.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// Returns the check's name as JSON has it.
fn check_of(finding: &Finding) -> String {
    let name = serde_json::to_value(finding.check).ok();
    name.and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

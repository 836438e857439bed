use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use freehold_fleet::{Failures, Host as _, HostError};
use freehold_model::{Diagnose, ErrorKind, HostName};
use freehold_plan::{HardeningItem, HardeningPlan, harden as plan};
use freehold_ssh::Prompt as _;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::context::Context;
use crate::error::CommandError;
use crate::hosts::Hosts;
use crate::ui::{Table, Tone, counted_items};

/// What became of a host.
#[derive(Debug, Serialize)]
pub(super) struct Hardened {
    host: HostName,
    changed: Vec<HardeningItem>,
    unchanged: BTreeSet<HardeningItem>,
    left: BTreeMap<HardeningItem, String>,
}

/// A person said no, or nobody could be asked.
#[derive(Debug, thiserror::Error)]
enum Declined {
    #[error("this changes settings of {} and nobody can be asked", counted_items(*.0, "host"))]
    NobodyToAsk(usize),
    #[error("no host was hardened")]
    No,
}

impl Diagnose for Declined {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Declined
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NobodyToAsk(_) => vec!["say yes beforehand: `--yes`".to_owned()],
            Self::No => Vec::new(),
        }
    }
}

/// Shows what would change on the hosts, asks, and changes it, one item after the other on every host at a time. A host
/// on which one fails goes no further; the others do.
///
/// # Errors
/// Every host that failed, or that nobody said yes.
pub(super) async fn harden(
    context: &Context,
    hosts: &Hosts,
    without: &BTreeSet<HardeningItem>,
    is_agreed: bool,
) -> Result<Vec<Hardened>, CommandError> {
    let facts = hosts.each(|host| async move { host.server_facts().await }).await?;
    let plans: Vec<(HostName, HardeningPlan)> =
        facts.into_iter().map(|(host, facts)| (host, plan(&facts, without))).collect();
    show(context, &plans);
    let count = plans.iter().filter(|(_, plan)| !plan.changes.is_empty()).count();
    if count > 0 && !is_agreed {
        if !context.ui.can_ask() {
            return Err(Declined::NobodyToAsk(count).into());
        }
        let question = format!("Change these settings of {}?", counted_items(count, "host"));
        if !context.ui.confirm(&question).await {
            return Err(Declined::No.into());
        }
    }
    apply(context, hosts, &plans).await?;
    let hardened = plans.into_iter().map(|(host, plan)| Hardened {
        host,
        changed: plan.changes.iter().map(|change| change.item).collect(),
        unchanged: plan.done,
        left: plan.left,
    });
    Ok(hardened.collect())
}

fn show(context: &Context, plans: &[(HostName, HardeningPlan)]) {
    let mut table = Table::new(["HOST", "ITEM", "NOW", "THEN"]);
    for (host, plan) in plans {
        let name = || (Tone::Plain, host.to_string());
        let item = |item: HardeningItem| (Tone::Strong, item.as_str().to_owned());
        for change in &plan.changes {
            let then = (Tone::Good, change.after.clone());
            table.row([name(), item(change.item), (Tone::Plain, change.before.clone()), then]);
        }
        for done in &plan.done {
            table.row([
                name(),
                item(*done),
                (Tone::Faint, "as it should be".to_owned()),
                (Tone::Plain, String::new()),
            ]);
        }
        for (left, reason) in &plan.left {
            table.row([
                name(),
                item(*left),
                (Tone::Faint, format!("left alone: {reason}")),
                (Tone::Plain, String::new()),
            ]);
        }
    }
    for line in table.lines() {
        context.ui.note(line);
    }
}

async fn apply(
    context: &Context,
    hosts: &Hosts,
    plans: &[(HostName, HardeningPlan)],
) -> Result<(), CommandError> {
    let mut failed: BTreeMap<HostName, HostError> = BTreeMap::new();
    for item in HardeningItem::ALL {
        let changes =
            plans.iter().filter(|(host, _)| !failed.contains_key(host)).filter_map(|(host, plan)| {
                let change = plan.changes.iter().find(|change| change.item == item)?;
                Some((hosts.get(host).map(Arc::clone)?, change.action.clone()))
            });
        let changes: Vec<_> = changes.collect();
        if changes.is_empty() {
            continue;
        }
        let names: Vec<&str> = changes.iter().map(|(host, _)| host.name().as_str()).collect();
        let activity = context.ui.begin(item.as_str(), &names.join(", "));
        let mut work = JoinSet::new();
        for (host, action) in changes {
            work.spawn(async move {
                let outcome = host.harden(&action).await;
                (host.name().clone(), outcome)
            });
        }
        let outcomes = work.join_all().await.into_iter();
        let errors: Vec<_> =
            outcomes.filter_map(|(host, outcome)| outcome.err().map(|error| (host, error))).collect();
        if errors.is_empty() {
            activity.done(None);
        }
        failed.extend(errors);
    }
    Failures::of(failed.into_values().collect()).map_or(Ok(()), |failures| Err(failures.into()))
}

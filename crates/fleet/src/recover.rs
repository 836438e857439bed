use std::collections::BTreeMap;

use freehold_model::{Diagnose, ErrorKind, Evidence, HostName, ReleaseId, SecretValues};
use freehold_plan::{OnFailure, Plan, PlanKind, StageKind, Step};

use crate::event::Event;
use crate::execute::{ExecuteError, Ledger, PutBack, Report, Run, Watching};
use crate::failures::Failures;
use crate::host::HostError;
use crate::journal::StoredJournal;
use crate::lease::Lease;
use crate::world::{Stop, World, on_each};

/// What is to become of a rollout that its client did not finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// Finish it if the new release is live everywhere, otherwise put everything back: what every command that changes
    /// something does first.
    Automatic,
    /// Finish it: `freehold resume`.
    Forward,
    /// Put everything back: `freehold abort`.
    Back,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// There was none.
    Nothing,
    /// It is finished.
    Finished(Report),
    /// Everything is as it was before it.
    Undone {
        /// The rollout.
        rollout: ReleaseId,
        /// What it was for.
        kind: PlanKind,
    },
}

/// Why an unfinished rollout could be neither finished nor put back.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// Hosts did not answer; nothing was changed and their journals are as they were.
    #[error("an unfinished rollout cannot be looked for on every host")]
    Journals(#[source] Failures),
    /// The lock is that of a run that is in the middle of a rollout itself.
    #[error("the run that holds the deploy lock is in the middle of rollout `{rollout}`")]
    Busy {
        /// The rollout, or nothing if its plan is elsewhere.
        rollout: String,
    },
    /// It can only be finished.
    #[error("rollout `{rollout}` cannot be put back: what it replaced is retired already")]
    Retired {
        /// The rollout.
        rollout: ReleaseId,
    },
    /// It can only be finished, as it is a removal or a stop.
    #[error("rollout `{rollout}` cannot be put back: it removes or stops the service")]
    OneWay {
        /// The rollout.
        rollout: ReleaseId,
    },
    /// It could not be put back everywhere.
    #[error("the unfinished rollout `{rollout}` is not put back: {}", put_back.describe())]
    PutBack {
        /// The rollout.
        rollout: ReleaseId,
        /// What is left.
        put_back: PutBack,
    },
    /// It could not be finished.
    #[error("the unfinished rollout `{rollout}` could not be finished")]
    Execute {
        /// The rollout.
        rollout: ReleaseId,
        /// Why.
        source: Box<ExecuteError>,
    },
    /// Another client has taken the lock over.
    #[error("another client has taken over the deploy lock; this run changes nothing more")]
    Fenced {
        /// The host that said so.
        host: HostName,
    },
}

impl Diagnose for RecoverError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Journals(failures) => failures.kind(),
            Self::Busy { .. } | Self::Fenced { .. } => ErrorKind::Locked,
            Self::Retired { .. } | Self::OneWay { .. } => ErrorKind::Failed,
            Self::PutBack { put_back: PutBack::Incomplete { failures, .. }, .. } if failures.is_empty() => {
                ErrorKind::Interrupted
            }
            Self::PutBack { .. } => ErrorKind::NeedsAttention,
            Self::Execute { source, .. } => source.kind(),
        }
    }

    fn evidence(&self) -> Vec<Evidence> {
        match self {
            Self::Execute { source, .. } => source.evidence(),
            _ => Vec::new(),
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Journals(failures) => {
                let mut help = failures.help();
                help.push(
                    "a host that is gone for good: remove it from the deploy file, then try again".to_owned(),
                );
                help
            }
            Self::Busy { .. } => {
                vec!["run this command after it, or from a hook that runs before or after".to_owned()]
            }
            Self::Retired { .. } => {
                vec!["finish it: `freehold resume`, then go back: `freehold rollback`".to_owned()]
            }
            Self::OneWay { .. } => vec!["finish it: `freehold resume`".to_owned()],
            Self::PutBack { put_back, .. } => put_back.help(),
            Self::Execute { source, .. } => source.help(),
            Self::Fenced { .. } => vec!["see who deploys now: `freehold lock status`".to_owned()],
        }
    }
}

/// Finishes or undoes the rollout that a client left unfinished, if there is one. Every command that changes something
/// calls it as soon as it has the lock.
///
/// With [`Intent::Automatic`] it goes forward when retiring the old release had begun, or when every step before that
/// was done and nobody had decided otherwise; a rollout that had begun nothing is forgotten.
///
/// A host of the rollout that is no longer part of the project is left out, with a warning.
///
/// # Errors
/// [`RecoverError`]; the journals stay, and it can be called again.
///
/// # Cancel safety
/// Not cancel safe: it is ended by `stop`, and may be called again after a crash.
pub async fn recover(
    world: &World,
    lease: &Lease,
    secrets: &SecretValues,
    stop: &Stop,
    intent: Intent,
) -> Result<Recovered, RecoverError> {
    let journals = read(world, lease).await?;
    if journals.is_empty() {
        return Ok(Recovered::Nothing);
    }
    let plan = plan(world, &journals);
    if lease.is_inherited() {
        let rollout = plan.map_or_else(String::new, |plan| plan.id.to_string());
        return Err(RecoverError::Busy { rollout });
    }
    let Some(plan) = plan else {
        forget(world, lease, &journals).await?;
        return Ok(Recovered::Nothing);
    };
    warn_of_strangers(world, plan, &journals);
    let mut ledger = Ledger::default();
    for entry in journals.values().flat_map(|journal| &journal.entries) {
        if entry.rollout == plan.id.as_str() {
            ledger.record(entry);
        }
    }
    for host in plan.hosts.iter().filter(|host| !journals.contains_key(*host)) {
        ledger.settle(host);
    }
    let rollout = plan.id.clone();
    if ledger.is_empty() {
        forget(world, lease, &journals).await?;
        return Ok(Recovered::Nothing);
    }
    let is_forward = decide(plan, &ledger, intent)?;
    world.emit(Event::Recovering { rollout: rollout.to_string(), forward: is_forward });
    let watching = if is_live(plan, &ledger) { Watching::Skip } else { Watching::Soak };
    if is_forward && ledger.puts_back() {
        ledger.begin_anew();
    }
    let execution = |source| RecoverError::Execute { rollout: rollout.clone(), source: Box::new(source) };
    let run = Run::again(plan, world, (lease, secrets, stop), ledger).map_err(execution)?;
    if is_forward {
        return match run.go(watching).await {
            Ok(report) => Ok(Recovered::Finished(report)),
            Err(ExecuteError::Fenced { host }) => Err(RecoverError::Fenced { host }),
            Err(error) => Err(execution(error)),
        };
    }
    match run.put_back("its client did not finish it".to_owned(), None).await {
        Ok(PutBack::Complete) => Ok(Recovered::Undone { rollout, kind: plan.kind }),
        Ok(put_back) => Err(RecoverError::PutBack { rollout, put_back }),
        Err(host) => Err(RecoverError::Fenced { host }),
    }
}

type Journals = BTreeMap<HostName, StoredJournal>;

async fn read(world: &World, lease: &Lease) -> Result<Journals, RecoverError> {
    let stem = &lease.token().stem;
    let mut journals = BTreeMap::new();
    let mut errors = Vec::new();
    for (name, answer) in on_each(world, world.hosts.iter(), |host| host.read_journal(stem)).await {
        match answer {
            Ok(Some(journal)) => {
                journals.insert(name, journal);
            }
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
    }
    Failures::of(errors).map_or(Ok(journals), |failures| Err(RecoverError::Journals(failures)))
}

/// Returns the plan of the primary host, or that of any other: the primary host may have been another one.
fn plan<'j>(world: &World, journals: &'j Journals) -> Option<&'j Plan> {
    journals
        .get(&world.primary)
        .into_iter()
        .chain(journals.values())
        .find_map(|journal| journal.plan.as_deref())
}

/// Ends journals of which nothing can or must follow.
async fn forget(world: &World, lease: &Lease, journals: &Journals) -> Result<(), RecoverError> {
    for (host, journal) in journals {
        if journal.plan.is_none() && !journal.entries.is_empty() {
            let message =
                "a journal without its plan is left from an old rollout; it is forgotten".to_owned();
            world.emit(Event::Warning { host: Some(host.clone()), message });
        }
    }
    let hosts = world.hosts.iter().filter(|(name, _)| journals.contains_key(*name));
    let answers = on_each(world, hosts, |host| host.end_journal(lease.token())).await;
    let errors: Vec<HostError> = answers.into_iter().filter_map(|(_, answer)| answer.err()).collect();
    for error in &errors {
        if let HostError::Fenced { host } = error {
            return Err(RecoverError::Fenced { host: host.clone() });
        }
    }
    Failures::of(errors).map_or(Ok(()), |failures| Err(RecoverError::Journals(failures)))
}

fn warn_of_strangers(world: &World, plan: &Plan, journals: &Journals) {
    for host in plan.hosts.iter().filter(|host| !world.hosts.contains_key(*host)) {
        let message =
            format!("rollout `{}` is not recovered here: the host is no longer in the deploy file", plan.id);
        world.emit(Event::Warning { host: Some(host.clone()), message });
    }
    for (host, journal) in journals {
        if journal.entries.iter().any(|entry| entry.rollout != plan.id.as_str()) {
            let message =
                "lines of an older rollout in the journal are left out: their plan is gone".to_owned();
            world.emit(Event::Warning { host: Some(host.clone()), message });
        }
    }
}

/// Returns the steps of the stages with this rule.
fn steps(plan: &Plan, rule: OnFailure) -> impl Iterator<Item = (StageKind, &Step)> {
    plan.stages
        .iter()
        .filter(move |stage| stage.on_failure == rule)
        .flat_map(|stage| stage.lanes.iter().flat_map(|lane| &lane.steps).map(|step| (stage.kind, step)))
}

/// Says whether every step up to the switch was done.
fn is_live(plan: &Plan, ledger: &Ledger) -> bool {
    steps(plan, OnFailure::PutBack)
        .filter(|(kind, _)| !matches!(kind, StageKind::Soak | StageKind::Wait))
        .all(|(_, step)| ledger.is_done(step))
}

fn decide(plan: &Plan, ledger: &Ledger, intent: Intent) -> Result<bool, RecoverError> {
    let rollout = || plan.id.clone();
    let is_one_way =
        matches!(plan.kind, PlanKind::Remove | PlanKind::Stop | PlanKind::Prune | PlanKind::CanaryAbort);
    let is_retiring = steps(plan, OnFailure::GoOn).any(|(_, step)| ledger.was_begun(step));
    match intent {
        Intent::Forward => Ok(true),
        Intent::Back if is_one_way => Err(RecoverError::OneWay { rollout: rollout() }),
        Intent::Back if is_retiring => Err(RecoverError::Retired { rollout: rollout() }),
        Intent::Back => Ok(false),
        Intent::Automatic => Ok(is_one_way || is_retiring || (!ledger.puts_back() && is_live(plan, ledger))),
    }
}

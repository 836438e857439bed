use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use freehold_model::{HostName, SecretValues};
use freehold_plan::{OnFailure, Plan, Stage, StageKind, Step};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::event::Event;
use crate::execute::ledger::Ledger;
use crate::execute::{ExecuteError, PutBack, Report, StepFailure, StepLeft};
use crate::failures::{Failures, chain};
use crate::host::{Host, HostError, Outcome, StepError};
use crate::journal::{JournalEntry, JournalState};
use crate::lease::{Lease, LeaseLost};
use crate::pause::Retry;
use crate::world::{Stop, World, on_each};

/// Whether the new release is watched before the old one is retired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watching {
    /// It is, and batches are kept apart.
    Soak,
    /// It was live before: time has done the watching.
    Skip,
}

/// One walk through a plan, or back.
pub(crate) struct Run<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) world: &'a World,
    pub(crate) lease: &'a Lease,
    pub(crate) secrets: &'a SecretValues,
    pub(crate) stop: &'a Stop,
    pub(crate) ledger: Mutex<Ledger>,
    /// Done, but not journalled yet, by host: a line of its own would cost a round trip, so it goes with what is written
    /// next. A crash in between leaves a step that counts as begun, and every step says how "already done" is recognised.
    unwritten: Mutex<BTreeMap<HostName, Vec<JournalEntry>>>,
    /// Steps that changed something, and steps that did not have to.
    counts: Mutex<(usize, usize)>,
    began: Instant,
}

/// How the part of a plan that has a way back ended.
pub(crate) enum Halt {
    /// Another client has the lock.
    Fenced(HostName),
    /// Steps failed, the first failure first.
    Failed(Vec<StepFailure>),
    /// A person stopped it.
    Stopped,
}

impl Halt {
    /// Says what failures come to: who is fenced changes nothing more.
    fn of(failures: Vec<StepFailure>) -> Self {
        let fenced = failures.iter().find_map(|failure| match &failure.error {
            StepError::Host(HostError::Fenced { host }) => Some(host.clone()),
            _ => None,
        });
        fenced.map_or(Self::Failed(failures), Self::Fenced)
    }
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        world: &'a World,
        (lease, secrets, stop): (&'a Lease, &'a SecretValues, &'a Stop),
    ) -> Result<Self, ExecuteError> {
        let unknown = plan.steps().map(|step| &step.host).find(|host| !world.hosts.contains_key(*host));
        if let Some(host) = unknown.or((!world.hosts.contains_key(&world.primary)).then_some(&world.primary))
        {
            return Err(ExecuteError::UnknownHost { host: host.clone() });
        }
        Self::again(plan, world, (lease, secrets, stop), Ledger::default())
    }

    /// Takes up a run that a journal tells of. Hosts that are gone are left out.
    pub(crate) fn again(
        plan: &'a Plan,
        world: &'a World,
        (lease, secrets, stop): (&'a Lease, &'a SecretValues, &'a Stop),
        ledger: Ledger,
    ) -> Result<Self, ExecuteError> {
        if plan.format != Plan::FORMAT {
            return Err(ExecuteError::Format { format: plan.format });
        }
        let (ledger, unwritten, counts) = (Mutex::new(ledger), Mutex::default(), Mutex::new((0, 0)));
        Ok(Self { plan, world, lease, secrets, stop, ledger, unwritten, counts, began: Instant::now() })
    }

    /// Begins the journals: first where the plan is stored, so that a host with a journal never lacks its plan.
    pub(crate) async fn begin(&self) -> Result<(), ExecuteError> {
        if self.stop.soft.is_cancelled() {
            return Err(ExecuteError::Interrupted { put_back: PutBack::Complete });
        }
        if self.lease.is_inherited() {
            let journals =
                on_each(self.world, self.journalled(), |host| host.read_journal(&self.lease.token().stem))
                    .await;
            if journals.iter().any(|(_, journal)| !matches!(journal, Ok(None))) {
                return Err(ExecuteError::Busy);
            }
        }
        let token = self.lease.token();
        if let Some(primary) = self.world.hosts.get(&self.world.primary) {
            primary.begin_journal(token, Some(self.plan)).await.map_err(|error| begin_error(vec![error]))?;
        }
        let others = self.journalled().filter(|(name, _)| **name != self.world.primary);
        let answers = on_each(self.world, others, |host| host.begin_journal(token, None)).await;
        let errors: Vec<HostError> = answers.into_iter().filter_map(|(_, answer)| answer.err()).collect();
        if errors.is_empty() {
            return Ok(());
        }
        // Nothing was begun: what stays behind on a host that cannot be reached is an empty journal without a plan.
        let error = begin_error(errors);
        if !matches!(error, ExecuteError::Fenced { .. }) {
            on_each(self.world, self.journalled(), |host| host.end_journal(token)).await;
        }
        Err(error)
    }

    fn journalled(&self) -> impl Iterator<Item = (&HostName, &Arc<dyn Host>)> {
        let mut names: BTreeSet<&HostName> = self.plan.steps().map(|step| &step.host).collect();
        names.insert(&self.world.primary);
        self.world.hosts.iter().filter(move |(name, _)| names.contains(name))
    }

    /// Does every step that is not done.
    pub(crate) async fn go(&self, watching: Watching) -> Result<Report, ExecuteError> {
        let mut failures = Vec::new();
        for (index, stage) in self.plan.stages.iter().enumerate() {
            if watching == Watching::Skip && matches!(stage.kind, StageKind::Soak | StageKind::Wait) {
                continue;
            }
            if self.stop.soft.is_cancelled() {
                // What was live before this run began stays live.
                if watching == Watching::Soak && self.can_go_back() {
                    return Err(self.put_back_after(Halt::Stopped).await);
                }
                break;
            }
            if self.is_done(stage) {
                continue;
            }
            // Once something begins that has no way back, nothing before it may look unfinished: whoever goes on would do it
            // again, and put everything back if that fails.
            if stage.on_failure == OnFailure::GoOn && self.can_go_back() {
                let failures = self.write_done().await;
                if !failures.is_empty() {
                    return Err(self.put_back_after(Halt::of(failures)).await);
                }
            }
            let outcome = match self.pass_gate(index, stage).await {
                Ok(()) => {
                    self.world.emit(Event::StageStarted { stage: stage.kind });
                    self.stage(stage).await
                }
                Err(halt) => Err(halt),
            };
            match (outcome, stage.on_failure) {
                (Ok(()), _) => {}
                (Err(Halt::Fenced(host)), _) => return Err(ExecuteError::Fenced { host }),
                (Err(halt), OnFailure::PutBack) => return Err(self.put_back_after(halt).await),
                (Err(Halt::Failed(more)), OnFailure::GoOn) => failures.extend(more),
                (Err(Halt::Stopped), OnFailure::GoOn) => break,
            }
        }
        self.finish(failures, watching).await
    }

    /// Runs what comes before a stage. Its failure counts as one of the stage's first step.
    async fn pass_gate(&self, index: usize, stage: &Stage) -> Result<(), Halt> {
        let Some(gate) = &self.world.gate else { return Ok(()) };
        let Err(error) = gate.before(self.plan, index).await else { return Ok(()) };
        if matches!(error, StepError::Stopped) {
            return Err(Halt::Stopped);
        }
        let first = stage.lanes.iter().flat_map(|lane| &lane.steps).next();
        let failure = first.map(|step| StepFailure {
            host: step.host.clone(),
            step: step.id,
            title: step.action.to_string(),
            error,
        });
        Err(Halt::Failed(failure.into_iter().collect()))
    }

    /// Says whether something was begun, but nothing of what has no way back.
    fn can_go_back(&self) -> bool {
        let ledger = self.ledger.lock();
        let late = self.plan.stages.iter().filter(|stage| stage.on_failure == OnFailure::GoOn);
        !ledger.is_empty()
            && !late
                .flat_map(|stage| &stage.lanes)
                .flat_map(|lane| &lane.steps)
                .any(|step| ledger.was_begun(step))
    }

    fn is_done(&self, stage: &Stage) -> bool {
        let ledger = self.ledger.lock();
        stage.lanes.iter().flat_map(|lane| &lane.steps).all(|step| ledger.is_done(step))
    }

    async fn finish(&self, failures: Vec<StepFailure>, watching: Watching) -> Result<Report, ExecuteError> {
        let left = self.left(watching);
        if !failures.is_empty() || !left.is_empty() {
            for failure in self.write_done().await {
                tracing::warn!(host = %failure.host, error = %chain(&failure.error), "what is done is not journalled");
            }
        }
        let kind = self.plan.kind;
        let mut failures = failures.into_iter();
        if let Some(first) = failures.next() {
            let (first, others) = (Box::new(first), failures.collect());
            return Err(ExecuteError::NeedsAttention { kind, first, others, left });
        }
        if !left.is_empty() {
            if !self.ledger.lock().is_empty() {
                return Err(ExecuteError::InterruptedLive { kind, left });
            }
            self.end().await?;
            return Err(ExecuteError::Interrupted { put_back: PutBack::Complete });
        }
        self.end().await?;
        Ok(self.report())
    }

    fn left(&self, watching: Watching) -> Vec<StepLeft> {
        let ledger = self.ledger.lock();
        let stages = self.plan.stages.iter().filter(|stage| {
            watching == Watching::Soak || !matches!(stage.kind, StageKind::Soak | StageKind::Wait)
        });
        stages
            .flat_map(|stage| &stage.lanes)
            .flat_map(|lane| &lane.steps)
            .filter(|step| self.world.hosts.contains_key(&step.host) && !ledger.is_done(step))
            .map(StepLeft::to_do)
            .collect()
    }

    /// Ends the journals; the one beside the plan last, so that no journal outlives its plan. One that cannot be ended
    /// tells the next run that nothing is left to do.
    pub(crate) async fn end(&self) -> Result<(), ExecuteError> {
        let token = self.lease.token();
        let others = self.journalled().filter(|(name, _)| **name != self.world.primary);
        let mut answers = on_each(self.world, others, |host| Box::pin(self.end_on(host))).await;
        if answers.iter().all(|(_, answer)| answer.is_ok())
            && let Some(primary) = self.world.hosts.get(&self.world.primary)
        {
            answers.push((self.world.primary.clone(), self.end_on(primary).await));
        }
        for (host, answer) in answers {
            match answer {
                Ok(()) => {}
                Err(HostError::Fenced { host }) => return Err(ExecuteError::Fenced { host }),
                Err(error) => {
                    tracing::warn!(%host, stem = %token.stem, error = %chain(&error), "journal not ended");
                    let message = format!("the journal could not be ended: {}", chain(&error));
                    self.world.emit(Event::Warning { host: Some(host), message });
                }
            }
        }
        Ok(())
    }

    async fn end_on(&self, host: &Arc<dyn Host>) -> Result<(), HostError> {
        let mut retry = Retry::new(&self.world.limits);
        loop {
            match host.end_journal(self.lease.token()).await {
                Err(error) if retry.again(&error, &self.stop.soft).await => {}
                answer => return answer,
            }
        }
    }

    pub(crate) fn entry(&self, step: &Step, state: JournalState) -> JournalEntry {
        JournalEntry { rollout: self.plan.id.to_string(), step: step.id, state }
    }

    /// Takes note that a step may have changed something from now on.
    pub(crate) fn note_begun(&self, step: &Step) {
        self.ledger.lock().record(&self.entry(step, JournalState::Begun));
    }

    /// Takes note that a step is done, to be journalled with what is written next.
    pub(crate) fn note_done(&self, step: &Step) {
        let entry = self.entry(step, JournalState::Done);
        self.ledger.lock().record(&entry);
        self.unwritten.lock().entry(step.host.clone()).or_default().push(entry);
    }

    /// Journals that steps of a host begin, after what was done on it before.
    pub(crate) async fn write_begun(&self, host: &Arc<dyn Host>, steps: &[&Step]) -> Result<(), HostError> {
        let done = self.unwritten.lock().remove(host.name()).unwrap_or_default();
        let begun = steps.iter().map(|step| self.entry(step, JournalState::Begun));
        let entries: Vec<JournalEntry> = done.iter().cloned().chain(begun).collect();
        let written = host.append_journal(self.lease.token(), &entries).await;
        if written.is_err() {
            self.unwritten.lock().entry(host.name().clone()).or_default().extend(done);
        }
        written
    }

    /// Journals what is done and not journalled yet, so that whoever goes on does not do it again. Returns what could not
    /// be, as failures of the last step of each host.
    async fn write_done(&self) -> Vec<StepFailure> {
        let unwritten = std::mem::take(&mut *self.unwritten.lock());
        let hosts = self.world.hosts.iter().filter(|(name, _)| unwritten.contains_key(*name));
        let token = self.lease.token();
        let answers = on_each(self.world, hosts, |host| {
            let entries = unwritten.get(host.name()).map(Vec::as_slice).unwrap_or_default();
            host.append_journal(token, entries)
        })
        .await;
        let failure = |(host, answer): (HostName, Result<(), HostError>)| {
            let error = answer.err()?;
            let last = unwritten.get(&host)?.last()?.step;
            let title = self.plan.steps().find(|step| step.id == last)?.action.to_string();
            Some(StepFailure { host, step: last, title, error: error.into() })
        };
        answers.into_iter().filter_map(failure).collect()
    }

    pub(crate) async fn append(
        &self,
        host: &Arc<dyn Host>,
        entries: &[JournalEntry],
    ) -> Result<(), HostError> {
        host.append_journal(self.lease.token(), entries).await?;
        let mut ledger = self.ledger.lock();
        entries.iter().for_each(|entry| ledger.record(entry));
        Ok(())
    }

    /// Awaits work. After the second Ctrl-C it gets a short time to end, then it is left as it is: the process ends
    /// now, and the journal tells the next one what had been begun.
    pub(crate) async fn until_hard_stop<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        tokio::select! {
            biased;
            done = &mut work => Some(done),
            () = self.stop.hard.cancelled() => {
                tokio::time::timeout(self.world.limits.hard_stop, work).await.ok()
            }
        }
    }

    pub(crate) fn count(&self, outcome: &Outcome) {
        let mut counts = self.counts.lock();
        match outcome {
            Outcome::Done(_) => counts.0 += 1,
            Outcome::AlreadyDone => counts.1 += 1,
        }
    }

    pub(crate) fn report(&self) -> Report {
        let (done, already_done) = *self.counts.lock();
        Report {
            rollout: self.plan.id.clone(),
            kind: self.plan.kind,
            done,
            already_done,
            elapsed: self.began.elapsed(),
        }
    }
}

fn begin_error(errors: Vec<HostError>) -> ExecuteError {
    let fenced = errors.iter().find_map(|error| match error {
        HostError::Fenced { host } => Some(host.clone()),
        _ => None,
    });
    match (fenced, Failures::of(errors)) {
        (Some(host), _) => ExecuteError::Fenced { host },
        (None, Some(failures)) => ExecuteError::Begin(failures),
        (None, None) => ExecuteError::Busy,
    }
}

/// A lease that is lost shows as a refusal, as the hosts would give it.
pub(crate) fn as_host_error(lost: LeaseLost) -> HostError {
    match lost {
        LeaseLost::Taken { host } => HostError::Fenced { host },
        LeaseLost::Unknown(error) => error,
    }
}

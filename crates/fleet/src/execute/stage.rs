use std::collections::BTreeSet;
use std::sync::Arc;

use freehold_model::{Diagnose, ErrorKind, HostName};
use freehold_plan::{Action, Lane, OnFailure, Stage, Step, StepId, Undo};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::event::{Event, StepOutcome, milliseconds};
use crate::execute::StepFailure;
use crate::execute::run::{Halt, Run, as_host_error};
use crate::failures::chain;
use crate::host::{Host, HostError, Outcome, StepContext, StepError};
use crate::pause::Retry;
use crate::world::{BoxFuture, together};

/// What the lanes of a stage share.
struct Course<'s> {
    on_failure: OnFailure,
    ends: &'s Mutex<Ends>,
    /// No lane begins a new step.
    halt: CancellationToken,
    /// Waits end early.
    cut: CancellationToken,
}

/// What one lane carries from step to step.
struct Pass<'s> {
    /// The lane's steps from the next one on.
    rest: &'s [Step],
    /// Steps whose beginning is journalled.
    journalled: BTreeSet<StepId>,
    /// The host cannot be reached.
    is_gone: bool,
    /// A canary could not be ended: visitors may still be sent to what was tried.
    still_tries: bool,
}

impl<'s> Pass<'s> {
    /// Takes the next step.
    fn next(&mut self) -> Option<&'s Step> {
        let (step, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(step)
    }

    /// Returns the steps that are journalled as begun together with this one, to save round trips: those that follow
    /// and leave nothing to undo, or all where nothing is undone any more. Whoever reads the journal does again what it
    /// says was begun, and finds done what was.
    fn with_next(&self, step: &'s Step, on_failure: OnFailure) -> impl Iterator<Item = &'s Step> {
        let follow = self
            .rest
            .iter()
            .take_while(move |next| on_failure == OnFailure::GoOn || next.undo == Undo::Nothing);
        std::iter::once(step).chain(follow)
    }
}

#[derive(Default)]
struct Ends {
    failures: Vec<StepFailure>,
    fenced: Option<HostName>,
    is_stopped: bool,
}

impl Run<'_> {
    /// Does the steps of a stage, the hosts side by side.
    pub(crate) async fn stage(&self, stage: &Stage) -> Result<(), Halt> {
        let ends = Mutex::new(Ends::default());
        let halt = self.stop.soft.child_token();
        let cut = halt.child_token();
        let course = Course { on_failure: stage.on_failure, ends: &ends, halt, cut };
        let lanes: Vec<BoxFuture<'_, ()>> = stage
            .lanes
            .iter()
            .filter_map(|lane| Some((lane, self.world.hosts.get(&lane.host)?)))
            .map(|(lane, host)| Box::pin(self.lane(lane, host, &course)) as BoxFuture<'_, ()>)
            .collect();
        let ended = self.until_hard_stop(together(self.world, lanes)).await;
        let ends = std::mem::take(&mut *ends.lock());
        match ends {
            Ends { fenced: Some(host), .. } => Err(Halt::Fenced(host)),
            Ends { failures, .. } if !failures.is_empty() => Err(Halt::Failed(failures)),
            Ends { is_stopped: true, .. } => Err(Halt::Stopped),
            Ends { .. } if ended.is_none() => Err(Halt::Stopped),
            Ends { .. } => Ok(()),
        }
    }

    async fn lane(&self, lane: &Lane, host: &Arc<dyn Host>, course: &Course<'_>) {
        let mut pass =
            Pass { rest: &lane.steps, journalled: BTreeSet::new(), is_gone: false, still_tries: false };
        while let Some(step) = pass.next() {
            if self.ledger.lock().is_done(step) {
                continue;
            }
            let is_needed = pass.still_tries && step.action.takes_away();
            if pass.is_gone || is_needed || course.halt.is_cancelled() {
                course.ends.lock().is_stopped |= course.halt.is_cancelled();
                self.finished(step, StepOutcome::Skipped, Instant::now());
                continue;
            }
            match self.step(step, host, course, &mut pass).await {
                Ok(()) => self.note_done(step),
                Err(error) => {
                    pass.still_tries |= matches!(step.action, Action::EndCanary { .. });
                    pass.is_gone = Self::failed(step, error, course);
                }
            }
        }
    }

    /// Takes note of a failure. Returns whether the host cannot be reached.
    fn failed(step: &Step, error: StepError, course: &Course<'_>) -> bool {
        let mut ends = course.ends.lock();
        if let StepError::Host(HostError::Fenced { host }) = &error {
            ends.fenced.get_or_insert_with(|| host.clone());
            course.halt.cancel();
            return false;
        }
        if matches!(error, StepError::Stopped) && course.halt.is_cancelled() {
            ends.is_stopped = true;
            return false;
        }
        let is_gone = error.kind() == ErrorKind::Unreachable;
        ends.failures.push(StepFailure {
            host: step.host.clone(),
            step: step.id,
            title: step.action.to_string(),
            error,
        });
        if course.on_failure == OnFailure::PutBack {
            course.halt.cancel();
        }
        is_gone
    }

    async fn step<'s>(
        &self,
        step: &'s Step,
        host: &Arc<dyn Host>,
        course: &Course<'_>,
        pass: &mut Pass<'s>,
    ) -> Result<(), StepError> {
        let began = Instant::now();
        let (host_name, id, title) = (step.host.clone(), step.id, step.action.to_string());
        self.world.emit(Event::StepStarted { host: host_name, step: id, title });
        let stop = match course.on_failure {
            OnFailure::PutBack if step.action.may_be_cut_short() => course.cut.clone(),
            OnFailure::PutBack | OnFailure::GoOn => self.stop.hard.child_token(),
        };
        let mut retry = Retry::patient(&self.world.limits);
        let result = loop {
            match self.attempt(step, host, (course.on_failure, &stop), pass).await {
                // The release is live: it is better to go on late than not at all.
                Err(error)
                    if course.on_failure == OnFailure::GoOn && retry.again(&error, &course.halt).await => {}
                result => break result,
            }
        };
        match result {
            Ok(outcome) => {
                self.count(&outcome);
                let outcome = match outcome {
                    Outcome::Done(note) => StepOutcome::Done { note },
                    Outcome::AlreadyDone => StepOutcome::AlreadyDone,
                };
                self.finished(step, outcome, began);
                Ok(())
            }
            Err(error) => {
                self.finished(step, StepOutcome::Failed { error: chain(&error) }, began);
                Err(error)
            }
        }
    }

    async fn attempt<'s>(
        &self,
        step: &'s Step,
        host: &Arc<dyn Host>,
        (on_failure, stop): (OnFailure, &CancellationToken),
        pass: &mut Pass<'s>,
    ) -> Result<Outcome, StepError> {
        self.lease.check().await.map_err(as_host_error)?;
        if !pass.journalled.contains(&step.id) {
            let steps: Vec<&Step> = {
                let ledger = self.ledger.lock();
                pass.with_next(step, on_failure).filter(|step| !ledger.is_done(step)).collect()
            };
            self.write_begun(host, &steps).await?;
            pass.journalled.extend(steps.iter().map(|step| step.id));
        }
        self.note_begun(step);
        let progress = |progress| {
            self.world.emit(Event::StepProgress { host: step.host.clone(), step: step.id, progress });
        };
        let context =
            StepContext { lease: self.lease.token(), secrets: self.secrets, progress: &progress, stop };
        host.perform(step, &context).await
    }

    fn finished(&self, step: &Step, outcome: StepOutcome, began: Instant) {
        self.world.emit(Event::StepFinished {
            host: step.host.clone(),
            step: step.id,
            outcome,
            elapsed_ms: milliseconds(began.elapsed()),
        });
    }
}

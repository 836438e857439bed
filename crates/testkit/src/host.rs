use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freehold_fleet::{
    Clock, Host, HostError, JournalEntry, LeaseAttempt, LeaseRequest, LeaseToken, Outcome, Scope,
    StepContext, StepError, StoredJournal,
};
use freehold_model::HostName;
use freehold_plan::{ObservedHost, Plan, Step};
use tokio_util::sync::CancellationToken;

use crate::clock::FakeClock;
use crate::fault::{Fault, Harm, Moment, Point};
use crate::fleet::{Fate, Faults};
use crate::machine::Machine;

/// How long every call takes there, and back.
const LATENCY: Duration = Duration::from_millis(5);

/// One client's connection to a machine in memory.
pub struct FakeHost {
    pub(crate) machine: Arc<Machine>,
    pub(crate) fate: Arc<Fate>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) clock: Arc<FakeClock>,
}

impl fmt::Debug for FakeHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FakeHost").field("name", self.machine.name()).finish_non_exhaustive()
    }
}

/// How a fault ends a call, if it does.
enum Broken {
    Fails,
    Lost,
    Stopped,
}

impl FakeHost {
    fn lost(&self, operation: &str) -> HostError {
        HostError::Lost { host: self.machine.name().clone(), operation: operation.to_owned(), source: None }
    }

    fn broken(&self, operation: &str, broken: &Broken) -> HostError {
        match broken {
            Broken::Fails | Broken::Stopped => HostError::Refused {
                host: self.machine.name().clone(),
                operation: operation.to_owned(),
                message: "it was told to fail".to_owned(),
            },
            Broken::Lost => self.lost(operation),
        }
    }

    fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    /// A client that crashed never gets further; one that is frozen gets further when it is thawed.
    async fn live(&self) {
        if self.fate.crashed.is_cancelled() {
            pending::<()>().await;
        }
        let mut frozen = self.fate.frozen.subscribe();
        if frozen.wait_for(|is_frozen| !*is_frozen).await.is_err() {
            pending::<()>().await;
        }
    }

    async fn harm(&self, fault: Option<Fault>, stop: Option<&CancellationToken>) -> Result<(), Broken> {
        match fault.map(|fault| fault.harm) {
            None => Ok(()),
            Some(Harm::Fail) => Err(Broken::Fails),
            Some(Harm::Lose(duration)) => {
                self.machine.cut_off(self.now() + duration);
                Err(Broken::Lost)
            }
            Some(Harm::Slow(duration)) => {
                tokio::time::sleep(duration).await;
                Ok(())
            }
            Some(Harm::Hang) => match stop {
                Some(stop) => {
                    stop.cancelled().await;
                    Err(Broken::Stopped)
                }
                None => pending().await,
            },
            Some(Harm::Crash) => {
                self.fate.crashed.cancel();
                pending().await
            }
            Some(Harm::Freeze) => {
                self.fate.frozen.send_replace(true);
                self.live().await;
                Ok(())
            }
        }
    }

    /// Goes to the machine, has an effect there at one moment, and comes back.
    async fn call<T>(
        &self,
        (point, stop): (Option<Point>, Option<&CancellationToken>),
        effect: impl FnOnce(&Machine) -> T + Send,
    ) -> Result<T, Broken> {
        let call = self.faults.next_call();
        let name = self.machine.name();
        self.live().await;
        tokio::time::sleep(LATENCY).await;
        self.live().await;
        if self.machine.is_cut_off(self.now()) {
            return Err(Broken::Lost);
        }
        self.harm(self.faults.take(name, (call, point), Moment::Before), stop).await?;
        let result = effect(&self.machine);
        self.harm(self.faults.take(name, (call, point), Moment::After), stop).await?;
        tokio::time::sleep(LATENCY).await;
        self.live().await;
        Ok(result)
    }

    async fn plain<T>(
        &self,
        operation: &str,
        effect: impl FnOnce(&Machine) -> Result<T, HostError> + Send,
    ) -> Result<T, HostError> {
        match self.call((None, None), effect).await {
            Ok(result) => result,
            Err(broken) => Err(self.broken(operation, &broken)),
        }
    }

    fn step_error(&self, operation: &str, broken: &Broken) -> StepError {
        match broken {
            Broken::Stopped => StepError::Stopped,
            Broken::Fails | Broken::Lost => self.broken(operation, broken).into(),
        }
    }
}

#[async_trait]
impl Host for FakeHost {
    fn name(&self) -> &HostName {
        self.machine.name()
    }

    async fn observe(&self, scope: &Scope<'_>) -> Result<ObservedHost, HostError> {
        let project = scope.project;
        self.plain("look at it", |machine| Ok(machine.observe(project))).await
    }

    async fn perform(&self, step: &Step, context: &StepContext<'_>) -> Result<Outcome, StepError> {
        let fence = context.lease.fence;
        let at = (Some(Point::Perform(step.id)), Some(context.stop));
        match self.call(at, |machine| machine.perform(step, fence)).await {
            Ok(result) => result,
            Err(broken) => Err(self.step_error(&step.action.to_string(), &broken)),
        }
    }

    async fn undo(&self, step: &Step, context: &StepContext<'_>) -> Result<(), StepError> {
        let fence = context.lease.fence;
        let at = (Some(Point::Undo(step.id)), Some(context.stop));
        match self.call(at, |machine| machine.undo(step, fence)).await {
            Ok(result) => result,
            Err(broken) => Err(self.step_error(&step.undo.to_string(), &broken)),
        }
    }

    async fn acquire_lease(&self, request: &LeaseRequest) -> Result<LeaseAttempt, HostError> {
        self.plain("take the deploy lock", |machine| Ok(machine.acquire(request, self.now()))).await
    }

    async fn renew_lease(&self, token: &LeaseToken) -> Result<bool, HostError> {
        self.plain("renew the deploy lock", |machine| Ok(machine.renew(token, self.now()))).await
    }

    async fn release_lease(&self, token: &LeaseToken) -> Result<(), HostError> {
        self.plain("release the deploy lock", |machine| {
            machine.release(token);
            Ok(())
        })
        .await
    }

    async fn raise_fence(&self, token: &LeaseToken) -> Result<(), HostError> {
        self.plain("raise the fencing number", |machine| machine.raise_fence(token)).await
    }

    async fn read_fence(&self, _stem: &str) -> Result<u64, HostError> {
        self.plain("read the fencing number", |machine| Ok(machine.fence())).await
    }

    async fn begin_journal(&self, token: &LeaseToken, plan: Option<&Plan>) -> Result<(), HostError> {
        self.plain("begin the journal", |machine| machine.begin_journal(token, plan)).await
    }

    async fn append_journal(&self, token: &LeaseToken, entries: &[JournalEntry]) -> Result<(), HostError> {
        self.plain("write the journal", |machine| machine.append_journal(token, entries)).await
    }

    async fn read_journal(&self, _stem: &str) -> Result<Option<StoredJournal>, HostError> {
        self.plain("read the journal", |machine| Ok(machine.journal())).await
    }

    async fn end_journal(&self, token: &LeaseToken) -> Result<(), HostError> {
        self.plain("end the journal", |machine| machine.end_journal(token)).await
    }

    async fn append_audit(&self, _stem: &str, messages: &[String]) -> Result<(), HostError> {
        self.plain("write the audit file", |machine| {
            machine.append_audit(messages);
            Ok(())
        })
        .await
    }
}

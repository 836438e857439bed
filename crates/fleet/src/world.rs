use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freehold_model::HostName;
use freehold_plan::{Observed, Plan};
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::clock::{BootClock, Clock};
use crate::event::{Event, Watch};
use crate::failures::Failures;
use crate::host::{Host, Scope, StepError};

/// Everything outside of us that a command acts upon.
pub struct World {
    /// The hosts by name.
    pub hosts: BTreeMap<HostName, Arc<dyn Host>>,
    /// The consumer of events.
    pub watch: Arc<dyn Watch>,
    /// The host that has the lock and the plan.
    pub primary: HostName,
    /// The clock of the lease.
    pub clock: Arc<dyn Clock>,
    /// Bounds of what is tried.
    pub limits: Limits,
    /// Comes between the stages of a plan, if anything does.
    pub gate: Option<Arc<dyn Gate>>,
}

/// What a plan must pass between its stages: the hooks of a project.
///
/// A rollout that a dead client left is recovered without it.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Lets a stage begin.
    ///
    /// # Errors
    /// [`StepError`] when it may not begin: it counts as a failed step of the stage.
    async fn before(&self, plan: &Plan, stage: usize) -> Result<(), StepError>;
}

impl World {
    /// Makes the world of real things: the kernel's clock and the usual limits.
    #[must_use]
    pub fn new(hosts: BTreeMap<HostName, Arc<dyn Host>>, primary: HostName, watch: Arc<dyn Watch>) -> Self {
        Self { hosts, watch, primary, clock: Arc::new(BootClock), limits: Limits::default(), gate: None }
    }

    pub(crate) fn emit(&self, event: Event) {
        self.watch.event(event);
    }

    /// Returns the hosts but the primary one.
    pub(crate) fn others(&self) -> impl Iterator<Item = (&HostName, &Arc<dyn Host>)> {
        self.hosts.iter().filter(|(name, _)| **name != self.primary)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("World")
            .field("hosts", &self.hosts.keys())
            .field("primary", &self.primary)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Bounds of what is tried before it is given up.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How many hosts are worked on at the same time.
    pub fan_out: usize,
    /// For how long an undo or a step after the switch is tried again on a host that cannot be reached.
    pub retry: Duration,
    /// The pause before the first retry; it doubles up to `longest_pause`, each with a random part.
    pub shortest_pause: Duration,
    /// The longest pause between two retries.
    pub longest_pause: Duration,
    /// How long running steps may take to end after the second Ctrl-C.
    pub hard_stop: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Enough for any fleet that one person looks after; above it a laptop's uplink is the limit anyway.
            fan_out: 32,
            // A rebooting machine or a restarted dockerd is back within a minute.
            retry: Duration::from_secs(60),
            shortest_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(5),
            hard_stop: Duration::from_secs(3),
        }
    }
}

/// The two ways in which a person ends a run.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// The first Ctrl-C: begin no new step, finish the running one, put everything back.
    pub soft: CancellationToken,
    /// The second: stop now and say what is left.
    pub hard: CancellationToken,
}

/// Looks at all hosts at the same time.
///
/// # Errors
/// [`Failures`] with every host that could not be observed.
///
/// # Cancel safety
/// Cancel safe: nothing is changed.
pub async fn observe(world: &World, scope: &Scope<'_>) -> Result<Observed, Failures> {
    let seen = on_each(world, world.hosts.iter(), |host| Box::pin(host.observe(scope))).await;
    let mut hosts = BTreeMap::new();
    let mut errors = Vec::new();
    for (name, result) in seen {
        match result {
            Ok(host) => {
                hosts.insert(name, host);
            }
            Err(error) => errors.push(error),
        }
    }
    match Failures::of(errors) {
        Some(failures) => Err(failures),
        None => Ok(Observed { hosts }),
    }
}

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Does the same on several hosts, a bounded number of them at a time; the results come in the order of their ends.
pub(crate) async fn on_each<'a, T, I, F>(world: &World, hosts: I, act: F) -> Vec<(HostName, T)>
where
    T: Send + 'a,
    I: Iterator<Item = (&'a HostName, &'a Arc<dyn Host>)>,
    F: Fn(&'a Arc<dyn Host>) -> BoxFuture<'a, T>,
{
    let tasks: Vec<BoxFuture<'a, (HostName, T)>> = hosts
        .map(|(name, host)| {
            let task = act(host);
            Box::pin(async move { (name.clone(), task.await) }) as BoxFuture<'a, _>
        })
        .collect();
    together(world, tasks).await
}

/// Awaits all tasks, a bounded number of them at a time.
pub(crate) async fn together<T: Send>(world: &World, tasks: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    futures_util::stream::iter(tasks).buffer_unordered(world.limits.fan_out.max(1)).collect().await
}

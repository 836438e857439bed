use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use freehold_model::{Diagnose, ErrorKind, HostName};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::event::{Event, milliseconds};
use crate::failures::Failures;
use crate::host::{Host, HostError, LeaseAttempt, LeaseHeld, LeaseRequest, LeaseToken};
use crate::pause::Pauses;
use crate::world::{Stop, World, on_each};

/// After how long without a sign of life a lock may be taken over. Long enough for a broken connection to be made
/// again a few times, short enough that nobody unlocks by hand after a laptop died.
pub const LEASE_TIME_TO_LIVE: Duration = Duration::from_secs(30);

/// The message of a lock that a deploy takes for itself (Kamal's words); any other is a person's.
pub const AUTOMATIC_LOCK_MESSAGE: &str = "Automatic deploy lock";

/// Whether a lock that is another's is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// It is not.
    No,
    /// It is, for so long.
    Until(Duration),
    /// It is, and looked at in steps of a person's choice.
    Steadily {
        /// For how long.
        limit: Duration,
        /// The pause between two looks.
        interval: Duration,
    },
}

/// The deploy lock of a service while it is ours: kept alive in the background, checked before every step.
pub struct Lease {
    state: Arc<State>,
    tenure: Tenure,
    taken_over: bool,
    ended: CancellationToken,
    heartbeat: JoinSet<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tenure {
    /// It expires unless it is renewed.
    Renewed,
    /// It stays until it is released by hand.
    Lasting,
    /// The process that started us has it.
    Inherited,
}

struct State {
    host: Arc<dyn Host>,
    token: LeaseToken,
    clock: Arc<dyn Clock>,
    time_to_live: Duration,
    /// When the last renewal that succeeded was asked for: the host's own count began later.
    renewed_at: Mutex<Duration>,
    is_taken: AtomicBool,
    lost: CancellationToken,
}

impl State {
    fn age(&self) -> Duration {
        self.clock.elapsed().saturating_sub(*self.renewed_at.lock())
    }

    fn taken(&self) -> LeaseLost {
        self.is_taken.store(true, Ordering::SeqCst);
        self.lost.cancel();
        LeaseLost::Taken { host: self.host.name().clone() }
    }

    async fn renew(&self) -> Result<(), LeaseLost> {
        let asked_at = self.clock.elapsed();
        match self.host.renew_lease(&self.token).await {
            Ok(true) => {
                let mut renewed_at = self.renewed_at.lock();
                *renewed_at = (*renewed_at).max(asked_at);
                Ok(())
            }
            Ok(false) | Err(HostError::Fenced { .. }) => Err(self.taken()),
            Err(error) => Err(LeaseLost::Unknown(error)),
        }
    }

    async fn beat(&self, ended: &CancellationToken) {
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                () = tokio::time::sleep(self.time_to_live / 6) => {}
            }
            let mut renewal = Box::pin(self.renew());
            let outcome = tokio::select! {
                outcome = &mut renewal => outcome,
                () = self.expired() => {
                    self.lost.cancel();
                    renewal.await
                }
            };
            match outcome {
                Ok(()) => {}
                Err(LeaseLost::Taken { .. }) => return,
                Err(LeaseLost::Unknown(error)) => {
                    tracing::warn!(host = %self.host.name(), error = %crate::failures::chain(&error), "lease not renewed");
                    if self.age() >= self.time_to_live {
                        self.lost.cancel();
                    }
                }
            }
        }
    }

    async fn expired(&self) {
        while self.age() < self.time_to_live {
            tokio::time::sleep(self.time_to_live.saturating_sub(self.age())).await;
        }
    }
}

/// Why a lease does not allow another step.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LeaseLost {
    /// Another client has it.
    #[error("another client has taken over the deploy lock on host `{host}`")]
    Taken {
        /// The host with the lock.
        host: HostName,
    },
    /// Nobody knows: the host with the lock does not answer.
    #[error(transparent)]
    Unknown(HostError),
}

/// Why a deploy lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// It is another's.
    #[error("deploy lock is held: {}", one_line(&held.details))]
    Held {
        /// Whose.
        held: Box<LeaseHeld>,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The host with the lock did not do what it was asked.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Other hosts could not be told of the new holder. The lock was given back.
    #[error(transparent)]
    Fence(Failures),
    /// The primary host is not among the hosts.
    #[error("host `{host}`, which should keep the deploy lock, is not connected")]
    NoPrimary {
        /// The host.
        host: HostName,
    },
    /// The wait was ended by Ctrl-C.
    #[error("stopped waiting for the deploy lock")]
    Interrupted,
}

fn one_line(details: &str) -> String {
    details.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

impl Diagnose for LeaseError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Held { .. } => ErrorKind::Locked,
            Self::Host(error) => error.kind(),
            Self::Fence(failures) => failures.kind(),
            Self::NoPrimary { .. } => ErrorKind::Bug,
            Self::Interrupted => ErrorKind::Interrupted,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Held { held, waited } => held_help(held, *waited),
            Self::Host(error) => error.help(),
            Self::Fence(failures) => failures.help(),
            Self::NoPrimary { .. } | Self::Interrupted => Vec::new(),
        }
    }
}

fn held_help(held: &LeaseHeld, waited: Duration) -> Vec<String> {
    let mut help = Vec::new();
    if let Some(holder) = &held.holder {
        help.push(format!("the holder is process {} on `{}`", holder.pid, holder.machine));
    }
    match held.expires_in {
        Some(left) => help.push(format!(
            "it expires in {} s unless its holder is alive; wait for it with `--lock-wait`",
            left.as_secs().max(1)
        )),
        None => help.push("it never expires by itself".to_owned()),
    }
    if waited.as_secs() > 0 {
        help.push(format!("waited for it for {} s", waited.as_secs()));
    }
    help.push("if nobody deploys: `freehold lock release`".to_owned());
    help
}

impl Lease {
    /// Takes the deploy lock on the primary host, keeps it alive from then on, and tells every other host of the new
    /// holder, so that a client that had it before can change nothing any more.
    ///
    /// A lock without `time_to_live` is a person's: it is not kept alive and no other host is told.
    ///
    /// # Errors
    /// [`LeaseError`]; the lock is not ours then.
    ///
    /// # Cancel safety
    /// Dropping it may leave the lock taken until it expires.
    pub async fn acquire(
        world: &World,
        request: &LeaseRequest,
        waiting: Waiting,
        stop: &Stop,
    ) -> Result<Self, LeaseError> {
        let (lease, primary) = Self::take(world, request, waiting, stop).await?;
        if lease.tenure == Tenure::Lasting {
            return Ok(lease);
        }
        let Some(refusals) = lease.raise_fences(world).await else { return Ok(lease.announced(world)) };
        if !refusals.is_fenced() {
            lease.give_back().await;
            return Err(LeaseError::Fence(refusals));
        }
        // A host has seen a greater number: the count began anew because the primary host is another one or lost its
        // state. It goes on above the greatest.
        let greatest = greatest_fence(world, &request.stem).await;
        lease.give_back().await;
        let token = LeaseToken { stem: request.stem.clone(), fence: greatest.map_err(LeaseError::Fence)? };
        primary.raise_fence(&token).await?;
        let (lease, _) = Self::take(world, request, waiting, stop).await?;
        match lease.raise_fences(world).await {
            None => Ok(lease.announced(world)),
            Some(refusals) => {
                lease.give_back().await;
                Err(LeaseError::Fence(refusals))
            }
        }
    }

    /// Works under the lock of the process that started us (`KAMAL_LOCK=true`): neither takes nor releases it.
    ///
    /// # Errors
    /// [`LeaseError::Host`] when the primary host does not answer.
    pub async fn inherited(world: &World, stem: &str) -> Result<Self, LeaseError> {
        let host = primary(world)?;
        let fence = host.read_fence(stem).await?;
        let token = LeaseToken { stem: stem.to_owned(), fence };
        Ok(Self::start(world, host, token, (Tenure::Inherited, LEASE_TIME_TO_LIVE, false)))
    }

    async fn take(
        world: &World,
        request: &LeaseRequest,
        waiting: Waiting,
        stop: &Stop,
    ) -> Result<(Self, Arc<dyn Host>), LeaseError> {
        let host = primary(world)?;
        let began = Instant::now();
        let mut pauses = Pauses::new(&world.limits);
        loop {
            let asked_at = world.clock.elapsed();
            let held = match host.acquire_lease(request).await? {
                LeaseAttempt::Acquired { token, taken_over } => {
                    let tenure = request.time_to_live.map_or(Tenure::Lasting, |_| Tenure::Renewed);
                    let time_to_live = request.time_to_live.unwrap_or(LEASE_TIME_TO_LIVE);
                    let lease =
                        Self::start(world, Arc::clone(&host), token, (tenure, time_to_live, taken_over));
                    *lease.state.renewed_at.lock() = asked_at;
                    return Ok((lease, host));
                }
                LeaseAttempt::Held(held) => held,
            };
            let waited = began.elapsed();
            let left = match waiting {
                Waiting::Until(limit) | Waiting::Steadily { limit, .. } if is_automatic(&held) => {
                    limit.saturating_sub(waited)
                }
                _ => Duration::ZERO,
            };
            if left.is_zero() {
                return Err(LeaseError::Held { held: Box::new(held), waited });
            }
            world.emit(Event::WaitingForLock {
                holder: one_line(&held.details),
                expires_in_ms: held.expires_in.map(milliseconds),
            });
            let pause = match waiting {
                Waiting::Steadily { interval, .. } => interval,
                Waiting::Until(_) | Waiting::No => pauses.draw().min(Duration::from_secs(1)),
            };
            let pause = pause.min(left);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.soft.cancelled() => return Err(LeaseError::Interrupted),
                () = stop.hard.cancelled() => return Err(LeaseError::Interrupted),
            }
        }
    }

    fn start(
        world: &World,
        host: Arc<dyn Host>,
        token: LeaseToken,
        (tenure, time_to_live, taken_over): (Tenure, Duration, bool),
    ) -> Self {
        let state = Arc::new(State {
            host,
            token,
            clock: Arc::clone(&world.clock),
            time_to_live,
            renewed_at: Mutex::new(world.clock.elapsed()),
            is_taken: AtomicBool::new(false),
            lost: CancellationToken::new(),
        });
        let ended = CancellationToken::new();
        let mut heartbeat = JoinSet::new();
        if tenure == Tenure::Renewed {
            let (state, ended) = (Arc::clone(&state), ended.clone());
            heartbeat.spawn(async move { state.beat(&ended).await });
        }
        Self { state, tenure, taken_over, ended, heartbeat }
    }

    fn announced(self, world: &World) -> Self {
        world.emit(Event::Locked { fence: self.state.token.fence });
        self
    }

    async fn raise_fences(&self, world: &World) -> Option<Failures> {
        let answers = on_each(world, world.others(), |host| host.raise_fence(&self.state.token)).await;
        Failures::of(answers.into_iter().filter_map(|(_, answer)| answer.err()).collect())
    }

    /// Gives the lock back on the way to an error, which says more than a failure of this would.
    async fn give_back(self) {
        let host = self.state.host.name().clone();
        if let Err(error) = self.release().await {
            tracing::warn!(%host, error = %crate::failures::chain(&error), "lock not released");
        }
    }

    /// Returns the proof for the hosts.
    #[must_use]
    pub fn token(&self) -> &LeaseToken {
        &self.state.token
    }

    /// Says whether it was taken from a holder that is gone.
    #[must_use]
    pub fn was_taken_over(&self) -> bool {
        self.taken_over
    }

    /// Says whether it belongs to the process that started us.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.tenure == Tenure::Inherited
    }

    /// Says whether the lock is ours as far as is known without asking.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        !self.state.is_taken.load(Ordering::SeqCst)
            && (self.tenure != Tenure::Renewed || self.state.age() < self.state.time_to_live)
    }

    /// Returns a token that is cancelled when the lock is another's, or when it could not be renewed for so long that
    /// it may be. [`Lease::check`] has the last word.
    #[must_use]
    pub fn lost(&self) -> CancellationToken {
        self.state.lost.clone()
    }

    /// Makes sure that the lock is ours before something is changed: asks the host if the last renewal is not recent,
    /// as after this process or machine was suspended.
    ///
    /// # Errors
    /// [`LeaseLost`].
    pub async fn check(&self) -> Result<(), LeaseLost> {
        if self.state.is_taken.load(Ordering::SeqCst) {
            return Err(self.state.taken());
        }
        // Half: what begins now must reach the host before the whole is over.
        if self.tenure != Tenure::Renewed || self.state.age() < self.state.time_to_live / 2 {
            return Ok(());
        }
        self.state.renew().await
    }

    /// Asks the host whether the lock is still ours, whenever that was last asked.
    ///
    /// # Errors
    /// [`LeaseLost`].
    pub async fn confirm(&self) -> Result<(), LeaseLost> {
        if self.tenure == Tenure::Inherited {
            return Ok(());
        }
        self.state.renew().await
    }

    /// Gives the lock back. An inherited one stays as it is.
    ///
    /// # Errors
    /// [`HostError`] when the host does not answer: the lock then expires by itself.
    pub async fn release(mut self) -> Result<(), HostError> {
        self.ended.cancel();
        while self.heartbeat.join_next().await.is_some() {}
        if self.tenure == Tenure::Inherited {
            return Ok(());
        }
        self.state.host.release_lease(&self.state.token).await
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Lease")
            .field("token", &self.state.token)
            .field("tenure", &self.tenure)
            .finish_non_exhaustive()
    }
}

fn primary(world: &World) -> Result<Arc<dyn Host>, LeaseError> {
    world
        .hosts
        .get(&world.primary)
        .cloned()
        .ok_or_else(|| LeaseError::NoPrimary { host: world.primary.clone() })
}

async fn greatest_fence(world: &World, stem: &str) -> Result<u64, Failures> {
    let answers = on_each(world, world.hosts.iter(), |host| host.read_fence(stem)).await;
    let mut greatest = 0;
    let mut errors = Vec::new();
    for (_, answer) in answers {
        match answer {
            Ok(fence) => greatest = greatest.max(fence),
            Err(error) => errors.push(error),
        }
    }
    Failures::of(errors).map_or(Ok(greatest), Err)
}

/// Kamal waits for the locks of deploys only: a person's lock may stay for days.
fn is_automatic(held: &LeaseHeld) -> bool {
    held.details.lines().any(|line| line.trim() == format!("Message: {AUTOMATIC_LOCK_MESSAGE}"))
}

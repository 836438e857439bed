//! The targets that one switch installed, what is in flight at them and what happened there.

mod care;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use freehold_wire::{
    HealthState, InFlight, ProbeOutcome, Reason, TargetAddress, TargetStatus, TrafficCounters,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::duty::Duty;

use care::Care;
pub(crate) use care::Seat;

/// A container's address and what its health checks found.
#[derive(Debug)]
pub(crate) struct Target {
    /// Unique among all targets of the process, also those with the same address: connections to it are pooled by this.
    pub(crate) id: u64,
    pub(crate) address: TargetAddress,
    health: AtomicU8,
    checks: AtomicU32,
    last_check: Mutex<Option<ProbeOutcome>>,
    record: care::Record,
}

impl Target {
    fn new(address: TargetAddress, health: HealthState) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            id,
            address,
            health: AtomicU8::new(encode(health)),
            checks: AtomicU32::new(0),
            last_check: Mutex::new(None),
            record: care::Record::default(),
        }
    }

    /// Says whether it gets requests.
    pub(crate) fn health(&self) -> HealthState {
        match self.health.load(Ordering::Acquire) {
            0 => HealthState::Adding,
            1 => HealthState::Healthy,
            _ => HealthState::Unhealthy,
        }
    }

    /// Returns what the last check saw.
    pub(crate) fn last_check(&self) -> Option<ProbeOutcome> {
        self.last_check.lock().clone()
    }

    /// Returns how many checks were made.
    pub(crate) fn checks(&self) -> u32 {
        self.checks.load(Ordering::Relaxed)
    }

    /// Takes note of a check; returns the states before and after. A failure while adding keeps adding.
    pub(crate) fn checked(&self, outcome: ProbeOutcome) -> (HealthState, HealthState) {
        let before = self.health();
        let after = match (before, outcome.is_healthy()) {
            (_, true) => HealthState::Healthy,
            (HealthState::Adding, false) => HealthState::Adding,
            (_, false) => HealthState::Unhealthy,
        };
        *self.last_check.lock() = Some(outcome);
        self.checks.fetch_add(1, Ordering::Relaxed);
        self.health.store(encode(after), Ordering::Release);
        (before, after)
    }
}

fn encode(health: HealthState) -> u8 {
    match health {
        HealthState::Adding => 0,
        HealthState::Healthy => 1,
        HealthState::Unhealthy => 2,
    }
}

const REASONS: [Reason; 11] = [
    Reason::TargetRefused,
    Reason::TargetUnresolvable,
    Reason::TargetUnreachable,
    Reason::TargetConnectTimeout,
    Reason::TargetNotTrusted,
    Reason::TargetResponseTimeout,
    Reason::TargetClosed,
    Reason::TargetInvalidResponse,
    Reason::TargetCutBody,
    Reason::NoHealthyTarget,
    Reason::DrainTimeout,
];

/// One thread's share of the counters, on cache lines of its own so that threads do not slow each other down.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane {
    requests_open: AtomicU64,
    tunnels_open: AtomicU64,
    requests: AtomicU64,
    upgrades: AtomicU64,
    by_class: [AtomicU64; 4],
    by_reason: [AtomicU64; REASONS.len()],
    stood_in: [AtomicU64; REASONS.len()],
    next_target: AtomicUsize,
    next_reader: AtomicUsize,
    /// What is in flight and shown nowhere.
    left_out_open: AtomicU64,
}

/// The addresses of a generation's targets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Members<'a> {
    pub(crate) targets: &'a [TargetAddress],
    /// Of those that get reads only.
    pub(crate) read_targets: &'a [TargetAddress],
}

/// The targets that one switch installed.
#[derive(Debug)]
pub(crate) struct Generation {
    number: AtomicU64,
    /// Those that take every request, and behind them those that get reads only.
    pub(crate) targets: Vec<Arc<Target>>,
    writers: usize,
    lanes: Box<[Lane]>,
    installed: Instant,
    retired: AtomicBool,
    /// How many wait for something to end.
    waiting: AtomicUsize,
    /// Told when something ends while somebody waits for it.
    ended: Notify,
    /// Told when a target's health changed.
    pub(crate) health_changed: Notify,
    /// How targets are chosen where not one after the other.
    care: Option<Box<Care>>,
}

impl Generation {
    /// Makes a generation of targets in a state of health, for so many threads; it has no number yet.
    pub(crate) fn new(members: Members<'_>, health: HealthState, threads: usize) -> Self {
        let addresses = members.targets.iter().chain(members.read_targets);
        Self {
            number: AtomicU64::new(0),
            targets: addresses.map(|address| Arc::new(Target::new(address.clone(), health))).collect(),
            writers: members.targets.len(),
            lanes: std::iter::repeat_with(Lane::default).take(threads).collect(),
            installed: Instant::now(),
            retired: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            ended: Notify::new(),
            health_changed: Notify::new(),
            care: None,
        }
    }

    /// Returns the number of the switch that installed it.
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    /// Gives it its number, just before it is installed.
    pub(crate) fn set_number(&self, number: u64) {
        self.number.store(number, Ordering::Relaxed);
    }

    /// Takes targets with some addresses as not healthy until a check of theirs succeeds.
    pub(crate) fn note_unhealthy(&self, addresses: &BTreeSet<String>) {
        for target in self.targets.iter().filter(|target| addresses.contains(target.address.as_str())) {
            target.health.store(encode(HealthState::Unhealthy), Ordering::Release);
        }
    }

    /// Says whether all targets are healthy now.
    pub(crate) fn is_healthy(&self) -> bool {
        self.targets.iter().all(|target| target.health() == HealthState::Healthy)
    }

    /// Says whether some of its targets get reads only.
    pub(crate) fn has_readers(&self) -> bool {
        self.writers < self.targets.len()
    }

    fn writers(&self) -> &[Arc<Target>] {
        self.targets.get(..self.writers).unwrap_or_default()
    }

    fn readers(&self) -> &[Arc<Target>] {
        self.targets.get(self.writers..).unwrap_or_default()
    }

    /// Chooses the next healthy target in turn for a request, other than those already tried. A read goes to one that gets
    /// reads only, if there is one.
    pub(crate) fn choose(&self, lane: usize, tried: &[u64], duty: Duty) -> Option<&Arc<Target>> {
        let lane = self.lanes.get(lane)?;
        if let Some(care) = &self.care {
            let turns = [&lane.next_reader, &lane.next_target];
            let turns = turns.map(|turn| turn.fetch_add(1, Ordering::Relaxed));
            return self.choose_with_care(care, turns, tried, duty);
        }
        if duty == Duty::Read
            && let Some(target) = next(self.readers(), &lane.next_reader, tried)
        {
            return Some(target);
        }
        next(self.writers(), &lane.next_target, tried)
    }

    /// Counts a request in; it counts itself out.
    pub(crate) fn enter(self: &Arc<Self>, lane: usize) -> Flight {
        let flight = Flight {
            generation: Arc::clone(self),
            lane,
            is_tunnel: false,
            is_left_out: false,
            stands_in: None,
        };
        if let Some(lane) = flight.lane() {
            // Ordered with the reading of the routing table's version, see `Shared::is_current`.
            lane.requests_open.fetch_add(1, Ordering::SeqCst);
        }
        flight
    }

    /// Returns what is in flight.
    pub(crate) fn in_flight(&self) -> InFlight {
        InFlight {
            requests: self.lanes.iter().map(|lane| lane.requests_open.load(Ordering::SeqCst)).sum(),
            tunnels: self.lanes.iter().map(|lane| lane.tunnels_open.load(Ordering::SeqCst)).sum(),
        }
    }

    /// Returns how much is in flight that is shown in metrics.
    pub(crate) fn shown_in_flight(&self) -> u64 {
        let InFlight { requests, tunnels } = self.in_flight();
        let left_out = self.lanes.iter().map(|lane| lane.left_out_open.load(Ordering::SeqCst)).sum();
        (requests + tunnels).saturating_sub(left_out)
    }

    /// Lets no connection to its targets be kept for later from now on.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }

    /// Says whether another generation has taken its place.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Waits until what is in flight satisfies a condition.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub(crate) async fn wait_until(&self, done: impl Fn(InFlight) -> bool) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(self);
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            if done(self.in_flight()) {
                return;
            }
            ended.await;
        }
    }

    /// Sums the counters of all threads.
    pub(crate) fn counters(&self) -> TrafficCounters {
        let sum = |pick: fn(&Lane) -> Option<&AtomicU64>| -> u64 {
            self.lanes.iter().filter_map(pick).map(|counter| counter.load(Ordering::Relaxed)).sum()
        };
        let by_reason = |pick: fn(&Lane) -> &[AtomicU64]| -> BTreeMap<Reason, u64> {
            let counts = REASONS.iter().enumerate().map(|(index, reason)| {
                let counters = self.lanes.iter().filter_map(|lane| pick(lane).get(index));
                (*reason, counters.map(|counter| counter.load(Ordering::Relaxed)).sum())
            });
            counts.filter(|(_, count)| *count > 0).collect()
        };
        TrafficCounters {
            since_switch_ms: u64::try_from(self.installed.elapsed().as_millis()).unwrap_or(u64::MAX),
            requests: sum(|lane| Some(&lane.requests)),
            upgrades: sum(|lane| Some(&lane.upgrades)),
            responses_2xx: sum(|lane| lane.by_class.first()),
            responses_3xx: sum(|lane| lane.by_class.get(1)),
            responses_4xx: sum(|lane| lane.by_class.get(2)),
            responses_5xx: sum(|lane| lane.by_class.get(3)),
            target_errors: by_reason(|lane| &lane.by_reason),
            stood_in: by_reason(|lane| &lane.stood_in),
        }
    }

    /// Returns each target that takes every request, with its health.
    pub(crate) fn statuses(&self) -> Vec<TargetStatus> {
        self.statuses_of(self.writers())
    }

    fn statuses_of(&self, targets: &[Arc<Target>]) -> Vec<TargetStatus> {
        let status = |target: &Arc<Target>| TargetStatus {
            address: target.address.clone(),
            health: target.health(),
            last_check: target.last_check(),
            left_out_ms: self.left_out_ms(target),
        };
        targets.iter().map(status).collect()
    }

    /// Returns each target that gets reads only, with its health.
    pub(crate) fn read_statuses(&self) -> Vec<TargetStatus> {
        self.statuses_of(self.readers())
    }

    /// Returns the addresses of the targets that take every request.
    pub(crate) fn addresses(&self) -> Vec<TargetAddress> {
        addresses(self.writers())
    }

    /// Returns the addresses of the targets that get reads only.
    pub(crate) fn read_addresses(&self) -> Vec<TargetAddress> {
        addresses(self.readers())
    }
}

fn addresses(targets: &[Arc<Target>]) -> Vec<TargetAddress> {
    targets.iter().map(|target| target.address.clone()).collect()
}

/// Finds the next healthy one in turn.
fn next<'t>(targets: &'t [Arc<Target>], turn: &AtomicUsize, tried: &[u64]) -> Option<&'t Arc<Target>> {
    let turn = turn.fetch_add(1, Ordering::Relaxed);
    let (before, from) = targets.split_at_checked(turn % targets.len().max(1))?;
    from.iter()
        .chain(before)
        .find(|target| target.health() == HealthState::Healthy && !tried.contains(&target.id))
}

/// Somebody who waits for something to end.
struct Waiting<'g>(&'g Generation);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One request or tunnel in flight at a generation.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) generation: Arc<Generation>,
    lane: usize,
    is_tunnel: bool,
    /// Whether metrics do not show it.
    is_left_out: bool,
    /// The generation that should have answered, and why it did not.
    stands_in: Option<(Arc<Generation>, Reason)>,
}

impl Flight {
    fn lane(&self) -> Option<&Lane> {
        self.generation.lanes.get(self.lane)
    }

    /// Lets it count, by what it comes to, for the generation that should have answered.
    pub(crate) fn stand_in_for(&mut self, generation: &Arc<Generation>, reason: Reason) {
        self.stands_in = Some((Arc::clone(generation), reason));
    }

    /// Lets metrics not show it.
    pub(crate) fn leave_out(&mut self) {
        self.is_left_out = true;
        if let Some(lane) = self.lane() {
            lane.left_out_open.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Says whether metrics do not show it.
    pub(crate) fn is_left_out(&self) -> bool {
        self.is_left_out
    }

    /// Returns the generation that it counts for.
    pub(crate) fn counts_for(&self) -> &Arc<Generation> {
        self.stands_in.as_ref().map_or(&self.generation, |(generation, _)| generation)
    }

    /// Counts it as a tunnel from now on.
    pub(crate) fn become_tunnel(&mut self) {
        if let Some(lane) = self.lane() {
            lane.tunnels_open.fetch_add(1, Ordering::SeqCst);
            lane.requests_open.fetch_sub(1, Ordering::SeqCst);
        }
        if let Some(lane) = self.counts_for().lanes.get(self.lane) {
            lane.upgrades.fetch_add(1, Ordering::Relaxed);
        }
        self.is_tunnel = true;
        self.tell();
    }

    /// Counts what was answered, and why where the proxy had to end it.
    pub(crate) fn count(&self, status: u16, reason: Option<Reason>) {
        let Some(lane) = self.counts_for().lanes.get(self.lane) else { return };
        let index = |reason: Reason| REASONS.iter().position(|known| *known == reason);
        lane.requests.fetch_add(1, Ordering::Relaxed);
        if let Some(counter) =
            usize::from(status / 100).checked_sub(2).and_then(|class| lane.by_class.get(class))
        {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(counter) = reason.and_then(index).and_then(|index| lane.by_reason.get(index)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let stood_in = self.stands_in.as_ref().and_then(|(_, reason)| index(*reason));
        if let Some(counter) = stood_in.and_then(|index| lane.stood_in.get(index)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn tell(&self) {
        if self.generation.waiting.load(Ordering::SeqCst) > 0 {
            self.generation.ended.notify_waiters();
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(lane) = self.lane() {
            let open = if self.is_tunnel { &lane.tunnels_open } else { &lane.requests_open };
            if self.is_left_out {
                lane.left_out_open.fetch_sub(1, Ordering::SeqCst);
            }
            open.fetch_sub(1, Ordering::SeqCst);
        }
        self.tell();
    }
}

//! Which target gets a request where a service wants more than one after the other: the one with the fewest requests, and
//! none whose requests have just failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use freehold_model::{Balance, PassiveHealth};
use freehold_wire::{HealthState, Reason, ServiceSettings};

use super::{Generation, Target};
use crate::duty::Duty;

/// What a service wants of the choice.
#[derive(Debug)]
pub(crate) struct Care {
    balance: Balance,
    passive: Option<PassiveHealth>,
}

/// What became of a target's requests.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Requests in flight, where the choice depends on them.
    open: AtomicU32,
    /// Failures one after the other.
    failures: AtomicU32,
    /// How often it was left out since it last worked for longer.
    pauses: AtomicU32,
    /// Until when it is left out, in milliseconds since the generation was made; 0 for never.
    until_ms: AtomicU64,
}

/// A request's place at a target, for as long as it is there.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Target>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.record.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Target {
    /// Says whether it is left out at a time.
    fn is_left_out(&self, now_ms: u64) -> bool {
        self.record.until_ms.load(Ordering::Relaxed) > now_ms
    }
}

impl Generation {
    /// Makes it choose as settings say.
    pub(crate) fn caring(mut self, settings: &ServiceSettings) -> Self {
        let traffic = settings.traffic.as_deref();
        let care = traffic.map(|traffic| Care { balance: traffic.balance, passive: traffic.passive_health });
        let care = care.filter(|care| care.passive.is_some() || care.balance != Balance::RoundRobin);
        self.care = care.map(Box::new);
        self
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.installed.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns for how much longer a target is left out.
    pub(super) fn left_out_ms(&self, target: &Target) -> Option<u64> {
        let until = target.record.until_ms.load(Ordering::Relaxed);
        until.checked_sub(self.now_ms()).filter(|left| *left > 0)
    }

    /// Chooses with care. A target that is left out is chosen where there is no other: a service that has targets is never
    /// without one because of what became of requests.
    #[cold]
    pub(super) fn choose_with_care(
        &self,
        care: &Care,
        turns: [usize; 2],
        tried: &[u64],
        duty: Duty,
    ) -> Option<&Arc<Target>> {
        let now_ms = if care.passive.is_some() { Some(self.now_ms()) } else { None };
        let [read_turn, turn] = turns;
        let readers = if duty == Duty::Read { self.readers() } else { &[] };
        let pick = |targets, turn, now_ms: Option<u64>| {
            pick(targets, turn, care.balance, &|target: &Target| {
                target.health() == HealthState::Healthy
                    && !tried.contains(&target.id)
                    && now_ms.is_none_or(|now_ms| !target.is_left_out(now_ms))
            })
        };
        pick(readers, read_turn, now_ms)
            .or_else(|| pick(self.writers(), turn, now_ms))
            .or_else(|| pick(readers, read_turn, None))
            .or_else(|| pick(self.writers(), turn, None))
    }

    /// Takes a place at a target, where the choice depends on how many are taken.
    pub(crate) fn seat(&self, target: &Arc<Target>) -> Option<Seat> {
        let counts = self.care.as_ref().is_some_and(|care| care.balance == Balance::LeastConnections);
        counts.then(|| {
            target.record.open.fetch_add(1, Ordering::Relaxed);
            Seat(Arc::clone(target))
        })
    }

    /// Takes note of what became of a request at a target; returns for how long it is left out now, if it is.
    pub(crate) fn judge(&self, target: &Target, reason: Option<Reason>) -> Option<Duration> {
        let passive = self.care.as_ref()?.passive?;
        match reason {
            None => {
                self.worked(target, &passive);
                None
            }
            Some(reason) if reason.is_target_error() => self.failed(target, &passive),
            Some(_) => None,
        }
    }

    fn worked(&self, target: &Target, passive: &PassiveHealth) {
        let record = &target.record;
        if record.failures.load(Ordering::Relaxed) > 0 {
            record.failures.store(0, Ordering::Relaxed);
        }
        // It has worked for as long as it had been left out: what was before is forgotten.
        let pauses = record.pauses.load(Ordering::Relaxed);
        let until = record.until_ms.load(Ordering::Relaxed);
        if pauses > 0 && self.now_ms() > until.saturating_add(pause_ms(passive, pauses - 1)) {
            record.pauses.store(0, Ordering::Relaxed);
        }
    }

    fn failed(&self, target: &Target, passive: &PassiveHealth) -> Option<Duration> {
        let record = &target.record;
        let now_ms = self.now_ms();
        // What had begun before it was left out says nothing new.
        if target.is_left_out(now_ms) || self.is_last(target, now_ms) {
            return None;
        }
        // After a pause one failure is enough: the count is not taken back until something works.
        if record.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1) < passive.failures {
            return None;
        }
        let pauses = record.pauses.fetch_add(1, Ordering::Relaxed);
        let pause = pause_ms(passive, pauses);
        record.until_ms.store(now_ms.saturating_add(pause), Ordering::Relaxed);
        Some(Duration::from_millis(pause))
    }

    /// Says whether no other target that takes every request would be left.
    fn is_last(&self, target: &Target, now_ms: u64) -> bool {
        !self.writers().iter().any(|other| {
            other.id != target.id && other.health() == HealthState::Healthy && !other.is_left_out(now_ms)
        })
    }
}

/// Returns how long a pause is, by how many there were before.
fn pause_ms(passive: &PassiveHealth, pauses: u32) -> u64 {
    let factor = 1u64.checked_shl(pauses).unwrap_or(u64::MAX);
    passive.pause_ms.saturating_mul(factor).min(passive.max_pause_ms)
}

/// Picks a target that fits: the next one in turn, or of those with the fewest requests the next one in turn.
fn pick<'t>(
    targets: &'t [Arc<Target>],
    turn: usize,
    balance: Balance,
    fits: &dyn Fn(&Target) -> bool,
) -> Option<&'t Arc<Target>> {
    let (before, from) = targets.split_at_checked(turn % targets.len().max(1))?;
    let mut fitting = from.iter().chain(before).filter(|target| fits(target));
    match balance {
        Balance::RoundRobin => fitting.next(),
        // The first of several that are equal.
        Balance::LeastConnections => fitting.min_by_key(|target| target.record.open.load(Ordering::Relaxed)),
    }
}

#[cfg(test)]
mod tests {
    use freehold_wire::TargetAddress;

    use super::*;
    use crate::generation::Members;

    fn generation(traffic: &str, targets: usize) -> Generation {
        let addresses: Vec<TargetAddress> =
            (0..targets).map(|number| TargetAddress::parse(&format!("t{number}a:80")).unwrap()).collect();
        let members = Members { targets: &addresses, read_targets: &[] };
        let settings =
            ServiceSettings { traffic: Some(serde_json::from_str(traffic).unwrap()), ..Default::default() };
        Generation::new(members, HealthState::Healthy, 1).caring(&settings)
    }

    fn chosen(generation: &Generation) -> String {
        generation.choose(0, &[], Duty::Write).unwrap().address.to_string()
    }

    #[test]
    fn the_target_with_the_fewest_requests_is_chosen_and_equal_ones_take_turns() {
        let generation = generation(r#"{"balance":"least_connections"}"#, 3);
        let turns: Vec<String> = (0..3).map(|_| chosen(&generation)).collect();
        assert_eq!(turns, ["t0a:80", "t1a:80", "t2a:80"]);
        let seats = [0, 0, 1, 2, 2].map(|at| generation.seat(&generation.targets[at]));
        assert!((0..5).all(|_| chosen(&generation) == "t1a:80"));
        drop(seats);
        let mut again: Vec<String> = (0..3).map(|_| chosen(&generation)).collect();
        again.sort();
        assert_eq!(again, ["t0a:80", "t1a:80", "t2a:80"]);
    }

    #[test]
    fn without_wishes_nothing_is_kept() {
        let generation = generation("{}", 2);
        assert!(generation.care.is_none());
        assert!(generation.seat(&generation.targets[0]).is_none());
        assert_eq!(generation.judge(&generation.targets[0], Some(Reason::TargetRefused)), None);
    }

    const PASSIVE: &str = r#"{"passive_health":{"failures":3,"pause_ms":60000,"max_pause_ms":100000}}"#;

    #[test]
    fn a_target_whose_requests_fail_is_left_out_for_longer_each_time() {
        let generation = generation(PASSIVE, 2);
        let [first, _] = [&generation.targets[0], &generation.targets[1]];
        let failed = || generation.judge(first, Some(Reason::TargetRefused));
        assert_eq!([failed(), failed()], [None; 2]);
        generation.judge(first, None);
        assert_eq!([failed(), failed()], [None; 2], "what works in between counts");
        assert_eq!(failed(), Some(Duration::from_secs(60)));
        assert!((0..4).all(|_| chosen(&generation) == "t1a:80"));
        assert!(generation.statuses()[0].left_out_ms.is_some());
        assert_eq!(failed(), None, "it is left out already");
        first.record.until_ms.store(0, Ordering::Relaxed);
        assert_eq!(failed(), Some(Duration::from_secs(100)), "after a pause one failure is enough");
        assert_eq!(generation.judge(first, Some(Reason::ClientGone)), None);
    }

    #[test]
    fn the_last_target_is_never_left_out() {
        let generation = generation(PASSIVE, 2);
        for target in &generation.targets {
            for _ in 0..10 {
                generation.judge(target, Some(Reason::TargetClosed));
            }
        }
        assert!(generation.statuses()[1].left_out_ms.is_none());
        assert!(!chosen(&generation).is_empty());
        let only = self::generation(PASSIVE, 1);
        assert!((0..10).all(|_| only.judge(&only.targets[0], Some(Reason::TargetClosed)).is_none()));
    }
}

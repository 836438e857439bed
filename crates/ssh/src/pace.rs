use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// How many connections begin at a time at each place, which adapts to what the place bears.
///
/// sshd drops connections at random when more than a few have not logged in yet (`MaxStartups`, 10 by default), and
/// after failures of others it may refuse all for a while (`PerSourcePenalties`). Such a drop halves the number; each
/// login adds one.
#[derive(Default)]
pub(crate) struct Pace {
    places: Mutex<BTreeMap<String, Arc<Place>>>,
}

/// How often a connection that was dropped is begun anew.
pub(crate) const RETRIES: u32 = 8;

/// The first pause; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(40);

/// No pause is longer, but for the jitter.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

struct Place {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    running: usize,
    limit: usize,
    /// Goes up with each halving: of several drops at a time only the first counts.
    epoch: u64,
}

impl Pace {
    /// Waits for the turn to begin a connection there.
    ///
    /// # Cancel safety
    /// The turn goes to another.
    pub(crate) async fn turn(&self, place: &str) -> Turn {
        let place = Arc::clone(self.places.lock().entry(place.to_owned()).or_insert_with(|| {
            let state = State { running: 0, limit: usize::MAX, epoch: 0 };
            Arc::new(Place { state: Mutex::new(state), changed: Notify::new() })
        }));
        loop {
            let changed = place.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(epoch) = place.begin() {
                return Turn { place: Arc::clone(&place), epoch };
            }
            changed.await;
        }
    }
}

impl Place {
    fn begin(&self) -> Option<u64> {
        let mut state = self.state.lock();
        if state.running >= state.limit {
            return None;
        }
        state.running += 1;
        Some(state.epoch)
    }
}

/// The right to begin one connection, until it is dropped.
pub(crate) struct Turn {
    place: Arc<Place>,
    epoch: u64,
}

impl Turn {
    /// The place has let us in: it may bear more.
    pub(crate) fn was_good(self) {
        let mut state = self.place.state.lock();
        state.limit = state.limit.saturating_add(1);
    }

    /// The place has dropped the connection before it said anything: it bears less.
    pub(crate) fn was_too_much(self) {
        let mut state = self.place.state.lock();
        if state.epoch == self.epoch {
            state.limit = (state.running.min(state.limit) / 2).max(1);
            state.epoch += 1;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.place.state.lock().running -= 1;
        self.place.changed.notify_waiters();
    }
}

/// Returns the pause before an attempt, from 1: it doubles, and up to as much again is added by chance.
pub(crate) fn pause(attempt: u32) -> Duration {
    let doubled =
        FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1))).min(LONGEST_PAUSE);
    let mut random = [0_u8; 1];
    // Without chance the pause is only less well spread.
    let [share] = if getrandom::fill(&mut random).is_ok() { random } else { [u8::MAX] };
    doubled + doubled.mul_f64(f64::from(share) / f64::from(u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn several_drops_at_a_time_halve_once_and_logins_add() {
        let pace = Pace::default();
        let mut turns = Vec::new();
        for _ in 0..16 {
            turns.push(pace.turn("web:22").await);
        }
        // Five of the same burst are dropped: eleven still run, and eight may.
        for _ in 0..5 {
            turns.pop().unwrap().was_too_much();
        }
        let blocked = tokio::time::timeout(Duration::ZERO, pace.turn("web:22")).await;
        assert!(blocked.is_err());
        let elsewhere = pace.turn("job:22").await;
        elsewhere.was_good();
        for _ in 0..4 {
            drop(turns.pop());
        }
        let next = tokio::time::timeout(Duration::ZERO, pace.turn("web:22")).await.unwrap();
        // That makes eight again; a login gives room for one more than it frees.
        next.was_good();
        let _first = pace.turn("web:22").await;
        let _second = tokio::time::timeout(Duration::ZERO, pace.turn("web:22")).await.unwrap();
        assert!(tokio::time::timeout(Duration::ZERO, pace.turn("web:22")).await.is_err());
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_are_spread() {
        for attempt in 1..40 {
            let least = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(attempt - 1)).min(LONGEST_PAUSE);
            let pause = pause(attempt);
            assert!(pause >= least && pause <= least * 2, "{attempt}: {pause:?}");
        }
    }
}

use std::time::Duration;

use freehold_model::{Diagnose, ErrorKind};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::failures::chain;
use crate::world::Limits;

/// Pauses between tries: each twice as long as the one before up to a limit, half of it random, so that many clients
/// do not come back at the same moment.
#[derive(Debug)]
pub(crate) struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { next: limits.shortest_pause, longest: limits.longest_pause }
    }

    pub(crate) fn draw(&mut self) -> Duration {
        let full = self.next.min(self.longest);
        self.next = full * 2;
        // Without random numbers every client pauses as long as the others, which is safe.
        let fraction = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        full / 2 + (full / 2).mul_f64(fraction)
    }
}

/// Decides whether something is tried again after a failure: when the host could not be reached, until the time is
/// over.
#[derive(Debug)]
pub(crate) struct Retry {
    pauses: Pauses,
    began: Instant,
    limit: Duration,
    other_tries: u32,
}

impl Retry {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { pauses: Pauses::new(limits), began: Instant::now(), limit: limits.retry, other_tries: 0 }
    }

    /// Makes one that tries twice more after any failure, such as an engine that just starts again.
    pub(crate) fn patient(limits: &Limits) -> Self {
        Self { other_tries: 2, ..Self::new(limits) }
    }

    /// Pauses and returns whether to try again.
    pub(crate) async fn again<E>(&mut self, error: &E, stop: &CancellationToken) -> bool
    where
        E: Diagnose + Sync,
    {
        match error.kind() {
            ErrorKind::Unreachable => {}
            ErrorKind::Locked | ErrorKind::Interrupted => return false,
            _ if self.other_tries == 0 => return false,
            _ => self.other_tries -= 1,
        }
        let left = self.limit.saturating_sub(self.began.elapsed());
        if left.is_zero() {
            return false;
        }
        tracing::warn!(error = %chain(error), "trying again");
        tokio::select! {
            () = tokio::time::sleep(self.pauses.draw().min(left)) => true,
            () = stop.cancelled() => false,
        }
    }
}

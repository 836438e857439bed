//! How slowly a client may send a body.

use std::time::{Duration, Instant};

use crate::limits::Limits;

/// The waiting for one client's body. Only the time counts in which the client was waited for, so that a slow target is
/// nobody's fault.
#[derive(Debug)]
pub(crate) struct Pace {
    started: Instant,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Begins with nothing received.
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), waited: Duration::ZERO, bytes: 0 }
    }

    /// Begins to wait; returns for how long: for a piece, but not below the least rate since the beginning.
    pub(crate) fn begin(&mut self, limits: &Limits) -> Duration {
        self.started = Instant::now();
        let rate = u64::from(limits.least_upload_bytes_per_second.max(1));
        let earned = Duration::from_millis(self.bytes.saturating_mul(1000) / rate);
        (limits.upload + earned).saturating_sub(self.waited).min(limits.upload)
    }

    /// Takes note of what came.
    pub(crate) fn received(&mut self, bytes: usize) {
        self.waited += self.started.elapsed();
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_trickles_runs_out_of_time_and_a_fast_one_does_not() {
        let limits = Limits {
            upload: Duration::from_secs(100),
            least_upload_bytes_per_second: 100,
            ..Limits::default()
        };
        let mut pace = Pace::new();
        assert_eq!(pace.begin(&limits), Duration::from_secs(100));
        // A byte every ten seconds: each is in time, all of them are not.
        for _ in 0..9 {
            pace.bytes += 1;
            pace.waited += Duration::from_secs(10);
        }
        assert_eq!(pace.begin(&limits), Duration::from_millis(10_090));
        pace.waited += Duration::from_secs(20);
        assert_eq!(pace.begin(&limits), Duration::ZERO);
        pace.bytes += 5000;
        assert_eq!(pace.begin(&limits), Duration::from_millis(40_090));
        pace.bytes = u64::MAX;
        assert_eq!(pace.begin(&limits), Duration::from_secs(100));
    }
}

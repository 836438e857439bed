//! What a client may send that costs something and brings nothing.
//!
//! Each frame that carries neither a request nor a body takes from an allowance, which time and answers fill up again:
//! settings, pings, priorities, resets, window updates, empty frames, and whatever makes us reset a stream. A connection
//! without any left is closed. That bounds what rapid resets (CVE-2023-44487), those that a client makes us send
//! (CVE-2025-8671), floods of settings, pings (CVE-2019-9512, -9515), empty frames (CVE-2019-9518) and window updates cost.

use std::time::{Duration, Instant};

use super::frame::{FrameHead, flag, kind};

/// How much a connection may have saved up.
const MAX_ALLOWANCE: u64 = 1000;

/// How much comes back in a second.
const PER_SECOND: u64 = 100;

/// How much comes back for each frame of an answer's body: a client that takes it tells so with two window updates.
const PER_ANSWER_FRAME: u64 = 3;

/// What a stream costs that has to be reset because of what the client has sent: a line of the log as well.
pub(super) const VIOLATION: u64 = 10;

/// The allowance of one connection.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u64,
    filled_up: Instant,
}

impl Allowance {
    /// Starts with all that may be saved up.
    pub(super) fn new(now: Instant) -> Self {
        Self { left: MAX_ALLOWANCE, filled_up: now }
    }

    /// Says whether the client has sent too much that brings nothing. What is over stays over.
    pub(super) fn is_exhausted(&self) -> bool {
        self.left == 0
    }

    /// Takes note of a frame of an answer's body.
    pub(super) fn answered(&mut self) {
        if !self.is_exhausted() {
            self.left = (self.left + PER_ANSWER_FRAME).min(MAX_ALLOWANCE);
        }
    }

    /// Takes note of a frame.
    pub(super) fn received(&mut self, head: FrameHead) {
        match cost(head) {
            0 => {}
            cost => self.take(cost, Instant::now()),
        }
    }

    /// Takes so much away, after adding what has come back.
    pub(super) fn take(&mut self, cost: u64, now: Instant) {
        if self.is_exhausted() {
            return;
        }
        let elapsed = now.saturating_duration_since(self.filled_up).as_millis();
        let back = u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_mul(PER_SECOND) / 1000;
        if back >= MAX_ALLOWANCE {
            self.filled_up = now;
        } else {
            // What is not enough for one yet counts the next time.
            self.filled_up += Duration::from_millis(back * 1000 / PER_SECOND);
        }
        self.left = self.left.saturating_add(back).min(MAX_ALLOWANCE).saturating_sub(cost);
    }
}

fn cost(head: FrameHead) -> u64 {
    match head.kind {
        kind::DATA if head.length == 0 && !head.has(flag::END_STREAM) => 2,
        kind::DATA | kind::HEADERS => 0,
        // Cancelling is a client's right; to do it all the time is not.
        kind::RST_STREAM => 2,
        kind::SETTINGS if !head.has(flag::ACKNOWLEDGEMENT) => 5,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> FrameHead {
        FrameHead::new(kind, flags, 1, length)
    }

    /// One that nothing comes back to before an hour is over.
    fn allowance() -> Allowance {
        Allowance::new(Instant::now() + Duration::from_secs(3600))
    }

    fn receive(allowance: &mut Allowance, head: FrameHead, times: usize) {
        (0..times).for_each(|_| allowance.received(head));
    }

    #[test]
    fn an_allowance_is_used_up_and_comes_back() {
        let mut allowance = allowance();
        let ping = frame(kind::PING, 0, 8);
        receive(&mut allowance, ping, 999);
        assert!(!allowance.is_exhausted());
        allowance.answered();
        receive(&mut allowance, ping, 3);
        assert!(!allowance.is_exhausted());
        allowance.take(0, Instant::now() + Duration::from_secs(3601));
        assert!(allowance.left > 90);
        receive(&mut allowance, frame(kind::SETTINGS, 0, 0), 400);
        assert!(allowance.is_exhausted());
        allowance.answered();
        assert!(allowance.is_exhausted(), "what is over stays over");
    }

    #[test]
    fn time_that_is_not_enough_for_one_counts_the_next_time() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        allowance.take(900, start);
        for frame in 1..=100 {
            allowance.take(1, start + Duration::from_millis(frame * 19));
        }
        assert_eq!(allowance.left, 190);
    }

    #[test]
    fn bodies_cost_nothing_unless_they_are_empty() {
        let mut allowance = allowance();
        receive(&mut allowance, frame(kind::DATA, 0, 1), 5000);
        receive(&mut allowance, frame(kind::DATA, flag::END_STREAM, 0), 5000);
        receive(&mut allowance, frame(kind::HEADERS, 0, 0), 5000);
        assert_eq!(allowance.left, MAX_ALLOWANCE);
        receive(&mut allowance, frame(kind::DATA, 0, 0), 500);
        assert!(allowance.is_exhausted());
    }
}

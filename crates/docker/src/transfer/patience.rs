//! How long a target is tried again whose connection breaks.

use std::time::Duration;

use tokio::time::Instant;

/// Tries without getting further.
const TRIES: u32 = 8;

/// The time without getting further.
const LIMIT: Duration = Duration::from_secs(60);

const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);

/// Counts the tries since a transfer last got further.
#[derive(Debug)]
pub(super) struct Patience {
    tries: u32,
    /// When the first try was made.
    since: Option<Instant>,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { tries: 0, since: None }
    }

    /// Takes note that the transfer got further.
    pub(super) fn renew(&mut self) {
        *self = Self::new();
    }

    /// Waits before the next try. Returns whether there is one.
    pub(super) async fn again(&mut self) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        if self.tries >= TRIES || since.elapsed() > LIMIT {
            return false;
        }
        let pause = SHORTEST.saturating_mul(1 << self.tries).min(LONGEST);
        self.tries += 1;
        tokio::time::sleep(pause.mul_f64(0.5 + random_share() / 2.0)).await;
        true
    }
}

/// Returns a number from 0 to 1; without it many clients would come back at one moment.
fn random_share() -> f64 {
    let mut byte = [0_u8; 1];
    if getrandom::fill(&mut byte).is_err() {
        return 1.0;
    }
    f64::from(byte[0]) / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tries_end_unless_something_moves() {
        let mut patience = Patience::new();
        let begun = Instant::now();
        let mut tries = 0;
        while patience.again().await {
            tries += 1;
            assert!(tries <= TRIES);
        }
        assert_eq!(tries, TRIES);
        assert!(begun.elapsed() < LIMIT);
        patience.renew();
        tokio::time::advance(LIMIT * 2).await;
        assert!(patience.again().await, "what went well before does not count");
        tokio::time::advance(LIMIT * 2).await;
        assert!(!patience.again().await, "too long without getting further");
    }
}

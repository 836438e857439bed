use std::time::Duration;

use freehold_fleet::Clock;
use tokio::time::Instant;

/// A clock that follows the runtime's, which a test may pause.
#[derive(Debug, Clone, Copy)]
pub struct FakeClock {
    start: Instant,
}

impl FakeClock {
    /// Makes a clock that shows zero now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for FakeClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for FakeClock {
    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

use jiff::Timestamp;

/// Tells the time.
pub(crate) trait Clock: Send + Sync {
    /// Returns the time in UTC. It may jump.
    fn now(&self) -> Timestamp;
}

/// The time of this machine.
#[derive(Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

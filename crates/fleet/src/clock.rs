use std::time::Duration;

/// A clock for leases. It goes on while this process or the machine is suspended: that is what a lease must notice.
pub trait Clock: Send + Sync {
    /// Returns the time since some fixed moment in the past.
    fn elapsed(&self) -> Duration;
}

/// The kernel's clock since boot, suspended time included.
#[derive(Debug, Clone, Copy, Default)]
pub struct BootClock;

impl Clock for BootClock {
    fn elapsed(&self) -> Duration {
        // Not `Instant`: on Linux that is CLOCK_MONOTONIC, which stands still while a laptop's lid is closed.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
    }
}

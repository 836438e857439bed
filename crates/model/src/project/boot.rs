use std::num::NonZeroU32;
use std::time::Duration;

/// How many hosts at a time take a new release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Boot {
    /// The size of a batch, or none for all at once.
    pub limit: Option<BootLimit>,
    /// The pause between batches.
    pub wait: Duration,
    /// Whether the roles of one host boot one after another, the primary one first, or all at the same time.
    pub order: RoleOrder,
}

/// The order in which the roles of one host boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RoleOrder {
    /// One after another, the primary role first.
    #[default]
    OneByOne,
    /// All at the same time.
    Parallel,
}

/// The size of a batch of hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootLimit {
    /// That many hosts.
    Hosts(NonZeroU32),
    /// That share of the application's hosts, 1 to 100, rounded down, at least one host.
    Percent(u8),
}

/// Deadlines and delays of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// How long a new container may take to become healthy.
    pub deploy: Duration,
    /// How long requests in flight on the old release may take to finish.
    pub drain: Duration,
    /// How long a container that has no health check must keep running to count as healthy.
    pub readiness_delay: Duration,
    /// How long the new release is watched after the switch before the old one is retired.
    pub soak: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            deploy: Duration::from_secs(30),
            drain: Duration::from_secs(30),
            readiness_delay: Duration::from_secs(7),
            soak: Duration::from_secs(2),
        }
    }
}

use serde::{Deserialize, Serialize};

/// What a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlanKind {
    /// A new release.
    Deploy,
    /// An earlier release again.
    Rollback,
    /// Starting what was stopped.
    Start,
    /// Stopping what runs.
    Stop,
    /// Removing what is no longer needed.
    Prune,
    /// Removing everything.
    Remove,
    /// Accessories.
    Accessory,
    /// Answering visitors with a page instead of the service.
    Maintenance,
    /// Serving again after that.
    Live,
    /// The proxies of the hosts.
    Proxy,
    /// A new release beside the one that serves.
    CanaryStart,
    /// The release that was tried serves.
    CanaryPromote,
    /// The release that was tried goes.
    CanaryAbort,
}

/// What a stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageKind {
    /// Builds the image.
    Build,
    /// Checks the image before any host gets it.
    Check,
    /// Brings the image and makes the host ready.
    Prepare,
    /// Runs the release commands of the roles.
    Release,
    /// Starts the new containers and waits until they are healthy.
    Boot,
    /// Switches the traffic.
    Commit,
    /// Watches the new release.
    Soak,
    /// Retires the old release and writes down the new one.
    Retire,
    /// Pauses between two batches.
    Wait,
}

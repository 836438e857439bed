//! Observes hosts, executes a plan over all of them, journals what it did and tells what happens.
//!
//! Only this crate changes a host. [`Host`] is what it needs of one; [`EngineHost`] is the real thing, over SSH or the
//! local engine. [`execute`] walks through a plan under a lease; [`recover`] finishes or undoes what a dead client
//! left. Progress lines, JSON and the journal all follow from the same [`Event`]s.

mod answering;
mod clock;
mod egress;
mod engine_host;
mod event;
mod execute;
mod failures;
mod host;
mod journal;
mod lease;
mod pause;
mod recover;
mod world;

pub use answering::{DatabaseAnswer, database_from_here};
pub use clock::{BootClock, Clock};
pub use engine_host::{
    Attached, AttachedControl, BootFile, BuildContext, BuildDestination, EngineHost, EngineState,
    Examination, GuardChange, GuardFailure, GuardMeans, GuardState, GuardUndo, HostSocket, ImageTrust,
    LOCAL_REGISTRY, LoadedGuard, MissingImage, OneOff, ProxyDetails, ProxyHistory, PublishedBy, Reach,
    ReachReport, ReachTarget, Reachability, ServedCertificate, ServedService, ServedTarget, ServerCommand,
    ServerControl, ServiceDetails, SshReach, Stock, Workshop, reach_from_here,
};
pub use event::{Event, Progress, StepOutcome, Watch};
pub use execute::{ExecuteError, PutBack, Report, StepFailure, StepLeft, execute};
pub use failures::{Failures, chain};
pub use host::{
    Explanation, Holder, Host, HostError, LeaseAttempt, LeaseHeld, LeaseRequest, LeaseToken, Outcome, Scope,
    StepContext, StepError, Work,
};
pub use journal::{JournalEntry, JournalState, StoredJournal};
pub use lease::{AUTOMATIC_LOCK_MESSAGE, LEASE_TIME_TO_LIVE, Lease, LeaseError, LeaseLost, Waiting};
pub use recover::{Intent, RecoverError, Recovered, recover};
pub use world::{Gate, Limits, Stop, World, observe};

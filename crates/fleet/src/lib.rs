//! Observes hosts, executes a plan over all of them, journals what it did and tells what happens.
//!
//! Only this crate changes a host. [`Host`] is what it needs of one; `EngineHost` is the real thing, over SSH or the
//! local engine. `execute` walks through a plan under a lease; `recover` finishes or undoes what a dead client
//! left. Progress lines, JSON and the journal all follow from the same [`Event`]s.

mod event;
mod host;
mod journal;

pub use event::{Event, Progress, StepOutcome, Watch};
pub use host::{
    Explanation, Holder, Host, HostError, LeaseAttempt, LeaseHeld, LeaseRequest, LeaseToken, Outcome, Scope,
    StepContext, StepError,
};
pub use journal::{JournalEntry, JournalState, StoredJournal};

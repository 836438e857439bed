use std::time::Duration;

use freehold_model::HostName;
use freehold_plan::StepId;

/// Something that goes wrong, once.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The host; none is any.
    pub host: Option<HostName>,
    /// At which call.
    pub point: Point,
    /// Before or after the call has its effect.
    pub moment: Moment,
    /// What goes wrong.
    pub harm: Harm,
}

/// A call of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Doing this step.
    Perform(StepId),
    /// Undoing this step.
    Undo(StepId),
    /// Undoing any step.
    AnyUndo,
    /// The call of this number since the fleet was made, from 1, whatever it is.
    Call(u64),
}

/// Before or after the call has its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Nothing has happened yet.
    Before,
    /// It has happened, but nobody was told.
    After,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// The host says that it cannot.
    Fail,
    /// The connection breaks, and cannot be made again for so long.
    Lose(Duration),
    /// It takes longer.
    Slow(Duration),
    /// It does not end before the step is told to stop.
    Hang,
    /// The client is gone: no call of it ever ends.
    Crash,
    /// The client stands still, with all its tasks, until it is thawed.
    Freeze,
}

use std::error::Error;

/// The class of an error, which decides the exit code of the process.
///
/// The codes are public and documented in `docs/reference/exit-codes.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorKind {
    /// The operation was tried and did not succeed.
    Failed,
    /// The command line is wrong.
    Usage,
    /// The deploy file, a secrets file or another local file is wrong.
    Configuration,
    /// A host cannot be reached or did not let us in.
    Unreachable,
    /// Another deploy holds the lock.
    Locked,
    /// The new release is unhealthy; everything was put back.
    Unhealthy,
    /// The operation failed half-way and needs a person; the message says what for.
    NeedsAttention,
    /// The caller may not do this.
    NotPermitted,
    /// A person answered no.
    Declined,
    /// `plan --exit-code` found changes.
    PendingChanges,
    /// A bug of ours.
    Bug,
    /// Stopped by Ctrl-C.
    Interrupted,
}

impl ErrorKind {
    /// Returns the exit code of the process, 1 to 130.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Configuration => 3,
            Self::Unreachable => 4,
            Self::Locked => 5,
            Self::Unhealthy => 6,
            Self::NeedsAttention => 7,
            Self::NotPermitted => 8,
            Self::Declined => 9,
            Self::PendingChanges => 10,
            Self::Bug => 70,
            Self::Interrupted => 130,
        }
    }
}

/// An error that can reach a person: it knows its class and what to try next.
pub trait Diagnose: Error {
    /// Returns the class of the error.
    fn kind(&self) -> ErrorKind;

    /// Returns the next things to type or to check, each one line without a full stop.
    fn help(&self) -> Vec<String> {
        Vec::new()
    }

    /// Says whether the result, which was shown before, tells it already: then only the exit code is left to say it.
    fn is_told(&self) -> bool {
        false
    }

    /// Returns what was seen that supports the message, shown between the causes and the help.
    fn evidence(&self) -> Vec<Evidence> {
        Vec::new()
    }

    /// Says whether the command has written a result that says the same. With `--json` nothing is written beside it then:
    /// only the exit code tells.
    fn is_in_result(&self) -> bool {
        false
    }
}

/// A titled block of lines that supports an error: answers of a health check, the last lines of a log.
///
/// The lines are as they came, possibly from a container: whoever shows them escapes control characters, see
/// [`crate::printable`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// What the lines are: `last lines of its log`.
    pub title: String,
    /// The lines.
    pub lines: Vec<String>,
}

use std::fmt;

use freehold_model::{Diagnose, ErrorKind};

/// Why a command did not do what it was asked: any error that can say its class and what to try next.
///
/// Each operation has an error type of its own; this one only carries them to `main`. It implements neither `Error` nor
/// `Diagnose`, so that `?` can turn each of those types into it.
pub struct CommandError(Box<dyn Diagnose + Send + Sync>);

impl CommandError {
    /// Returns the error itself.
    #[must_use]
    pub fn diagnose(&self) -> &(dyn Diagnose + Send + Sync) {
        self.0.as_ref()
    }
}

impl fmt::Debug for CommandError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl<E: Diagnose + Send + Sync + 'static> From<E> for CommandError {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

/// A local file that could not be read or written. The cause names the path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}")]
pub(crate) struct FileError {
    /// What was tried: `read the deploy file`.
    pub(crate) operation: String,
    /// The cause.
    pub(crate) source: std::io::Error,
}

impl Diagnose for FileError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Configuration
    }
}

/// A command line that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct UsageError {
    /// What is wrong.
    pub(crate) message: String,
    /// What to type instead.
    pub(crate) help: Vec<String>,
}

impl UsageError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: Vec::new() }
    }

    pub(crate) fn help(mut self, line: impl Into<String>) -> Self {
        self.help.push(line.into());
        self
    }
}

impl Diagnose for UsageError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }

    fn help(&self) -> Vec<String> {
        self.help.clone()
    }
}

/// The command was ended by Ctrl-C before it had changed anything.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; nothing was changed")]
pub(crate) struct Interrupted;

impl Diagnose for Interrupted {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Interrupted
    }
}

use std::error::Error;
use std::fmt;

use freehold_model::{Diagnose, ErrorKind};

use crate::host::HostError;

/// What went wrong on one or more hosts, the first failure first.
#[derive(Debug, Clone)]
pub struct Failures {
    first: Box<HostError>,
    rest: Vec<HostError>,
}

impl Failures {
    /// Makes the value of everything that went wrong, or nothing if all went well.
    #[must_use]
    pub fn of(errors: Vec<HostError>) -> Option<Self> {
        let mut errors = errors.into_iter();
        let first = Box::new(errors.next()?);
        Some(Self { first, rest: errors.collect() })
    }

    /// Returns every failure, each of which names its host.
    pub fn iter(&self) -> impl Iterator<Item = &HostError> {
        std::iter::once(&*self.first).chain(&self.rest)
    }

    /// Says whether a host refused because another client holds the lock now.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.iter().any(|error| matches!(error, HostError::Fenced { .. }))
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(formatter)?;
        match self.rest.len() {
            0 => Ok(()),
            1 => write!(formatter, ", and one more host did not answer well"),
            more => write!(formatter, ", and {more} more hosts did not answer well"),
        }
    }
}

impl Error for Failures {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.first.source()
    }
}

impl Diagnose for Failures {
    fn kind(&self) -> ErrorKind {
        self.first.kind()
    }

    fn help(&self) -> Vec<String> {
        let mut help: Vec<String> = self.rest.iter().map(|error| format!("also: {}", chain(error))).collect();
        help.extend(self.first.help());
        help
    }
}

impl From<HostError> for Failures {
    fn from(error: HostError) -> Self {
        Self { first: Box::new(error), rest: Vec::new() }
    }
}

/// Returns an error with all its causes on one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

use std::fmt;
use std::path::{Path, PathBuf};

/// One place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: PathBuf,
    line: usize,
    message: String,
}

impl Finding {
    /// Something about a whole file.
    pub(crate) fn file(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::line(path, 0, message)
    }

    /// Something in a line, counted from 1.
    pub(crate) fn line(path: impl AsRef<Path>, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.as_ref().to_path_buf(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(formatter, "{}: {}", self.path.display(), self.message),
            line => write!(formatter, "{}:{line}: {}", self.path.display(), self.message),
        }
    }
}

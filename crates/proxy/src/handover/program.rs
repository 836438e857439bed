//! The program that runs, and how it is started again.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The variable by which a process is told that it is not the first.
const VARIABLE: &str = "FREEHOLD_PROXY_HANDOVER";

/// What a process is in a chain of hand-overs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It was started by somebody else.
    First,
    /// It was started to take over; standard input is the way to the process before.
    Later,
}

impl Role {
    /// Reads it from the environment.
    pub(crate) fn of(environment: &BTreeMap<String, String>) -> Self {
        match environment.get(VARIABLE).map(String::as_str) {
            Some("later") => Self::Later,
            _ => Self::First,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Later => "later",
        }
    }
}

/// How this process was started: a new one is started in the same way.
#[derive(Debug, Clone)]
pub struct Program {
    executable: PathBuf,
    /// The name that it was called by, and its arguments.
    words: Vec<OsString>,
}

impl Program {
    /// Describes this process. To be called when it starts: later its file may have been replaced.
    ///
    /// # Errors
    /// Where the system does not show it, as without `/proc`.
    pub fn running() -> io::Result<Self> {
        let executable = fs_err::read_link("/proc/self/exe")?;
        let text = fs_err::read("/proc/self/cmdline")?;
        let text = text.strip_suffix(b"\0").unwrap_or(&text);
        let words = text.split(|byte| *byte == 0).map(|word| OsStr::from_bytes(word).to_owned()).collect();
        Ok(Self { executable, words })
    }

    /// Returns its executable.
    pub(crate) fn executable(&self) -> &Path {
        &self.executable
    }

    /// Makes the command that starts an executable with the command line and environment of this process.
    pub(crate) fn command(&self, executable: &Path, role: Role) -> Command {
        let mut command = Command::new(executable);
        if let Some((name, arguments)) = self.words.split_first() {
            command.arg0(name).args(arguments);
        }
        command.env(VARIABLE, role.as_str());
        command
    }
}

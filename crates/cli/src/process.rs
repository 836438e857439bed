use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_model::SshLogLevel;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

/// What a command knows of the process that it runs in. `main` fills it in; tests make their own.
#[derive(Debug, Clone)]
pub struct Process {
    /// The environment. Variables that are not UTF-8 are left out.
    pub environment: BTreeMap<String, String>,
    /// The working directory, which is the project's.
    pub directory: PathBuf,
    /// The running executable: the proxy's image is made of it.
    pub executable: PathBuf,
    /// The process's number.
    pub id: u32,
    /// The terminal.
    pub terminal: Terminal,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes from which identifiers and names are drawn.
    pub seed: [u8; 16],
    /// What libraries log.
    pub logs: Arc<dyn Logs>,
    /// Cancelled by the first Ctrl-C: begin nothing new, finish or undo what runs.
    pub stop: CancellationToken,
    /// Cancelled by the second Ctrl-C: leave at once.
    pub abort: CancellationToken,
}

impl Process {
    /// Returns an environment variable, if it is set and not empty.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// What libraries log. Nothing of it is shown where nobody asks for it.
pub trait Logs: fmt::Debug + Send + Sync {
    /// Gives `show` every line from now on that the SSH stack logs, from a level on; without effect where all of it is
    /// shown anyway.
    fn show_ssh(&self, level: SshLogLevel, show: Box<dyn Fn(&str) + Send + Sync>);
}

/// Which streams are a terminal, and how large it is.
#[derive(Clone)]
pub struct Terminal {
    /// Whether questions can be answered.
    pub is_stdin: bool,
    /// Whether results are read by a person.
    pub is_stdout: bool,
    /// Whether progress is seen by a person.
    pub is_stderr: bool,
    /// Returns columns and rows, asked anew for each picture since a person may resize the window.
    pub size: fn() -> Option<(u16, u16)>,
}

impl fmt::Debug for Terminal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Terminal")
            .field("is_stdin", &self.is_stdin)
            .field("is_stdout", &self.is_stdout)
            .field("is_stderr", &self.is_stderr)
            .finish_non_exhaustive()
    }
}

/// The time: that of the calendar, and that which only goes forward.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Returns the time of the calendar.
    fn now(&self) -> Timestamp;

    /// Returns the time since the process began.
    fn elapsed(&self) -> Duration;
}

/// The clock of this machine.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Makes a clock whose [`Clock::elapsed`] begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

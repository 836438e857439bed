//! The logs of containers on several hosts at once, as they come.

mod grep;
mod since;

use std::sync::Arc;

use freehold_docker::LogOptions;
use freehold_fleet::{EngineHost, HostError};
use freehold_model::{ContainerName, Diagnose, ErrorKind, HostName};
use futures_util::StreamExt;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::context::Context;
use crate::error::{CommandError, UsageError};
use crate::ui::{Line, Tone};

use grep::{Grep, GrepError};
use since::{Since, since};

/// Which lines of a log, and how they are shown.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LogArgs {
    /// Only lines since then: a time (2026-01-31T12:00:00Z) or a span (10m, 1h30m, 1d).
    #[arg(short, long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,

    /// How many lines from the end; 100, or 10 with `--follow`, or all with `--since` or `--grep`.
    #[arg(short = 'n', long, value_name = "COUNT")]
    lines: Option<u32>,

    /// Only lines that match this pattern, as `grep` reads it.
    #[arg(short, long, value_name = "PATTERN")]
    grep: Option<String>,

    /// More options for `grep`: `-i`, `-v`, `-C 3`.
    #[arg(
        long,
        alias = "grep_options",
        value_name = "OPTIONS",
        requires = "grep",
        allow_hyphen_values = true
    )]
    grep_options: Option<String>,

    /// Go on with new lines until Ctrl-C.
    #[arg(short, long)]
    follow: bool,

    /// Leave out the time before each line.
    #[arg(short = 'T', long, alias = "skip_timestamps")]
    skip_timestamps: bool,
}

/// A log to show.
#[derive(Debug, Clone)]
pub(crate) struct LogSource {
    pub(crate) engine: Arc<EngineHost>,
    pub(crate) host: HostName,
    pub(crate) container: ContainerName,
}

#[derive(Debug, Serialize)]
struct Shown {
    lines: u64,
}

/// Why a log could not be read to its end.
#[derive(Debug, thiserror::Error)]
enum LogError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Grep(#[from] GrepError),
}

impl Diagnose for LogError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Host(error) => error.kind(),
            Self::Grep(error) => error.kind(),
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Host(error) => error.help(),
            Self::Grep(error) => error.help(),
        }
    }
}

/// A line on its way to the terminal with the number of its log, or why a log ends early.
type Message = Result<(usize, String), LogError>;

impl LogArgs {
    /// Checks what is asked for before any host is.
    ///
    /// # Errors
    /// [`UsageError`] with what makes no sense.
    pub(crate) fn check(&self, context: &Context) -> Result<(), UsageError> {
        if context.ui.is_json() && self.follow {
            return Err(UsageError::new("`--json` prints one object at the end, and `--follow` has no end"));
        }
        self.filter(context).map(drop)
    }

    /// Shows logs side by side until they end or, with `--follow`, until Ctrl-C.
    ///
    /// # Errors
    /// The first log that cannot be read.
    pub(crate) async fn show(&self, context: &Context, sources: &[LogSource]) -> Result<(), CommandError> {
        let (options, filter) = (self.options(context.now()), self.filter(context)?);
        context.ui.close();
        let (sender, mut lines) = mpsc::channel::<Message>(256);
        let mut readers = JoinSet::new();
        for (index, source) in sources.iter().cloned().enumerate() {
            let (options, filter) = (options.clone(), filter.clone());
            let outlet = Outlet { index, sender: sender.clone() };
            readers.spawn(async move {
                if let Err(error) = read(source, &options, filter, &outlet).await {
                    // Nobody to tell: the command has ended.
                    drop(outlet.sender.send(Err(error)).await);
                }
            });
        }
        drop(sender);
        let labels = labels(sources);
        let mut shown = Shown { lines: 0 };
        loop {
            let message = tokio::select! {
                message = lines.recv() => message,
                () = context.process.stop.cancelled() => break,
            };
            let Some(message) = message else { break };
            let (index, text) = message?;
            shown.lines += 1;
            show(context, labels.get(index).map_or("", String::as_str), &text);
        }
        if shown.lines == 0 && !context.ui.is_json() {
            context.ui.note(Line::new().add(Tone::Faint, "no lines found"));
        }
        context.ui.result_json(context.command, &shown);
        Ok(())
    }

    fn options(&self, now: Timestamp) -> LogOptions {
        let tail = match self.lines {
            Some(lines) => Some(lines),
            None if self.since.is_some() || self.grep.is_some() => None,
            None if self.follow => Some(10),
            None => Some(100),
        };
        let since = self.since.map(|since| match since {
            Since::Time(time) => time,
            Since::Ago(span) => now.checked_sub(span).unwrap_or(Timestamp::UNIX_EPOCH),
        });
        LogOptions { tail, since, timestamps: !self.skip_timestamps, follow: self.follow }
    }

    fn filter(&self, context: &Context) -> Result<Option<Grep>, UsageError> {
        let Some(pattern) = &self.grep else { return Ok(None) };
        let options = self.grep_options.as_deref().unwrap_or_default();
        Grep::new(pattern, options, self.follow, &context.process).map(Some)
    }
}

/// Where the lines of one log go.
struct Outlet {
    index: usize,
    sender: mpsc::Sender<Message>,
}

impl Outlet {
    /// Passes a line on, and says whether anybody wants more.
    async fn give(&self, line: String) -> bool {
        self.sender.send(Ok((self.index, line))).await.is_ok()
    }
}

async fn read(
    source: LogSource,
    options: &LogOptions,
    filter: Option<Grep>,
    outlet: &Outlet,
) -> Result<(), LogError> {
    let stream = source.engine.logs(&source.container, options).await?;
    let mut lines = std::pin::pin!(stream.map(|line| line.map(|line| line.text()).map_err(LogError::from)));
    if let Some(grep) = filter {
        return grep.run(lines, outlet).await;
    }
    while let Some(line) = lines.next().await {
        if !outlet.give(line?).await {
            break;
        }
    }
    Ok(())
}

/// Returns what stands before the lines of each log: nothing if there is one only.
fn labels(sources: &[LogSource]) -> Vec<String> {
    if sources.len() < 2 {
        return vec![String::new(); sources.len()];
    }
    let mut hosts: Vec<&HostName> = sources.iter().map(|source| &source.host).collect();
    hosts.dedup();
    let is_unique = hosts.len() == sources.len();
    let label = |source: &LogSource| match is_unique {
        true => source.host.to_string(),
        false => format!("{} {}", source.host, source.container),
    };
    let labels: Vec<String> = sources.iter().map(label).collect();
    let width = labels.iter().map(String::len).max().unwrap_or(0);
    labels.into_iter().map(|label| format!("{label:width$}  ")).collect()
}

fn show(context: &Context, label: &str, text: &str) {
    if context.ui.is_json() {
        // With `--json` standard output is the result alone; the lines are events.
        context.ui.log_line(label.trim_end(), text);
        return;
    }
    let line = Line::new().add(Tone::Busy, label).plain(text.trim_end_matches('\r'));
    context.ui.result(&[line]);
}

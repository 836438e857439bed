//! What a command shows, written down elsewhere too: in a file, at an OpenTelemetry collector (`output`).

use std::time::Duration;

use freehold_fleet::{Event, StepOutcome};
use freehold_model::{Author, Diagnose, Project};
use jiff::Timestamp;

use crate::context::Context;
use crate::error::{CommandError, FileError};
use crate::ui::{Line, Plain, Tone};

use collector::Collector;
use file::LogFile;

mod collector;
mod file;
mod post;

/// How grave a line is, with the numbers of OpenTelemetry's log data model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    Info = 9,
    Warn = 13,
    Error = 17,
}

impl Severity {
    /// Returns what the tones of a line say.
    fn of(line: &Line) -> Self {
        if line.has_tone(Tone::Bad) {
            Self::Error
        } else if line.has_tone(Tone::Warn) {
            Self::Warn
        } else {
            Self::Info
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

/// What is told of a command where it is recorded.
#[derive(Debug, Clone)]
pub(crate) struct About {
    /// Its words: `app boot`.
    pub(crate) command: &'static str,
    pub(crate) service: String,
    pub(crate) destination: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) performer: String,
    pub(crate) hosts: Vec<String>,
    /// What tells this run from all others.
    pub(crate) run_id: String,
    pub(crate) started: Timestamp,
}

/// Writes down everything that a command shows with `--verbose`, whatever the terminal gets.
#[derive(Debug)]
pub(crate) struct Record {
    plain: Plain,
    file: Option<LogFile>,
    collector: Option<Collector>,
}

/// Begins the record that the deploy file asks for. A command is recorded once.
///
/// # Errors
/// The file of the record cannot be made, or the collector's certificates cannot be read.
pub(crate) fn begin(
    context: &Context,
    project: &Project,
    version: Option<&str>,
    author: &Author,
) -> Result<(), CommandError> {
    let output = &project.output;
    if (output.file.is_none() && output.otel.is_none()) || context.ui.is_recorded() {
        return Ok(());
    }
    let about = About {
        command: context.command,
        service: project.service.to_string(),
        destination: project.destination.as_ref().map(ToString::to_string),
        version: version.map(ToOwned::to_owned),
        performer: author.email.clone(),
        hosts: project.hosts().iter().map(ToString::to_string).collect(),
        run_id: context.process.seed.iter().map(|byte| format!("{byte:02x}")).collect(),
        started: context.now(),
    };
    let file = match &output.file {
        None => None,
        Some(folder) => {
            Some(LogFile::create(&context.process.directory.join(folder), &about).map_err(|source| {
                FileError { operation: "make the log file of `output: file:`".to_owned(), source }
            })?)
        }
    };
    let collector = match &output.otel {
        None => None,
        Some(endpoint) => Some(Collector::start(endpoint, &about, context)?),
    };
    context.ui.record(Record { plain: Plain::new(true), file, collector });
    Ok(())
}

/// Ends the record of a command, if there is one, and says where it is.
///
/// # Cancel safety
/// Dropping the future leaves lines that were not sent yet.
pub(crate) async fn end(context: &Context, error: Option<&CommandError>) {
    let Some(record) = context.ui.take_record() else { return };
    let took = context.process.clock.elapsed();
    let Record { file, collector, .. } = record;
    if let Some(file) = file {
        let shown = file.path().to_owned();
        match file.end(error.map(CommandError::diagnose), took) {
            Ok(()) => context.ui.note(Line::new().plain(format!("Logs written to {}", shown.display()))),
            Err(error) => context.ui.warn(format!("the log file is not complete: {error}")),
        }
    }
    if let Some(collector) = collector {
        let endpoint = collector.endpoint().to_owned();
        match collector.end(error.map(CommandError::diagnose), took, context.now()).await {
            Ok(()) => context.ui.note(Line::new().plain(format!("Logs sent to {endpoint}"))),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                context.ui.warn(format!("{error}{}", cause.unwrap_or_default()));
            }
        }
    }
}

/// Returns an error with its causes as one line.
fn chain(error: &(dyn Diagnose + Send + Sync)) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(&format!(": {cause_text}"));
        }
        source = cause.source();
    }
    text.replace(['\n', '\r'], " ")
}

impl Record {
    pub(crate) fn event(&mut self, event: &Event, now: Duration, at: Timestamp) {
        let lines = self.plain.apply(event, now);
        self.lines(&lines, at);
    }

    pub(crate) fn begin_activity(
        &mut self,
        (name, title): (&'static str, &str),
        now: Duration,
        at: Timestamp,
    ) {
        let lines = self.plain.begin_activity(name, title, now);
        self.lines(&lines, at);
    }

    pub(crate) fn activity_line(&mut self, text: &str, now: Duration, at: Timestamp) {
        let lines = self.plain.activity_line(text, now);
        self.lines(&lines, at);
    }

    pub(crate) fn end_activity(&mut self, outcome: &StepOutcome, now: Duration, at: Timestamp) {
        let lines = self.plain.end_activity(outcome, now);
        self.lines(&lines, at);
    }

    /// Takes lines as they are.
    pub(crate) fn lines(&mut self, lines: &[Line], at: Timestamp) {
        for line in lines {
            let (text, severity) = (line.text(), Severity::of(line));
            if let Some(file) = &mut self.file {
                file.line(&text);
            }
            if let Some(collector) = &mut self.collector
                && !text.trim().is_empty()
            {
                collector.line(text.trim(), severity, at);
            }
        }
    }

    /// Takes what was written to standard output.
    pub(crate) fn result(&mut self, bytes: &[u8], at: Timestamp) {
        let text = String::from_utf8_lossy(bytes);
        let lines: Vec<Line> = text.lines().map(|line| Line::new().plain(line)).collect();
        self.lines(&lines, at);
    }
}

use std::collections::BTreeMap;
use std::time::Duration;

use freehold_fleet::{Event, Progress, StepOutcome};
use freehold_plan::{StageKind, StepId};

use super::amount;
use super::board::{headline, stage_name};
use super::line::{Line, Tone};

/// How long nothing may be heard of a running step before it is named again.
const SILENCE: Duration = Duration::from_secs(15);

/// From this on it is worth a line how long connecting took.
const SLOW_CONNECT: Duration = Duration::from_secs(1);

/// Writes one line for each thing that ended, for logs and files: `12.3s  web-1  boot  start app-web-3f2a`.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    stage: Option<StageKind>,
    running: BTreeMap<(String, StepId), Running>,
    output: Vec<String>,
    activity: Option<(&'static str, String)>,
    is_verbose: bool,
}

#[derive(Debug)]
struct Running {
    stage: &'static str,
    title: String,
    spoken: Duration,
    progress: Option<Progress>,
}

impl Plain {
    pub(crate) fn new(is_verbose: bool) -> Self {
        Self { is_verbose, ..Self::default() }
    }

    /// Takes an event and returns the lines that it is worth.
    pub(crate) fn apply(&mut self, event: &Event, now: Duration) -> Vec<Line> {
        let line = |host: &str, stage: &str| start(now, host, stage);
        match event {
            Event::Connecting { host } if self.is_verbose => {
                vec![line(host.as_str(), "connect").plain("connecting")]
            }
            Event::Connecting { .. } | Event::Locked { .. } => Vec::new(),
            Event::Connected { host, authentication, elapsed_ms } => {
                let took = Duration::from_millis(*elapsed_ms);
                if took < SLOW_CONNECT && !self.is_verbose {
                    return Vec::new();
                }
                let took = amount::span(took);
                vec![
                    line(host.as_str(), "connect")
                        .plain(format!("connected ({authentication})"))
                        .add(Tone::Faint, format!("  {took}")),
                ]
            }
            Event::WaitingForLock { holder, .. } => {
                vec![line("", "lock").plain(format!("waiting for {holder}"))]
            }
            Event::Recovering { rollout, forward } => {
                let what = if *forward { "finishing" } else { "undoing" };
                vec![
                    line("", "recover")
                        .add(Tone::Warn, format!("{what} rollout {rollout}, which was cut off")),
                ]
            }
            Event::Planned { plan } => vec![line("", "plan").add(Tone::Strong, headline(plan))],
            Event::StageStarted { stage } => {
                self.stage = Some(*stage);
                Vec::new()
            }
            Event::StepStarted { host, step, title } => {
                let stage = self.stage.map_or("", stage_name);
                let running = Running { stage, title: title.clone(), spoken: now, progress: None };
                self.running.insert((host.to_string(), *step), running);
                if self.is_verbose {
                    vec![line(host.as_str(), stage).add(Tone::Faint, format!("{title} ..."))]
                } else {
                    Vec::new()
                }
            }
            Event::StepProgress { host, step, progress } => {
                self.progress(host.as_str(), *step, progress, now)
            }
            Event::StepFinished { host, step, outcome, elapsed_ms } => {
                self.finished((host.as_str(), *step), outcome, Duration::from_millis(*elapsed_ms), now)
            }
            Event::PuttingBack { cause } => vec![
                line("", "failed").add(Tone::Bad, cause),
                line("", "put back").add(Tone::Warn, "putting back what was changed, on every host"),
            ],
            Event::Undone { host, title, error, .. } => {
                let line = line(host.as_str(), "put back").plain(title);
                vec![match error {
                    Some(error) => line.add(Tone::Bad, format!(": not possible: {error}")),
                    None => line,
                }]
            }
            Event::Warning { host, message } => {
                vec![line(host.as_ref().map_or("", |host| host.as_str()), "warning").add(Tone::Warn, message)]
            }
        }
    }

    pub(crate) fn begin_activity(&mut self, name: &'static str, title: &str, now: Duration) -> Vec<Line> {
        self.activity = Some((name, title.to_owned()));
        self.output.clear();
        if self.is_verbose {
            vec![start(now, "", name).add(Tone::Faint, format!("{title} ..."))]
        } else {
            Vec::new()
        }
    }

    pub(crate) fn activity_line(&mut self, text: &str, now: Duration) -> Vec<Line> {
        let name = self.activity.as_ref().map_or("", |(name, _)| *name);
        if self.is_verbose {
            return vec![start(now, "", name).add(Tone::Faint, "| ").plain(text)];
        }
        self.output.push(text.to_owned());
        Vec::new()
    }

    pub(crate) fn end_activity(&mut self, outcome: &StepOutcome, now: Duration) -> Vec<Line> {
        let Some((name, title)) = self.activity.take() else { return Vec::new() };
        let mut lines = Vec::new();
        if !outcome.is_success() {
            lines.extend(
                self.output.drain(..).map(|text| start(now, "", name).add(Tone::Faint, "| ").plain(text)),
            );
        }
        lines.push(describe(start(now, "", name).plain(title), outcome));
        lines
    }

    /// Returns lines for steps of which nothing was heard for long.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<Line> {
        let mut lines = Vec::new();
        for ((host, _), running) in &mut self.running {
            if now.saturating_sub(running.spoken) >= SILENCE {
                running.spoken = now;
                let how = running
                    .progress
                    .as_ref()
                    .map(|progress| format!(": {}", progress_text(progress)))
                    .unwrap_or_default();
                lines.push(
                    start(now, host, running.stage)
                        .add(Tone::Faint, format!("still: {}{how}", running.title)),
                );
            }
        }
        lines
    }

    fn progress(&mut self, host: &str, step: StepId, progress: &Progress, now: Duration) -> Vec<Line> {
        let Some(running) = self.running.get_mut(&(host.to_owned(), step)) else { return Vec::new() };
        running.progress = Some(progress.clone());
        match progress {
            Progress::Output { line } => {
                running.spoken = now;
                vec![start(now, host, running.stage).add(Tone::Faint, "| ").plain(line)]
            }
            Progress::Build { line } if self.is_verbose => {
                running.spoken = now;
                vec![start(now, host, running.stage).add(Tone::Faint, "| ").plain(line)]
            }
            Progress::Build { line } => {
                self.output.push(line.clone());
                Vec::new()
            }
            Progress::Status { text } if self.is_verbose => {
                vec![start(now, host, running.stage).add(Tone::Faint, format!("{}: {text}", running.title))]
            }
            Progress::Status { .. } | Progress::Transfer { .. } => Vec::new(),
        }
    }

    fn finished(
        &mut self,
        (host, step): (&str, StepId),
        outcome: &StepOutcome,
        took: Duration,
        now: Duration,
    ) -> Vec<Line> {
        let running = self.running.remove(&(host.to_owned(), step));
        let stage =
            running.as_ref().map_or_else(|| self.stage.map_or("", stage_name), |running| running.stage);
        let title = running.map_or_else(|| format!("step {step}"), |running| running.title);
        let mut lines = Vec::new();
        if stage == "build" {
            let output = std::mem::take(&mut self.output);
            if !outcome.is_success() {
                lines.extend(
                    output.iter().map(|text| start(now, host, stage).add(Tone::Faint, "| ").plain(text)),
                );
            }
        }
        if *outcome == StepOutcome::Skipped && !self.is_verbose {
            return lines;
        }
        let line = describe(start(now, host, stage).plain(title), outcome);
        lines.push(line.add(Tone::Faint, format!("  {}", amount::span(took))));
        lines
    }
}

fn describe(line: Line, outcome: &StepOutcome) -> Line {
    match outcome {
        StepOutcome::Done { note: Some(note) } => line.plain(format!(": {note}")),
        StepOutcome::Done { note: None } => line,
        StepOutcome::AlreadyDone => line.add(Tone::Faint, ": nothing to do"),
        StepOutcome::Failed { error } if error.is_empty() => line.add(Tone::Bad, ": failed"),
        StepOutcome::Failed { error } => line.add(Tone::Bad, format!(": failed: {error}")),
        StepOutcome::Skipped => line.add(Tone::Faint, ": skipped"),
    }
}

fn start(now: Duration, host: &str, stage: &str) -> Line {
    let time = amount::span(now);
    Line::new()
        .add(Tone::Faint, format!("{time:>7}"))
        .plain("  ")
        .plain(host)
        .pad_to(21)
        .plain(" ")
        .plain(stage)
        .pad_to(30)
        .plain(" ")
}

fn progress_text(progress: &Progress) -> String {
    match progress {
        Progress::Build { line } | Progress::Output { line } => line.clone(),
        Progress::Status { text } => text.clone(),
        Progress::Transfer { bytes_sent, bytes_total, layers_sent, layers_total } => {
            let total = bytes_total.map(|total| format!(" of {}", amount::bytes(total))).unwrap_or_default();
            format!("{}{total}, layer {layers_sent}/{layers_total}", amount::bytes(*bytes_sent))
        }
    }
}

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex};

use super::{BuildEvent, StepId, StepOutcome};

/// How much of a step's output is kept for the error that it may end in.
const KEPT_OUTPUT: usize = 1024 * 1024;

/// What is known of the steps so far.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    /// BuildKit's digest of a step to our number.
    numbers: BTreeMap<String, StepId>,
    steps: Vec<Step>,
}

#[derive(Debug, Default)]
struct Step {
    name: String,
    started: bool,
    finished: bool,
    error: Option<String>,
    output: Output,
}

/// The end of what a step has written.
#[derive(Debug, Default)]
struct Output {
    lines: VecDeque<String>,
    size: usize,
    unfinished: Vec<u8>,
}

/// The step that a build failed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedStep {
    /// The step as BuildKit or the classic builder names it, such as `[2/3] RUN make`.
    pub name: String,
    /// All that it wrote, at most the last 1 MiB.
    pub output: Vec<String>,
}

impl Output {
    /// Adds bytes and returns the lines that they complete.
    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        self.unfinished.extend_from_slice(bytes);
        let mut complete = Vec::new();
        while let Some(end) = self.unfinished.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unfinished.drain(..=end).collect();
            complete.push(String::from_utf8_lossy(line.trim_ascii_end()).into_owned());
        }
        for line in &complete {
            self.keep(line.clone());
        }
        complete
    }

    fn keep(&mut self, line: String) {
        self.size += line.len();
        self.lines.push_back(line);
        while self.size > KEPT_OUTPUT {
            self.size -= self.lines.pop_front().map_or(self.size, |line| line.len());
        }
    }

    fn end(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.unfinished);
        let line = String::from_utf8_lossy(rest.trim_ascii_end()).into_owned();
        (!line.is_empty()).then(|| {
            self.keep(line.clone());
            line
        })
    }
}

impl Steps {
    /// Takes one message of BuildKit's trace in and tells what is new in it.
    pub(crate) fn buildkit(&mut self, status: &StatusResponse) -> Vec<BuildEvent> {
        let mut events = Vec::new();
        for vertex in &status.vertexes {
            self.vertex(vertex, &mut events);
        }
        for item in &status.statuses {
            if let Some(step) = self.numbers.get(&item.vertex) {
                events.push(BuildEvent::StepProgress {
                    step: *step,
                    item: if item.name.is_empty() { item.id.clone() } else { item.name.clone() },
                    current: u64::try_from(item.current).unwrap_or_default(),
                    total: u64::try_from(item.total).ok().filter(|total| *total > 0),
                });
            }
        }
        for log in &status.logs {
            if let Some(step) = self.numbers.get(&log.vertex).copied() {
                self.output(step, &log.msg, &mut events);
            }
        }
        events
    }

    fn vertex(&mut self, vertex: &Vertex, events: &mut Vec<BuildEvent>) {
        let count = self.steps.len();
        let id = *self.numbers.entry(vertex.digest.clone()).or_insert(StepId(count));
        if id.0 == count {
            self.steps.push(Step { name: vertex.name.clone(), ..Step::default() });
        }
        let Some(step) = self.steps.get_mut(id.0) else { return };
        if vertex.started.is_some() && !step.started {
            step.started = true;
            events.push(BuildEvent::StepStarted { step: id, name: step.name.clone() });
        }
        if !vertex.error.is_empty() {
            step.error = Some(vertex.error.clone());
        }
        if vertex.completed.is_some() && !step.finished {
            step.finished = true;
            if let Some(line) = step.output.end() {
                events.push(BuildEvent::StepOutput { step: id, line });
            }
            let outcome = match &step.error {
                Some(error) => StepOutcome::Failed(error.clone()),
                None if vertex.cached => StepOutcome::Cached,
                None => StepOutcome::Done(duration(vertex.started.as_ref(), vertex.completed.as_ref())),
            };
            events.push(BuildEvent::StepFinished { step: id, outcome });
        }
    }

    /// Takes a piece of the classic builder's output in: `Step 2/3 : RUN make` begins a step.
    pub(crate) fn classic(&mut self, text: &str) -> Vec<BuildEvent> {
        let mut events = Vec::new();
        if let Some(name) = classic_step(text) {
            self.finish_last(&mut events, |_| StepOutcome::Done(None));
            let step = StepId(self.steps.len());
            self.steps.push(Step { name: name.clone(), started: true, ..Step::default() });
            events.push(BuildEvent::StepStarted { step, name });
        } else if let Some(last) = self.steps.len().checked_sub(1) {
            self.output(StepId(last), text.as_bytes(), &mut events);
        }
        events
    }

    /// Ends the step that the classic builder was in.
    pub(crate) fn classic_end(&mut self, error: Option<&str>) -> Vec<BuildEvent> {
        let mut events = Vec::new();
        if let (Some(error), Some(step)) = (error, self.steps.last_mut()) {
            step.error = Some(error.to_owned());
        }
        self.finish_last(&mut events, |error| match error {
            Some(error) => StepOutcome::Failed(error.to_owned()),
            None => StepOutcome::Done(None),
        });
        events
    }

    fn finish_last(
        &mut self,
        events: &mut Vec<BuildEvent>,
        outcome: impl FnOnce(Option<&str>) -> StepOutcome,
    ) {
        let Some(last) = self.steps.len().checked_sub(1) else { return };
        let Some(step) = self.steps.get_mut(last) else { return };
        if let Some(line) = step.output.end() {
            events.push(BuildEvent::StepOutput { step: StepId(last), line });
        }
        step.finished = true;
        events.push(BuildEvent::StepFinished { step: StepId(last), outcome: outcome(step.error.as_deref()) });
    }

    fn output(&mut self, id: StepId, bytes: &[u8], events: &mut Vec<BuildEvent>) {
        if let Some(step) = self.steps.get_mut(id.0) {
            let lines = step.output.push(bytes);
            events.extend(lines.into_iter().map(|line| BuildEvent::StepOutput { step: id, line }));
        }
    }

    /// Returns the step that failed by itself. Steps that were cancelled because of it come after it in time and
    /// carry an error too, so the one with output goes first.
    pub(crate) fn failed(&self) -> Option<FailedStep> {
        let failed = || self.steps.iter().filter(|step| step.error.is_some());
        let own =
            |step: &&Step| step.error.as_deref().is_some_and(|error| !error.contains("context canceled"));
        let step = failed().find(own).or_else(|| failed().next())?;
        Some(FailedStep { name: step.name.clone(), output: step.output.lines.iter().cloned().collect() })
    }
}

fn classic_step(text: &str) -> Option<String> {
    let rest = text.strip_prefix("Step ")?;
    let (number, instruction) = rest.split_once(" : ")?;
    number
        .chars()
        .all(|char| char.is_ascii_digit() || char == '/')
        .then(|| format!("[{number}] {}", instruction.trim_end()))
}

fn duration(started: Option<&Timestamp>, completed: Option<&Timestamp>) -> Option<Duration> {
    let nanoseconds = |time: &Timestamp| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let span = nanoseconds(completed?) - nanoseconds(started?);
    u64::try_from(span).ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::moby::buildkit::v1::VertexLog;

    use super::*;

    fn time(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: 0 })
    }

    fn vertex(digest: &str, started: Option<Timestamp>, completed: Option<Timestamp>, error: &str) -> Vertex {
        let digest = digest.to_owned();
        let name = format!("[1/2] {digest}");
        Vertex { digest, name, started, completed, error: error.to_owned(), ..Vertex::default() }
    }

    #[test]
    fn a_failed_step_keeps_its_whole_output() {
        let mut steps = Steps::default();
        let started = StatusResponse {
            vertexes: vec![vertex("a", time(1), None, ""), vertex("b", time(1), None, "")],
            logs: vec![VertexLog {
                vertex: "b".to_owned(),
                msg: b"one\ntw".to_vec(),
                ..VertexLog::default()
            }],
            ..StatusResponse::default()
        };
        assert_eq!(steps.buildkit(&started).len(), 3);
        let ended = StatusResponse {
            logs: vec![VertexLog {
                vertex: "b".to_owned(),
                msg: b"o\nthree".to_vec(),
                ..VertexLog::default()
            }],
            ..StatusResponse::default()
        };
        steps.buildkit(&ended);
        let failed = StatusResponse {
            vertexes: vec![
                vertex("a", time(1), time(3), "context canceled"),
                vertex("b", time(1), time(3), "exit code: 1"),
            ],
            ..StatusResponse::default()
        };
        let events = steps.buildkit(&failed);
        assert_eq!(
            events.last().unwrap(),
            &BuildEvent::StepFinished {
                step: StepId(1),
                outcome: StepOutcome::Failed("exit code: 1".to_owned())
            }
        );
        let output = ["one", "two", "three"].map(str::to_owned).to_vec();
        assert_eq!(steps.failed().unwrap(), FailedStep { name: "[1/2] b".to_owned(), output });
    }

    #[test]
    fn the_classic_builders_text_becomes_steps() {
        let mut steps = Steps::default();
        for text in ["Step 1/2 : FROM scratch\n", " ---> \n", "Step 2/2 : RUN false\n", "Steps\n"] {
            steps.classic(text);
        }
        steps.classic_end(Some("returned a non-zero code: 1"));
        let failed = steps.failed().unwrap();
        assert_eq!((failed.name.as_str(), failed.output), ("[2/2] RUN false", vec!["Steps".to_owned()]));
    }
}

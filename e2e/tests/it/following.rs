use std::io;
use std::time::Duration;

use freehold_e2e::project::{Project, Run};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr};
use tokio::time::Instant;

/// How long a command may take in all.
const LIMIT: Duration = Duration::from_secs(180);

/// A command with `--json` that runs, with the events that it reports.
pub(crate) struct Following {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    seen: String,
    started: Instant,
}

impl Following {
    pub(crate) fn start(project: &Project, arguments: &[&str]) -> Self {
        let mut child = project.start(&[arguments, &["--json"]].concat()).unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines, seen: String::new(), started: Instant::now() }
    }

    /// Returns the next event; `None` when the command has closed its stderr.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            let line = tokio::time::timeout(LIMIT, self.lines.next_line()).await;
            let line = line.expect("the command reports an event in time").unwrap()?;
            self.seen.push_str(&line);
            self.seen.push('\n');
            if let Ok(event) = serde_json::from_str(&line) {
                return Some(event);
            }
        }
    }

    /// Reads on until an event is the wanted one.
    pub(crate) async fn until(&mut self, mut wanted: impl FnMut(&Value) -> bool) -> Option<Value> {
        loop {
            let event = self.next().await?;
            if wanted(&event) {
                return Some(event);
            }
        }
    }

    /// Sends the command a signal; nothing where it has ended already.
    pub(crate) fn signal(&self, name: &str) {
        if let Some(pid) = self.child.id() {
            let status = std::process::Command::new("kill").args(["-s", name, &pid.to_string()]).status();
            assert!(status.unwrap().success());
        }
    }

    /// Ends the command without a chance to do anything.
    pub(crate) async fn kill(mut self) -> String {
        self.child.kill().await.unwrap();
        self.seen
    }

    /// Returns what has been reported so far.
    pub(crate) fn seen(&self) -> &str {
        &self.seen
    }

    /// Waits for the command to end.
    pub(crate) async fn end(mut self) -> Run {
        let mut stdout = self.child.stdout.take().unwrap();
        let mut text = Vec::new();
        let rest = async {
            let mut seen = String::new();
            while let Some(line) = self.lines.next_line().await? {
                seen.push_str(&line);
                seen.push('\n');
            }
            io::Result::Ok(seen)
        };
        let both = async { tokio::join!(rest, stdout.read_to_end(&mut text)) };
        let (seen, read) = tokio::time::timeout(LIMIT, both).await.expect("the command ends in time");
        read.unwrap();
        self.seen.push_str(&seen.unwrap());
        let status = self.child.wait().await.unwrap();
        Run {
            code: status.code(),
            stdout: String::from_utf8_lossy(&text).into_owned(),
            stderr: self.seen,
            elapsed: self.started.elapsed(),
        }
    }
}

/// Whether an event is the end of a step, which is in the journal then.
pub(crate) fn is_finished_step(event: &Value) -> bool {
    event["event"] == "step_finished"
}

/// Whether an event is the begin of a step on a host.
pub(crate) fn is_started_step(event: &Value, host: &str) -> bool {
    event["event"] == "step_started" && event["host"] == host
}

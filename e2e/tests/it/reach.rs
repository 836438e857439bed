//! Hosts that only a jump host reaches, by every way in which people get to theirs.

mod images;
mod logins;
mod many;
mod names;
mod rootless;
mod seed;
mod ways;

use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use freehold_e2e::lab::{Host, HostSpec, Lab, Position, Topology};
use freehold_e2e::project::Run;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::scene::Scene;

/// How long a command may take to say something.
const LIMIT: Duration = Duration::from_secs(60);

/// The lab's bastion with two hosts behind it, and one that has no business there.
fn topology() -> Topology {
    let mut topology = Topology::bastion();
    topology.name = "reach".to_owned();
    topology.hosts.push(HostSpec::new("outside", Position::Open));
    topology
}

pub(crate) async fn lab() -> Arc<Lab> {
    Lab::shared(topology()).await.unwrap()
}

fn private(host: &Host) -> String {
    host.private_address().unwrap().to_string()
}

/// Gives the project a static busybox, from one of the hosts.
async fn lay_in_busybox(scene: &Scene, from: &Host) {
    let text = from.exec("base64 --wrap 0 /bin/busybox").await.unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).unwrap();
    write_program(scene, "busybox", &bytes);
}

fn write_program(scene: &Scene, name: &str, content: &[u8]) {
    let path = scene.project.folder().join(name);
    fs_err::write(&path, content).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs_err::set_permissions(path, mode).unwrap();
}

/// Runs the executable with something to read.
async fn with_input(scene: &Scene, arguments: &[&str], input: &str) -> io::Result<Run> {
    let start = tokio::time::Instant::now();
    let mut child = scene.project.command(arguments).stdin(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    freehold_e2e::project::finish(child, start).await
}

/// A command that runs until it is interrupted.
struct Reading {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    seen: String,
}

impl Reading {
    fn start(scene: &Scene, arguments: &[&str]) -> Self {
        let mut child = scene.project.start(arguments).unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, seen: String::new() }
    }

    /// Returns the next line of its standard output in which a text stands.
    async fn until(&mut self, text: &str) -> String {
        loop {
            let line = tokio::time::timeout(LIMIT, self.lines.next_line()).await.expect("a line in time");
            let line = line.unwrap();
            if line.is_none() {
                self.child.stderr.take().unwrap().read_to_string(&mut self.seen).await.unwrap();
            }
            assert!(line.is_some(), "it ended without `{text}`\n{}", self.seen);
            let line = line.unwrap_or_default();
            self.seen.push_str(&line);
            self.seen.push('\n');
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Sends Ctrl-C's signal and waits for the end.
    async fn interrupt(self) -> Run {
        let id = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-s", "INT", &id]).status().unwrap().success());
        let mut rest = self.lines.into_inner();
        let mut text = Vec::new();
        rest.read_to_end(&mut text).await.unwrap();
        let run = freehold_e2e::project::finish(self.child, tokio::time::Instant::now()).await.unwrap();
        Run { stdout: self.seen + &String::from_utf8_lossy(&text), ..run }
    }
}

//! Suites in Python against the proxy. `script/conformance setup` installs what they need.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use freehold_wire::{DeployRequest, ProbeRequest, TargetProtocol};

use crate::client::LIMIT;
use crate::rig::{Rig, address, name, settings};
use crate::target::Target;

fn python(suite: &str) -> Command {
    let python = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("conformance/bin/python");
    assert!(python.exists(), "run `script/conformance setup` first");
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../e2e/conformance").join(suite);
    let mut command = Command::new(python);
    command.arg("-B").arg(script);
    command
}

/// Runs a suite with arguments; returns what it printed, and whether it passed.
async fn run(suite: &'static str, arguments: Vec<String>) -> (String, bool) {
    let ended = tokio::task::spawn_blocking(move || python(suite).args(arguments).output().unwrap());
    let output = ended.await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap(), output.status.success())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_of_http2_passes() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    let (text, passed) = run("h2_suite.py", vec![rig.port().to_string()]).await;
    assert!(passed, "{text}");
    target.open_gate();
}

/// A server in Python; it ends with this.
struct Served {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    port: u16,
}

impl Served {
    fn start(script: &str) -> Self {
        let mut command = python(script);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.next().expect("it tells its port").unwrap().parse().unwrap();
        Self { process, lines, port }
    }

    /// Changes what its health check says.
    fn set(&mut self, health: &str) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{health}").unwrap();
        assert_eq!(self.lines.next().unwrap().unwrap(), "set");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_goes_through_end_to_end() {
    let (rig, mut server) = (Rig::start(), Served::start("grpc_server.py"));
    let mut settings = settings("shop.example.com");
    settings.target_protocol = TargetProtocol::H2c;
    settings.health_check.protocol = TargetProtocol::H2c;
    settings.health_check.path = "/grpc.health.v1.Health/Check".to_owned();
    let target = address(&format!("127.0.0.1:{}", server.port));
    let health_check = settings.health_check.clone();
    let probe = ProbeRequest { target: target.clone(), health_check, deadline_ms: 500 };
    let request = DeployRequest::new(vec![target], settings);
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let (text, passed) =
        run("grpc_client.py", vec![rig.port().to_string(), "shop.example.com".to_owned()]).await;
    assert!(passed, "{text}");
    // Its own word about its health counts.
    let mut client = rig.client().await;
    for (said, healthy) in [("NOT_SERVING", false), ("SERVING", true)] {
        server.set(said);
        let report = client.probe(&probe, LIMIT).await.unwrap();
        assert_eq!(report.healthy, healthy, "{said}: {report:?}");
    }
}

/// Runs groups of the Autobahn suite's cases through the proxy.
async fn autobahn(groups: &[&str], cases: u64) {
    let (rig, server) = (Rig::start(), Served::start("websocket_echo.py"));
    let target = address(&format!("127.0.0.1:{}", server.port));
    // The suite asks for the address that it connects to.
    let request = DeployRequest::new(vec![target], settings("127.0.0.1"));
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let kosoku = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("conformance/bin/kosoku");
    let reports = tempfile::tempdir().unwrap();
    let mut command = Command::new(kosoku);
    command.args(["-p", "4", "-o"]).arg(reports.path()).arg(format!("127.0.0.1:{}", rig.port()));
    for cases in groups {
        command.args(["-i", cases]);
    }
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && text.contains(" cases passed"), "{text}");
    let status = rig.status().await;
    assert!(status.counters.upgrades >= cases, "{} connections went through", status.counters.upgrades);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_about_websockets_passes_through() {
    autobahn(&["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"], 291).await;
}

/// Cases about compression, a thousand messages each: middle and great ones, in one piece and in several, of every group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cases_about_compressed_messages_pass_through() {
    autobahn(&["12.*.5", "12.2.10", "12.*.14", "12.3.18"], 12).await;
    autobahn(&["13.*.5", "13.*.11"], 14).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: `script/conformance all`"]
async fn every_case_about_compressed_messages_passes_through() {
    autobahn(&["12.*", "13.*"], 216).await;
}

//! The load generator counts what it says: nothing is lost, nothing is made up.
#![expect(clippy::unwrap_used, reason = "a failing test ends by panicking, also in its helper functions")]

use std::net::SocketAddr;
use std::process::Stdio;

use freehold_e2e::executable;
use freehold_e2e::load::{Kind, Load, LoadOptions};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Starts the example on a free port and waits until it listens.
async fn hello(environment: &[(&str, &str)]) -> (Child, SocketAddr) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut child = Command::new(executable::hello().unwrap())
        .env_clear()
        .env("PORT", port.to_string())
        .env("KAMAL_VERSION", "seven")
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).await.unwrap();
    assert!(line.contains("listens"), "{line}");
    (child, ([127, 0, 0, 1], port).into())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_answered_and_counted_by_version() {
    let (_hello, address) = hello(&[]).await;
    let load = Load::start(LoadOptions::new([address]));
    load.answered(3).await;
    let report = load.stop().await;
    assert_eq!((report.failed(), report.retried()), (0, 0), "{report}");
    for kind in Kind::ALL {
        assert!(report.kinds[kind.as_str()].sent >= 3, "{report}");
    }
    let websocket = report.kinds[Kind::WebSocket.as_str()].sent;
    assert_eq!(report.answers_of("seven"), report.sent() - websocket);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_stops_fails_every_kind() {
    let (mut hello, address) = hello(&[]).await;
    let load = Load::start(LoadOptions::new([address]));
    load.answered(1).await;
    hello.kill().await.unwrap();
    while load.report().kinds.values().any(|kind| kind.failed == 0) {
        tokio::task::yield_now().await;
    }
    let report = load.stop().await;
    assert!(report.to_string().contains("failed: upload at"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_status_is_a_failure() {
    let (_hello, address) = hello(&[("HELLO_FAIL", "502")]).await;
    let mut options = LoadOptions::new([address]);
    options.kinds = [Kind::KeepAlive, Kind::NewConnection, Kind::Upload].into();
    let load = Load::start(options);
    while load.report().sent() < 10 {
        tokio::task::yield_now().await;
    }
    let report = load.stop().await;
    assert_eq!(report.failed(), report.sent(), "{report}");
    assert!(report.to_string().contains("status 502"), "{report}");
}

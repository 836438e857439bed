//! Targets that get reads only.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use freehold_wire::{DeployRequest, HealthGate, HealthState};

use crate::client::{LIMIT, Reply};
use crate::rig::{Rig, address, name, request_for};
use crate::target::Target;

/// A service with a target that takes every request and one for reads.
struct Scene {
    rig: Rig,
    writer: Target,
    reader: Target,
}

async fn scene(change: impl FnOnce(&mut DeployRequest)) -> Scene {
    let (rig, writer, reader) = (Rig::start(), Target::start("writer").await, Target::start("reader").await);
    let mut request = request_for(&writer);
    request.read_targets = vec![address(&reader.address())];
    request.settings.writer_affinity_ms = 60_000;
    change(&mut request);
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    Scene { rig, writer, reader }
}

impl Scene {
    /// Sends a request with further lines, each with its end.
    async fn ask(&self, method: &str, path: &str, lines: &str) -> Reply {
        let mut client = self.rig.open().await;
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: shop.example.com\r\n{lines}\r\n")).await;
        if method == "HEAD" { client.head_reply().await } else { client.reply().await }
    }

    /// Says which target has got a request.
    async fn who(&self, method: &str, lines: &str) -> &'static str {
        let before = (self.writer.requests(), self.reader.requests());
        let reply = self.ask(method, "/n", lines).await;
        assert_eq!(reply.status, 200, "{method} {lines}");
        let (written, read) = (self.writer.requests() - before.0, self.reader.requests() - before.1);
        assert_eq!(written + read, 1, "{method} {lines}");
        if written == 1 { "writer" } else { "reader" }
    }
}

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

const UPGRADE: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n";

/// Two targets of one kind are checked for ever; checks this rare do not disturb who counts requests.
fn rarely(request: &mut DeployRequest) {
    request.settings.health_check.interval_ms = 60_000;
}

// proxy-compat cases 51, 53.
#[tokio::test]
async fn reads_go_to_the_reader_and_all_else_to_the_writer() {
    let scene = scene(rarely).await;
    for method in ["GET", "HEAD", "GET", "HEAD"] {
        assert_eq!(scene.who(method, "").await, "reader", "{method}");
    }
    for method in ["DELETE", "PATCH", "POST", "PUT", "OPTIONS", "TRACE"] {
        for _ in 0..2 {
            assert_eq!(scene.who(method, "").await, "writer", "{method}");
        }
    }
    assert_eq!(scene.who("GET", UPGRADE).await, "writer");
    let status = scene.rig.status().await;
    assert_eq!((status.targets.len(), status.read_targets.len()), (1, 1));
    assert_eq!(status.read_targets[0].health, HealthState::Healthy);
}

// proxy-compat cases 52, 57, 58, 72.
#[tokio::test]
async fn without_readers_or_affinity_there_is_no_cookie() {
    let without = scene(|request| {
        rarely(request);
        request.read_targets.clear();
    })
    .await;
    for method in ["GET", "HEAD"] {
        assert_eq!(without.who(method, "").await, "writer");
    }
    let reply = without.ask("PUT", "/n", "").await;
    assert_eq!((reply.text(), reply.header("set-cookie")), ("writer  /n 0 0", None));
    let scene = scene(|request| request.settings.writer_affinity_ms = 0).await;
    assert_eq!(scene.ask("PUT", "/n", "").await.header("set-cookie"), None);
}

// proxy-compat case 54.
#[tokio::test]
async fn websockets_go_to_the_reader_where_the_service_says_so() {
    let scene = scene(|request| {
        rarely(request);
        request.settings.read_targets_take_websockets = true;
    })
    .await;
    assert_eq!(scene.who("GET", UPGRADE).await, "reader");
    let reply = scene.ask("GET", "/socket", UPGRADE).await;
    assert_eq!((reply.status, reply.header("set-cookie")), (101, None));
}

// proxy-compat cases 55, 56, 60.
#[tokio::test]
async fn who_has_written_reads_from_the_writer() {
    let scene = scene(rarely).await;
    assert_eq!(scene.ask("GET", "/n", "").await.header("set-cookie"), None);
    let reply = scene.ask("PUT", "/n", "").await;
    let cookie = reply.header("set-cookie").unwrap().to_owned();
    let (value, attributes) = cookie.split_once("; ").unwrap();
    let until: u128 = value.strip_prefix("kamal-writer=").unwrap().parse().unwrap();
    assert!((now_ms()..=now_ms() + 60_000).contains(&until), "{cookie}");
    let expires = attributes.strip_prefix("Path=/; Expires=").unwrap().strip_suffix("; HttpOnly").unwrap();
    let expires = jiff::fmt::rfc2822::parse(expires).unwrap().timestamp().as_second();
    assert_eq!(u128::try_from(expires).unwrap(), until / 1000 + 1);
    assert_eq!(scene.who("GET", &format!("Cookie: a=b; {value}\r\n")).await, "writer");
    assert_eq!(scene.who("HEAD", &format!("Cookie: a=b\r\nCookie: {value}\r\n")).await, "writer");
    for worthless in ["1000", "tomorrow", "", "-5"] {
        let line = format!("Cookie: kamal-writer={worthless}\r\n");
        assert_eq!(scene.who("GET", &line).await, "reader", "{worthless}");
    }
    // Whatever the target answers, and behind its own cookies; not what the proxy answers itself.
    let answer = "HTTP/1.1 404 Not Found\r\nSet-Cookie: own=1\r\nContent-Length: 0\r\n\r\n";
    let reply = scene.ask("POST", "/raw", &format!("Content-Length: {}\r\n\r\n{answer}", answer.len())).await;
    let cookies: Vec<&str> = reply.head.lines().filter(|line| line.starts_with("Set-Cookie: ")).collect();
    assert_eq!((reply.status, cookies.len()), (404, 2));
    assert!(cookies[0] == "Set-Cookie: own=1" && cookies[1].starts_with("Set-Cookie: kamal-writer="));
    let reply = scene.ask("POST", "/drop", "").await;
    assert_eq!((reply.status, reply.header("set-cookie")), (502, None));
    // A WebSocket at the writer may write.
    let reply = scene.ask("GET", "/socket", UPGRADE).await;
    assert!(reply.status == 101 && reply.header("set-cookie").is_some(), "{reply:?}");
}

// proxy-compat case 59.
#[tokio::test]
async fn a_target_may_decline_the_cookie() {
    let scene = scene(|_| {}).await;
    for (value, has_cookie) in [("false", false), ("False", true), ("true", true)] {
        let answer = format!("HTTP/1.1 200 OK\r\nX-Writer-Affinity: {value}\r\nContent-Length: 0\r\n\r\n");
        let lines = format!("Content-Length: {}\r\n\r\n{answer}", answer.len());
        let reply = scene.ask("PUT", "/raw", &lines).await;
        assert_eq!(reply.header("set-cookie").is_some(), has_cookie, "{value}");
        assert_eq!(reply.header("x-writer-affinity"), None, "{value}");
    }
}

// proxy-compat case 61.
#[tokio::test]
async fn reads_need_no_writer_unless_they_must_be_the_latest() {
    let scene = scene(|_| {}).await;
    let cookie = format!("Cookie: kamal-writer={}\r\n", now_ms() + 60_000);
    scene.writer.shared.health.store(500, std::sync::atomic::Ordering::SeqCst);
    scene.rig.wait_for(|status| status.targets[0].health == HealthState::Unhealthy).await;
    assert_eq!(scene.ask("GET", "/n", "").await.text(), "reader  /n 0 0");
    assert_eq!(scene.ask("POST", "/n", "").await.status, 503);
    assert_eq!(scene.ask("GET", "/n", &cookie).await.status, 503);
    // The other way round the writer takes the reads.
    scene.writer.shared.health.store(200, std::sync::atomic::Ordering::SeqCst);
    scene.reader.shared.health.store(500, std::sync::atomic::Ordering::SeqCst);
    let done = |status: &freehold_wire::ServiceStatus| {
        status.targets[0].health == HealthState::Healthy
            && status.read_targets[0].health == HealthState::Unhealthy
    };
    scene.rig.wait_for(done).await;
    assert_eq!(scene.ask("GET", "/n", "").await.text(), "writer  /n 0 0");
}

// proxy-compat case 44: readers are waited for, too.
#[tokio::test]
async fn a_deploy_waits_for_readers_and_a_restart_brings_them_back() {
    let mut scene = scene(|_| {}).await;
    let failing = Target::start("failing").await;
    failing.shared.health.store(500, std::sync::atomic::Ordering::SeqCst);
    let mut request = request_for(&scene.writer);
    request.read_targets = vec![address(&failing.address())];
    request.deploy_timeout_ms = 100;
    let error = scene.rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap_err();
    assert!(error.message().unwrap().contains("target failed to become healthy"), "{error:?}");
    assert_eq!(scene.ask("GET", "/n", "").await.text(), "reader  /n 0 0");
    scene.rig.restart(Duration::from_secs(5));
    assert_eq!(scene.ask("GET", "/n", "").await.text(), "reader  /n 0 0");
    assert_eq!(scene.ask("POST", "/n", "").await.text(), "writer  /n 0 0");
    request.health = HealthGate::Skip;
    let previous = scene.rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    assert_eq!(previous.previous.unwrap().read_targets[0].as_str(), scene.reader.address());
}

//! Pausing, stopping and resuming a service.

use std::time::{Duration, Instant};

use freehold_wire::{Gate, GateRequest, ProxyError};

use crate::client::{Connection, LIMIT, soon};
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

async fn set(rig: &Rig, gate: Gate, drain_timeout_ms: u64) -> freehold_wire::GateReply {
    let request = GateRequest { gate, drain_timeout_ms, fence: None };
    rig.client().await.set_gate(&name("shop"), &request, LIMIT).await.unwrap()
}

fn paused(max_pause_ms: u64) -> Gate {
    Gate::Paused { max_pause_ms }
}

fn stopped(message: &str) -> Gate {
    Gate::Stopped { message: message.to_owned() }
}

/// Sends a request that waits; it is at the proxy when a later one on another connection was answered.
async fn begin_waiting(rig: &Rig) -> Connection {
    let mut waiting = rig.open().await;
    waiting.send("GET /n HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    assert_eq!(rig.open().await.get("/up").await.status, 200);
    waiting
}

// proxy-compat cases 123, 128.
#[tokio::test]
async fn the_health_path_is_answered_in_every_state() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    for (gate, status) in [(Gate::Open, 200), (paused(1), 504), (stopped(""), 503), (Gate::Open, 200)] {
        set(&rig, gate, 1000).await;
        assert_eq!(rig.open().await.get("/up").await.status, 200);
        assert_eq!(rig.open().await.get("/n").await.status, status);
    }
    drop(target);
}

// proxy-compat cases 124, 125.
#[tokio::test]
async fn paused_requests_go_on_when_resumed_or_give_up() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    set(&rig, paused(60_000), 1000).await;
    let mut waiting = begin_waiting(&rig).await;
    // A later pause is for later arrivals only.
    set(&rig, paused(1), 1000).await;
    let begun = Instant::now();
    assert_eq!(rig.open().await.get("/n").await.status, 504);
    assert!(begun.elapsed() < Duration::from_secs(10));
    set(&rig, Gate::Open, 0).await;
    assert_eq!(waiting.reply().await.text(), "t  /n 0 0");
    let line = rig.log.requests().into_iter().find(|line| line["status"] == 504);
    assert!(line.is_none_or(|line| line["reason"] == "pause_timeout"));
}

// proxy-compat cases 126, 127, 134.
#[tokio::test]
async fn a_stop_releases_those_who_wait_with_its_message() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    set(&rig, paused(60_000), 1000).await;
    let mut waiting = begin_waiting(&rig).await;
    set(&rig, stopped("back <b>&\" soon"), 1000).await;
    for reply in [waiting.reply().await, rig.open().await.get("/n").await] {
        assert_eq!(reply.status, 503);
        assert!(reply.text().contains("back &lt;b&gt;&amp;&#34; soon"), "{reply:?}");
    }
    assert_eq!(rig.status().await.gate.as_str(), "stopped");
    drop(target);
}

// proxy-compat case 129.
#[tokio::test]
async fn only_get_and_head_of_the_health_path_are_answered_early() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    set(&rig, paused(1), 1000).await;
    let mut client = rig.open().await;
    client.send("HEAD /up HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    assert_eq!(client.head_reply().await.status, 200);
    client.send("POST /up HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.reply().await.status, 504);
    drop(target);
}

// proxy-compat case 130: the state of a gate outlives deploys and restarts.
#[tokio::test]
async fn a_gate_outlives_deploys_and_restarts() {
    let (mut rig, old, new) = (Rig::start(), Target::start("old").await, Target::start("new").await);
    rig.deploy(&old).await;
    set(&rig, stopped("later"), 1000).await;
    rig.deploy(&new).await;
    assert!(rig.open().await.get("/n").await.text().contains("later"));
    rig.restart(Duration::from_secs(5));
    assert!(rig.open().await.get("/n").await.text().contains("later"));
    let reply = set(&rig, Gate::Open, 0).await;
    assert_eq!((reply.previous, reply.drained), (stopped("later"), None));
    assert!(rig.open().await.get("/n").await.text().starts_with("new"));
    drop(old);
}

// proxy-compat cases 131-133.
#[tokio::test]
async fn the_health_path_is_the_one_that_the_target_sees() {
    for (strip, path, health, status) in [
        (true, "/api/up", "/up", 200),
        (true, "/api/other", "/up", 504),
        (true, "/api/up?one=two", "/up", 200),
        (true, "/api/up/other", "/up", 504),
        (true, "/api/health", "/up", 504),
        (false, "/api/up", "/up", 504),
        (false, "/api/up", "/api/up", 200),
    ] {
        let (rig, target) = (Rig::start(), Target::start("t").await);
        let mut request = request_for(&target);
        request.settings.path_prefixes = vec![freehold_wire::PathPrefix::parse("/api").unwrap()];
        request.settings.strip_path_prefix = strip;
        request.settings.health_check.path = health.to_owned();
        request.health = freehold_wire::HealthGate::Trust;
        rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
        set(&rig, paused(1), 1000).await;
        assert_eq!(rig.open().await.get(path).await.status, status, "{strip} {path} {health}");
        drop(target);
    }
}

#[tokio::test]
async fn closing_a_gate_drains_and_cuts_what_is_left() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    let mut slow = rig.open().await;
    slow.send("GET /gate HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    target.wait_for_waiting(1).await;
    let reply = set(&rig, stopped(""), 20).await;
    assert_eq!(reply.drained.unwrap().requests_left, 1);
    assert_eq!(slow.reply().await.status, 504);
    set(&rig, Gate::Open, 0).await;
    let mut kept = rig.open().await;
    kept.send("GET /gate HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    target.wait_for_waiting(2).await;
    let (reply, ()) = tokio::join!(set(&rig, paused(1000), 10_000), async {
        rig.wait_for(|status| !status.gate.is_open()).await;
        target.open_gate();
    });
    assert_eq!(reply.drained.unwrap().requests_left, 0);
    assert_eq!(kept.reply().await.status, 200);
}

#[tokio::test]
async fn a_service_that_is_removed_releases_those_who_wait() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    set(&rig, paused(60_000), 1000).await;
    let mut waiting = begin_waiting(&rig).await;
    let mut api = rig.client().await;
    api.remove(&name("shop"), None, LIMIT).await.unwrap();
    assert_eq!(soon(waiting.reply()).await.status, 404);
    let request = GateRequest { gate: Gate::Open, drain_timeout_ms: 0, fence: None };
    let error = api.set_gate(&name("shop"), &request, LIMIT).await.unwrap_err();
    assert!(matches!(error, ProxyError::UnknownService { .. }), "{error:?}");
    drop(target);
}

#[tokio::test]
async fn a_request_that_its_client_gave_up_in_a_pause_is_not_passed_on() {
    let (mut rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    set(&rig, paused(60_000), 1000).await;
    let mut client = crate::http2::Client::open(rig.port()).await;
    let mut requests = soon(client.requests.clone().ready()).await.unwrap();
    let (waiting, mut body) = requests.send_request(crate::http2::post("/n"), true).unwrap();
    assert_eq!(client.get("/up").await.status, 200, "what came before it is there");
    let asked = target.requests();
    body.send_reset(h2::Reason::CANCEL);
    drop(waiting);
    assert_eq!(client.get("/up").await.status, 200, "so is the reset");
    set(&rig, Gate::Open, 0).await;
    assert_eq!(client.get("/n").await.text(), "t  /n 0 0");
    assert_eq!(target.requests(), asked + 1);
    rig.stop();
    let lines = rig.log.requests();
    let line = lines.iter().find(|line| line["status"] == 499).unwrap();
    assert!(line["method"] == "POST" && line["reason"] == "client_gone", "{line}");
}

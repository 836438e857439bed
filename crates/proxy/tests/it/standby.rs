//! A release that crashes after the switch, while the one before still runs.

use std::collections::BTreeMap;

use freehold_wire::{ConfirmRequest, DrainMode, DrainRequest, ProxyError, Reason};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::client::{LIMIT, soon};
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

const POST: &str = "POST /n HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 3\r\n\r\nabc";

/// Two releases, of which the first stands by.
async fn scene(standby_ms: u64) -> (Rig, Target, Target) {
    let (rig, old, new) = (Rig::start(), Target::start("old").await, Target::start("new").await);
    rig.deploy(&old).await;
    let mut request = request_for(&new);
    request.standby_ms = standby_ms;
    request.drain = DrainMode::Background;
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    (rig, old, new)
}

fn confirm() -> ConfirmRequest {
    ConfirmRequest { drain_timeout_ms: 10_000, tunnel_timeout_ms: 0, fence: Some(2) }
}

#[tokio::test]
async fn requests_to_a_crashed_release_go_to_the_one_before() {
    let (rig, old, new) = scene(60_000).await;
    assert_eq!(
        rig.status().await.standby.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [old.address()]
    );
    let mut kept_alive = rig.open().await;
    assert!(kept_alive.get("/n").await.text().starts_with("new"));
    new.stop().await;
    // A connection to the target that was open, a new one, and a body that nobody has taken yet.
    assert!(kept_alive.get("/n").await.text().starts_with("old"));
    assert!(rig.open().await.get("/n").await.text().starts_with("old"));
    let mut client = rig.open().await;
    client.send(POST).await;
    assert_eq!(client.reply().await.text(), "old  /n 3 294");
    let counters = rig.counters(4).await;
    assert_eq!(counters.stood_in, BTreeMap::from([(Reason::TargetRefused, 3)]));
    assert!(counters.target_errors.is_empty(), "{counters:?}");
    let line = soon(async {
        // Threads write their lines on their own; the last one may be another's.
        loop {
            if let Some(line) = rig.log.requests().into_iter().find(|line| line["method"] == "POST") {
                return line;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(
        (line["standby"].as_str(), line["target"].as_str()),
        (Some("target_refused"), Some(&*old.address()))
    );
    // Put back, the old release is the current one and nothing stands by.
    let reply = rig.deploy(&old).await;
    assert_eq!(reply.previous.unwrap().targets.len(), 1);
    let status = rig.status().await;
    assert!(status.standby.is_empty() && status.counters.stood_in.is_empty(), "{status:?}");
    assert!(rig.open().await.get("/n").await.text().starts_with("old"));
}

#[tokio::test]
async fn a_release_that_takes_connections_and_dies_loses_no_request_that_changes_nothing() {
    let (rig, old, new) = scene(60_000).await;
    let port = new.port;
    new.stop().await;
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let mut dying = JoinSet::new();
    dying.spawn(async move {
        loop {
            drop(listener.accept().await.unwrap());
        }
    });
    assert!(rig.open().await.get("/n").await.text().starts_with("old"));
    let mut client = rig.open().await;
    client.send(POST).await;
    // Whether the target has acted on it is not known, so nobody else may be asked.
    assert_eq!(client.reply().await.status, 502);
    let counters = rig.counters(2).await;
    assert_eq!(counters.stood_in, BTreeMap::from([(Reason::TargetClosed, 1)]));
    assert_eq!(counters.target_errors, BTreeMap::from([(Reason::TargetClosed, 1)]));
    drop(old);
}

#[tokio::test]
async fn a_confirmed_switch_has_nothing_behind_it() {
    let (rig, old, new) = scene(60_000).await;
    let mut api = rig.client().await;
    let first = api.confirm(&name("shop"), &confirm(), LIMIT).await.unwrap();
    assert_eq!(first.stood_by.len(), 1);
    assert!(api.confirm(&name("shop"), &confirm(), LIMIT).await.unwrap().stood_by.is_empty());
    new.stop().await;
    assert_eq!(rig.open().await.get("/n").await.status, 502);
    let late = ConfirmRequest { fence: Some(1), ..confirm() };
    let error = api.confirm(&name("shop"), &late, LIMIT).await.unwrap_err();
    assert!(matches!(error, ProxyError::Fenced { .. }), "{error:?}");
    let error = api.confirm(&name("none"), &confirm(), LIMIT).await.unwrap_err();
    assert!(matches!(error, ProxyError::UnknownService { .. }), "{error:?}");
    drop(old);
}

#[tokio::test]
async fn what_a_standby_has_begun_is_drained() {
    let (rig, old, new) = scene(60_000).await;
    new.stop().await;
    let mut client = rig.open().await;
    client.send("GET /gate HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    old.wait_for_waiting(1).await;
    let mut api = rig.client().await;
    api.confirm(&name("shop"), &confirm(), LIMIT).await.unwrap();
    let short = DrainRequest { timeout_ms: 20, tunnel_timeout_ms: 0 };
    assert_eq!(api.drain(&name("shop"), &short, LIMIT).await.unwrap().requests_left, 1);
    old.open_gate();
    assert_eq!(client.reply().await.text(), "old");
    let long = DrainRequest { timeout_ms: 10_000, tunnel_timeout_ms: 0 };
    assert_eq!(api.drain(&name("shop"), &long, LIMIT).await.unwrap().requests_left, 0);
}

#[tokio::test]
async fn a_standby_ends_by_itself() {
    let (rig, old, new) = scene(50).await;
    rig.wait_for(|status| status.standby.is_empty()).await;
    new.stop().await;
    assert_eq!(rig.open().await.get("/n").await.status, 502);
    drop(old);
}

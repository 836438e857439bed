//! Which of several targets gets a request: where one is busy, fails, or is gone.

use std::sync::atomic::Ordering;

use freehold_wire::{DeployRequest, ServiceSettings};

use crate::client::{Connection, LIMIT};
use crate::rig::{Rig, address, name, settings};
use crate::target::Target;

fn wanted(targets: &[&Target], traffic: &str) -> DeployRequest {
    let targets = targets.iter().map(|target| address(&target.address())).collect();
    let mut settings: ServiceSettings = settings("shop.example.com");
    // A failed check must not take a target out before requests have.
    settings.health_check.interval_ms = 60_000;
    settings.traffic = serde_json::from_str(traffic).unwrap();
    DeployRequest::new(targets, settings)
}

async fn scene(traffic: &str) -> (Rig, Target, Target) {
    let (rig, first, second) = (Rig::start(), Target::start("first").await, Target::start("second").await);
    let request = wanted(&[&first, &second], traffic);
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    (rig, first, second)
}

async fn who(client: &mut Connection) -> String {
    client.get("/n").await.text().split(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_busy_target_gets_fewer_requests_where_that_is_wanted() {
    let (rig, first, second) = scene(r#"{"balance":"least_connections"}"#).await;
    // Requests that stay at one of them, until it has two.
    let mut waiting = Vec::new();
    let mut at_first = 0;
    while at_first < 2 {
        let mut client = rig.open().await;
        client.send("GET /gate HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
        at_first = waiting.len() as u64 / 2 + 1;
        let other = waiting.len() as u64 + 1 - at_first;
        crate::client::soon(async {
            while rig.status().await.in_flight.requests < at_first + other {
                tokio::task::yield_now().await;
            }
        })
        .await;
        waiting.push(client);
    }
    // Three are in flight, one more at one of the two: the next ones go to the other, each alone.
    crate::client::soon(async {
        while first.waiting() + second.waiting() < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let busy = if first.waiting() > second.waiting() { "first" } else { "second" };
    let mut client = rig.open().await;
    for _ in 0..10 {
        assert_ne!(who(&mut client).await, busy);
    }
    first.open_gate();
    second.open_gate();
    for client in &mut waiting {
        assert_eq!(client.reply().await.status, 200);
    }
}

#[tokio::test]
async fn in_turn_is_what_is_usual() {
    let (rig, first, second) = scene("null").await;
    let mut client = rig.open().await;
    for _ in 0..10 {
        who(&mut client).await;
    }
    assert_eq!((first.requests(), second.requests()), (6, 6), "with a check each");
}

// The issue: retry of a failed connect on another healthy target.
#[tokio::test]
async fn where_no_connection_can_be_made_another_target_is_asked() {
    let (rig, first, second) = scene("null").await;
    first.stop().await;
    let mut client = rig.open().await;
    for _ in 0..6 {
        assert_eq!(who(&mut client).await, "second");
    }
    // Also one that changes something: nothing of it was sent.
    for _ in 0..4 {
        client.send("POST /n HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 3\r\n\r\nabc").await;
        let reply = client.reply().await;
        assert!(reply.status == 200 && reply.text().ends_with("3 294"), "{reply:?}");
    }
    second.stop().await;
    assert_eq!(client.get("/n").await.status, 502);
}

#[tokio::test]
async fn a_request_that_was_sent_is_not_sent_again_unless_it_changes_nothing() {
    let (rig, first, second) = scene("null").await;
    let mut client = rig.open().await;
    let before = first.requests() + second.requests();
    client.send("POST /drop HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 3\r\n\r\nabc").await;
    assert_eq!(client.reply().await.status, 502);
    assert_eq!(first.requests() + second.requests(), before + 1);
}

#[tokio::test]
async fn a_target_whose_requests_fail_is_left_out_and_comes_back() {
    let rules = r#"{"passive_health":{"failures":3,"pause_ms":300,"max_pause_ms":100000}}"#;
    let (mut rig, first, second) = scene(rules).await;
    let port = first.port;
    first.stop().await;
    let mut client = rig.open().await;
    crate::client::soon(async {
        while rig.status().await.targets[0].left_out_ms.is_none() {
            assert_eq!(who(&mut client).await, "second");
        }
    })
    .await;
    assert!(rig.status().await.targets[1].left_out_ms.is_none());
    let again = Target::on("again", tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap());
    crate::client::soon(async { while who(&mut client).await != "again" {} }).await;
    // The last one is never left out, whatever it does.
    again.stop().await;
    second.stop().await;
    for _ in 0..20 {
        assert_eq!(client.get("/n").await.status, 502);
    }
    let left_out = rig.status().await.targets.iter().filter(|target| target.left_out_ms.is_some()).count();
    assert!(left_out < 2, "{left_out}");
    rig.stop();
    let lines = rig.log.lines();
    let line = lines.iter().find(|line| line["msg"] == "Target left out").unwrap();
    assert_eq!((&line["reason"], &line["pause_ms"]), (&"target_refused".into(), &"300".into()));
}

#[tokio::test]
async fn answers_of_a_target_are_its_own_business() {
    let (rig, first, second) = scene(r#"{"passive_health":{"failures":1}}"#).await;
    first.shared.health.store(500, Ordering::SeqCst);
    second.shared.health.store(500, Ordering::SeqCst);
    let mut client = rig.open().await;
    for _ in 0..6 {
        assert_eq!(client.get("/up").await.status, 500);
    }
    assert!(rig.status().await.targets.iter().all(|target| target.left_out_ms.is_none()));
}

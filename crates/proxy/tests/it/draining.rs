//! What becomes of requests in flight when their targets are replaced or removed.

use std::time::{Duration, Instant};

use crate::client::{Connection, LIMIT, soon};
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

async fn begin(rig: &Rig, target: &Target, count: u64) -> Vec<Connection> {
    let mut slow = Vec::new();
    for number in 0..count {
        let mut connection = rig.open().await;
        connection.send("GET /gate HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
        target.wait_for_waiting(number + 1).await;
        slow.push(connection);
    }
    slow
}

// proxy-compat case 64.
#[tokio::test]
async fn nothing_in_flight_is_drained_at_once() {
    let (rig, old, new) = (Rig::start(), Target::start("old").await, Target::start("new").await);
    rig.deploy(&old).await;
    let drained = rig.deploy(&new).await.drained.unwrap();
    assert!(drained.requests_left == 0 && drained.elapsed_ms < 1000, "{drained:?}");
}

// proxy-compat case 65.
#[tokio::test]
async fn requests_that_end_in_time_are_waited_for() {
    let (rig, old, new) = (Rig::start(), Target::start("old").await, Target::start("new").await);
    rig.deploy(&old).await;
    let slow = begin(&rig, &old, 3).await;
    let (reply, ()) = tokio::join!(rig.deploy(&new), async {
        rig.wait_for(|status| status.draining.first().is_some_and(|old| old.in_flight.requests == 3)).await;
        old.open_gate();
    });
    assert_eq!(reply.drained.unwrap().requests_left, 0);
    for mut connection in slow {
        assert_eq!(connection.reply().await.text(), "old");
    }
}

// proxy-compat cases 66, 69.
#[tokio::test]
async fn requests_that_do_not_end_are_told() {
    let (rig, old, new) = (Rig::start(), Target::start("old").await, Target::start("new").await);
    rig.deploy(&old).await;
    let slow = begin(&rig, &old, 20).await;
    let mut request = request_for(&new);
    request.drain_timeout_ms = 10;
    let reply = rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    assert_eq!(reply.drained.unwrap().requests_left, 20);
    for mut connection in slow {
        assert_eq!(connection.reply().await.status, 504);
    }
}

// proxy-compat case 71.
#[tokio::test]
async fn a_removal_waits_for_nothing_and_cuts_nothing() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    let mut slow = begin(&rig, &target, 1).await;
    let started = Instant::now();
    rig.client().await.remove(&name("shop"), None, LIMIT).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(rig.open().await.get("/n").await.status, 404);
    target.open_gate();
    assert_eq!(slow[0].reply().await.text(), "t");
}

// proxy-compat cases 30, 44.
#[tokio::test]
async fn targets_keep_their_order_and_must_all_be_healthy() {
    let rig = Rig::start();
    let targets = [Target::start("one").await, Target::start("two").await, Target::start("three").await];
    let mut request = request_for(&targets[0]);
    request.targets = targets.iter().map(|target| crate::rig::address(&target.address())).collect();
    targets[1].shared.health.store(500, std::sync::atomic::Ordering::SeqCst);
    request.deploy_timeout_ms = 100;
    let error = rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap_err();
    assert!(error.message().unwrap().contains("target failed to become healthy"), "{error:?}");
    // proxy-compat case 45: nothing is routed to a service whose deploy failed.
    assert_eq!(rig.open().await.get("/n").await.status, 404);
    targets[1].shared.health.store(200, std::sync::atomic::Ordering::SeqCst);
    request.deploy_timeout_ms = 10_000;
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let names: Vec<String> =
        rig.status().await.targets.iter().map(|target| target.address.to_string()).collect();
    assert_eq!(names, targets.iter().map(Target::address).collect::<Vec<_>>());
}

// proxy-compat case 46.
#[tokio::test]
async fn a_single_target_that_was_healthy_stays_in() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    target.shared.health.store(500, std::sync::atomic::Ordering::SeqCst);
    let checks = target.requests();
    // Ten intervals of the check.
    rig.wait_for(|status| status.counters.since_switch_ms > 200).await;
    assert_eq!(target.requests(), checks, "nobody checks any more");
    assert_eq!(rig.open().await.get("/n").await.text(), "t  /n 0 0");
}

// proxy-compat case 36.
#[tokio::test]
async fn checks_that_fail_are_logged_until_one_succeeds() {
    let (mut rig, target) = (Rig::start(), Target::start("t").await);
    target.shared.health.store(503, std::sync::atomic::Ordering::SeqCst);
    let (shop, request) = (name("shop"), request_for(&target));
    let mut client = rig.client().await;
    let (deployed, ()) = tokio::join!(client.deploy(&shop, &request, LIMIT), async {
        soon(async {
            while target.requests() < 2 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        target.shared.health.store(200, std::sync::atomic::Ordering::SeqCst);
    });
    deployed.unwrap();
    rig.stop();
    let lines = rig.log.lines();
    let messages: Vec<&str> = lines.iter().map(|line| line["msg"].as_str().unwrap()).collect();
    let failures = messages.iter().filter(|message| **message == "Healthcheck failed").count();
    assert!(failures >= 2, "{messages:?}");
    let updated = messages.iter().position(|message| *message == "Target health updated").unwrap();
    assert!(messages[updated..].iter().all(|message| *message != "Healthcheck failed"), "{messages:?}");
    assert_eq!((&lines[updated]["state"], &lines[updated]["was"]), (&"healthy".into(), &"adding".into()));
}

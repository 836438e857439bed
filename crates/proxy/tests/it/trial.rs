//! Targets that are tried with a part of the visitors.

use std::time::Duration;

use freehold_wire::{CanaryRequest, Gate, GateRequest, ProxyError, Split, SplitRequest};

use crate::client::{Connection, LIMIT};
use crate::rig::{Rig, address, name, request_for};
use crate::target::Target;

fn request(target: &Target) -> CanaryRequest {
    CanaryRequest {
        targets: vec![address(&target.address())],
        read_targets: Vec::new(),
        deploy_timeout_ms: 5000,
        drain_timeout_ms: 5000,
        fence: None,
    }
}

async fn scene() -> (Rig, Target, Target) {
    let (rig, active, next) = (Rig::start(), Target::start("active").await, Target::start("next").await);
    rig.deploy(&active).await;
    rig.client().await.install_canary(&name("shop"), &request(&next), LIMIT).await.unwrap();
    (rig, active, next)
}

async fn split(rig: &Rig, split: Option<Split>) {
    let request = SplitRequest { split, fence: None };
    rig.client().await.split(&name("shop"), &request, LIMIT).await.unwrap();
}

fn listed(values: &[&str]) -> Split {
    let allow_list = values.iter().map(|value| (*value).to_owned()).collect();
    Split { allow_list, ..Split::default() }
}

/// Returns the name of the target that a visitor gets.
async fn who(client: &mut Connection, cookie: &str) -> String {
    client.send(format!("GET /n HTTP/1.1\r\nHost: shop.example.com\r\n{cookie}\r\n")).await;
    client.reply().await.text().split(' ').next().unwrap().to_owned()
}

fn cookie(value: &str) -> String {
    format!("Cookie: a=b; kamal-rollout={value}\r\n")
}

// proxy-compat cases 195, 198.
#[tokio::test]
async fn nobody_goes_there_without_a_split_and_who_is_listed_does_with_one() {
    let (rig, _active, _next) = scene().await;
    let mut client = rig.open().await;
    assert_eq!(who(&mut client, &cookie("1")).await, "active");
    split(&rig, Some(listed(&["1"]))).await;
    assert_eq!(who(&mut client, &cookie("1")).await, "next");
    assert_eq!(who(&mut client, &cookie("\"1\"")).await, "next");
    assert_eq!(who(&mut client, &cookie("2")).await, "active");
    split(&rig, Some(listed(&["2"]))).await;
    assert_eq!(who(&mut client, &cookie("1")).await, "active");
    assert_eq!(who(&mut client, &cookie("2")).await, "next");
    for other in
        ["", "Cookie: kamal-rollout=\r\n", "Cookie: xkamal-rollout=2\r\n", "Cookie: kamal-rollout2=2\r\n"]
    {
        assert_eq!(who(&mut client, other).await, "active", "{other}");
    }
    // The first one counts.
    assert_eq!(who(&mut client, "Cookie: kamal-rollout=1; kamal-rollout=2\r\n").await, "active");
    split(&rig, None).await;
    assert_eq!(who(&mut client, &cookie("2")).await, "active");
    split(&rig, Some(listed(&["2"]))).await;
    assert_eq!(who(&mut client, &cookie("2")).await, "next", "the targets had stayed");
    // A client has its answer a moment before it is counted.
    rig.wait_for(|status| status.canary.as_ref().unwrap().counters.responses_2xx == 4).await;
    assert_eq!(rig.status().await.canary.unwrap().split, Some(listed(&["2"])));
}

// proxy-compat cases 196, 197.
#[tokio::test]
async fn a_share_of_the_visitors_goes_there_beside_those_who_are_listed() {
    let (rig, _active, _next) = scene().await;
    let wanted = Split { percentage: 60, ..Split::default() };
    split(&rig, Some(wanted.clone())).await;
    let mut client = rig.open().await;
    let mut taken = 0;
    for number in 0..1000 {
        let value = format!("{number:05}");
        let goes = wanted.takes(value.as_bytes());
        assert_eq!(who(&mut client, &cookie(&value)).await, if goes { "next" } else { "active" }, "{value}");
        taken += u32::from(goes);
    }
    assert!((580..=620).contains(&taken), "{taken}");
    for _ in 0..20 {
        assert_eq!(who(&mut client, "").await, "active");
    }
    let ten = Split { percentage: 10, ..Split::default() };
    let values: Vec<String> = (0..1000).map(|number| format!("{number:05}")).collect();
    let [inside, outside] =
        [true, false].map(|goes| values.iter().find(|value| ten.takes(value.as_bytes()) == goes).unwrap());
    split(&rig, Some(Split { percentage: 10, ..listed(&["somebody", outside]) })).await;
    for value in ["somebody", outside, inside] {
        assert_eq!(who(&mut client, &cookie(value)).await, "next", "{value}");
    }
}

// proxy-compat case 200: with gate and split, a restart changes nothing.
#[tokio::test]
async fn it_outlives_deploys_and_restarts() {
    let (mut rig, _active, next) = scene().await;
    let wanted = Split { percentage: 20, ..listed(&["1", "2"]) };
    split(&rig, Some(wanted.clone())).await;
    let newer = Target::start("newer").await;
    rig.deploy(&newer).await;
    assert_eq!(who(&mut rig.open().await, &cookie("1")).await, "next");
    let gate = Gate::Stopped { message: "later".to_owned() };
    let closing = GateRequest { gate: gate.clone(), drain_timeout_ms: 1000, fence: None };
    rig.client().await.set_gate(&name("shop"), &closing, LIMIT).await.unwrap();
    rig.restart(Duration::from_secs(5));
    let status = rig.status().await;
    let canary = status.canary.unwrap();
    assert_eq!(canary.targets[0].address.as_str(), next.address());
    assert_eq!((canary.split, status.gate), (Some(wanted), gate));
    assert_eq!(status.settings, request_for(&newer).settings);
    assert_eq!(status.targets[0].address.as_str(), newer.address());
    let reply = rig.open().await.get("/n").await;
    assert!(reply.status == 503 && reply.text().contains("later"), "{reply:?}");
    let opening = GateRequest { gate: Gate::Open, drain_timeout_ms: 0, fence: None };
    rig.client().await.set_gate(&name("shop"), &opening, LIMIT).await.unwrap();
    assert_eq!(who(&mut rig.open().await, &cookie("2")).await, "next");
    assert_eq!(who(&mut rig.open().await, "").await, "newer");
}

#[tokio::test]
async fn targets_to_try_must_be_healthy_and_are_drained_when_others_come() {
    let (rig, _active, next) = scene().await;
    split(&rig, Some(listed(&["1"]))).await;
    let other = Target::start("other").await;
    other.shared.health.store(500, std::sync::atomic::Ordering::SeqCst);
    let mut wanted = request(&other);
    wanted.deploy_timeout_ms = 50;
    let error = rig.client().await.install_canary(&name("shop"), &wanted, LIMIT).await.unwrap_err();
    assert!(matches!(error, ProxyError::Unhealthy { .. }), "{error:?}");
    other.shared.health.store(200, std::sync::atomic::Ordering::SeqCst);
    let mut slow = rig.open().await;
    slow.send(format!("GET /gate HTTP/1.1\r\nHost: shop.example.com\r\n{}\r\n", cookie("1"))).await;
    next.wait_for_waiting(1).await;
    wanted.deploy_timeout_ms = 5000;
    let (reply, ()) = tokio::join!(
        async { rig.client().await.install_canary(&name("shop"), &wanted, LIMIT).await.unwrap() },
        async {
            rig.wait_for(|status| !status.draining.is_empty()).await;
            assert_eq!(who(&mut rig.open().await, &cookie("1")).await, "other");
            next.open_gate();
        }
    );
    assert_eq!(reply.drained.unwrap().requests_left, 0);
    assert_eq!(slow.reply().await.text(), "next");
    // A pause drains them, too.
    let mut slow = rig.open().await;
    slow.send(format!("GET /gate HTTP/1.1\r\nHost: shop.example.com\r\n{}\r\n", cookie("1"))).await;
    other.wait_for_waiting(1).await;
    let gate = Gate::Paused { max_pause_ms: 60_000 };
    let pausing = GateRequest { gate, drain_timeout_ms: 20, fence: None };
    let reply = rig.client().await.set_gate(&name("shop"), &pausing, LIMIT).await.unwrap();
    assert_eq!(reply.drained.unwrap().requests_left, 1);
    assert_eq!(slow.reply().await.status, 504);
}

#[tokio::test]
async fn who_should_get_a_target_that_is_gone_gets_one_of_the_services_own() {
    let (rig, _active, next) = scene().await;
    split(&rig, Some(listed(&["1"]))).await;
    let mut client = rig.open().await;
    assert_eq!(who(&mut client, &cookie("1")).await, "next");
    next.stop().await;
    for _ in 0..3 {
        assert_eq!(who(&mut client, &cookie("1")).await, "active");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let mut client = rig.client().await;
    let error = client.install_canary(&name("shop"), &request(&target), LIMIT).await.unwrap_err();
    assert!(matches!(error, ProxyError::UnknownService { .. }), "{error:?}");
    rig.deploy(&target).await;
    let wanted = SplitRequest { split: Some(listed(&["1"])), fence: None };
    let error = client.split(&name("shop"), &wanted, LIMIT).await.unwrap_err();
    assert_eq!(error.message(), Some("rollout target not set"));
    let nobody = SplitRequest { split: None, fence: None };
    assert_eq!(client.split(&name("shop"), &nobody, LIMIT).await.unwrap().canary, None);
    let none = CanaryRequest { targets: Vec::new(), ..request(&target) };
    let error = client.install_canary(&name("shop"), &none, LIMIT).await.unwrap_err();
    assert!(error.message().unwrap().contains("1 to 256 targets"), "{error:?}");
    let fenced = SplitRequest { fence: Some(4), ..nobody };
    client.split(&name("shop"), &fenced, LIMIT).await.unwrap();
    let late = CanaryRequest { fence: Some(3), ..request(&target) };
    let error = client.install_canary(&name("shop"), &late, LIMIT).await.unwrap_err();
    assert!(matches!(error, ProxyError::Fenced { .. }), "{error:?}");
}

#[tokio::test]
async fn targets_that_are_tried_are_taken_away_and_a_later_split_needs_new_ones() {
    let (rig, _active, next) = scene().await;
    split(&rig, Some(listed(&["1"]))).await;
    let mut client = rig.open().await;
    assert_eq!(who(&mut client, &cookie("1")).await, "next");
    // Twice: the second time there is nothing to take away.
    for _ in 0..2 {
        let reply = rig.client().await.remove_canary(&name("shop"), None, LIMIT).await.unwrap();
        assert_eq!(reply.canary, None);
        assert!(rig.status().await.canary.is_none());
    }
    assert_eq!(who(&mut client, &cookie("1")).await, "active");
    let request = SplitRequest { split: Some(listed(&["1"])), fence: None };
    let error = rig.client().await.split(&name("shop"), &request, LIMIT).await.unwrap_err();
    assert_eq!(error.message(), Some("rollout target not set"));
    let error = rig.client().await.remove_canary(&name("other"), None, LIMIT).await.unwrap_err();
    assert!(matches!(error, ProxyError::UnknownService { .. }), "{error}");
    // They can come again.
    rig.client().await.install_canary(&name("shop"), &self::request(&next), LIMIT).await.unwrap();
    split(&rig, Some(listed(&["1"]))).await;
    assert_eq!(who(&mut client, &cookie("1")).await, "next");
}

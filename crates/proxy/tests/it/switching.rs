//! Replacing targets under load, draining them, and coming back after a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use freehold_wire::{DrainMode, DrainRequest, HealthGate, ProbeOutcome, ProxyError};
use tokio::task::JoinSet;

use crate::client::{Connection, LIMIT, soon};
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

/// Sends numbered requests until told to stop; any answer but the right one is a failure.
async fn load(port: u16, worker: u64, stop: Arc<AtomicBool>, sent: Arc<AtomicU64>) -> Result<(), String> {
    let mut connection = Connection::open(port).await;
    let mut number = worker << 32;
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        let body = vec![b'x'; usize::try_from(number % 7 * 3000).unwrap()];
        let request = match number % 4 {
            0 => format!(
                "POST /n HTTP/1.1\r\nHost: shop.example.com\r\nX-Number: {number}\r\nContent-Length: {}\r\n\r\n{}",
                body.len(),
                String::from_utf8(body.clone()).unwrap()
            ),
            1 => format!(
                "POST /n HTTP/1.1\r\nHost: shop.example.com\r\nX-Number: {number}\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3\r\nxxx\r\n2\r\nxx\r\n0\r\n\r\n"
            ),
            _ => format!("GET /n HTTP/1.1\r\nHost: shop.example.com\r\nX-Number: {number}\r\n\r\n"),
        };
        let length = match number % 4 {
            0 => body.len(),
            1 => 5,
            _ => 0,
        };
        connection.send(&request).await;
        let reply = connection.try_reply("GET").await.ok_or(format!("no answer to {number}"))?;
        let wanted = format!(" {number} /n {length} {}", length * usize::from(b'x'));
        if reply.status != 200 || !reply.text().ends_with(&wanted) {
            return Err(format!("wrong answer to {number}: {reply:?}"));
        }
        sent.fetch_add(1, Ordering::SeqCst);
        if number.is_multiple_of(50) {
            connection = Connection::open(port).await;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_switches_under_load_lose_nothing() {
    let rig = Rig::start();
    let mut current = Target::start("first").await;
    rig.deploy(&current).await;
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let mut loads = JoinSet::new();
    for worker in 1..=8 {
        loads.spawn(load(rig.port(), worker, Arc::clone(&stop), Arc::clone(&sent)));
    }
    for turn in 0..20 {
        let before = sent.load(Ordering::SeqCst);
        let next = Target::start(&format!("target-{turn}")).await;
        let reply = rig.deploy(&next).await;
        assert_eq!(reply.drained.unwrap().requests_left, 0);
        // The old container goes away as soon as the deploy has returned.
        std::mem::replace(&mut current, next).stop().await;
        soon(async {
            while sent.load(Ordering::SeqCst) < before + 20 && loads.len() == 8 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    stop.store(true, Ordering::SeqCst);
    for result in soon(loads.join_all()).await {
        result.unwrap();
    }
    let status = rig.status().await;
    assert_eq!(status.generation, 21);
    assert!(status.counters.target_errors.is_empty(), "{:?}", status.counters);
    assert!(status.draining.is_empty());
}

/// Behaves badly at every turn: leaves in the middle of heads, uploads and answers, and sends on after an early answer.
async fn disturb(port: u16, worker: u64, stop: Arc<AtomicBool>) {
    let mut turn = worker;
    while !stop.load(Ordering::SeqCst) {
        turn += 1;
        let mut connection = Connection::open(port).await;
        let text = match turn % 6 {
            0 => "GET /n HTTP/1.1\r\nHost: shop.ex",
            1 => "POST /n HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 100\r\n\r\nabc",
            2 => "GET /large HTTP/1.1\r\nHost: shop.example.com\r\n\r\n",
            3 => "POST /early HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 5\r\n\r\nab",
            4 => "GET /cut HTTP/1.1\r\nHost: shop.example.com\r\n\r\n",
            _ => {
                "GET /extra HTTP/1.1\r\nHost: shop.example.com\r\n\r\nGET /close HTTP/1.1\r\nHost: shop.example.com\r\n\r\n"
            }
        };
        connection.send(text).await;
        if turn % 6 == 2 {
            soon(connection.head()).await;
        } else if turn % 6 > 2 {
            soon(connection.try_reply("GET")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_never_swapped_whatever_others_do() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let (mut loads, mut disturbers) = (JoinSet::new(), JoinSet::new());
    for worker in 1..=4 {
        loads.spawn(load(rig.port(), worker, Arc::clone(&stop), Arc::clone(&sent)));
        disturbers.spawn(disturb(rig.port(), worker, Arc::clone(&stop)));
    }
    soon(async {
        while sent.load(Ordering::SeqCst) < 3000 && loads.len() == 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    stop.store(true, Ordering::SeqCst);
    for result in soon(loads.join_all()).await {
        result.unwrap();
    }
    soon(disturbers.join_all()).await;
    rig.wait_for(|status| status.in_flight.requests == 0).await;
}

// proxy-compat cases 68, 140.
#[tokio::test]
async fn a_deploy_waits_for_requests_in_flight() {
    let rig = Rig::start();
    let (old, new) = (Target::start("old").await, Target::start("new").await);
    rig.deploy(&old).await;
    let mut slow = rig.open().await;
    slow.send("GET /gate HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    old.wait_for_waiting(1).await;
    let mut client = rig.client().await;
    let (shop, request) = (name("shop"), request_for(&new));
    let mut deploy = Box::pin(client.deploy(&shop, &request, LIMIT));
    let switched = async {
        while rig.open().await.get("/n").await.text() != "new  /n 0 0" {}
        let status = rig.status().await;
        assert_eq!((status.draining.len(), status.draining[0].in_flight.requests), (1, 1));
    };
    tokio::select! {
        reply = &mut deploy => panic!("did not wait: {reply:?}"),
        () = switched => {}
    }
    old.open_gate();
    assert_eq!(slow.reply().await.text(), "old");
    let reply = soon(deploy).await.unwrap();
    let drained = reply.drained.unwrap();
    assert_eq!((drained.requests_left, drained.tunnels_left), (0, 0));
    assert_eq!(reply.previous.unwrap().targets[0].to_string(), old.address());
}

// proxy-compat cases 69, 70.
#[tokio::test]
async fn the_drain_limit_cuts_what_is_left() {
    let rig = Rig::start();
    let (old, new) = (Target::start("old").await, Target::start("new").await);
    rig.deploy(&old).await;
    let mut silent = rig.open().await;
    silent.send("GET /gate HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    let mut begun = rig.open().await;
    begun.send("GET /half-gate HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    old.wait_for_waiting(2).await;
    soon(begun.head()).await.unwrap();
    let mut request = request_for(&new);
    request.drain_timeout_ms = 50;
    let reply = rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    assert_eq!(reply.drained.unwrap().requests_left, 2);
    let page = silent.reply().await;
    assert_eq!((page.status, page.header("content-type")), (504, Some("text/html; charset=utf-8")));
    // The first connection can be used again, the second is cut in the middle of its answer.
    assert_eq!(silent.get("/n").await.text(), "new  /n 0 0");
    let mut rest = Vec::new();
    let read = soon(tokio::io::AsyncReadExt::read_to_end(&mut begun.stream, &mut rest)).await;
    assert!(read.is_err() || rest.len() < 10, "{rest:?}");
}

#[tokio::test]
async fn a_drain_in_the_background_can_be_waited_for() {
    let rig = Rig::start();
    let (old, new) = (Target::start("old").await, Target::start("new").await);
    rig.deploy(&old).await;
    let mut slow = rig.open().await;
    slow.send("GET /gate HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    old.wait_for_waiting(1).await;
    let mut request = request_for(&new);
    request.drain = DrainMode::Background;
    let mut client = rig.client().await;
    assert_eq!(client.deploy(&name("shop"), &request, LIMIT).await.unwrap().drained, None);
    let drain = DrainRequest { timeout_ms: 30, tunnel_timeout_ms: 0 };
    let report = client.drain(&name("shop"), &drain, LIMIT).await.unwrap();
    assert_eq!(report.requests_left, 1);
    old.open_gate();
    assert_eq!(slow.reply().await.text(), "old");
    let drain = DrainRequest { timeout_ms: 10_000, tunnel_timeout_ms: 0 };
    let report = client.drain(&name("shop"), &drain, LIMIT).await.unwrap();
    assert_eq!(report.requests_left, 0);
    let error = client.drain(&name("nobody"), &drain, LIMIT).await.unwrap_err();
    assert!(matches!(error, ProxyError::UnknownService { .. }), "{error:?}");
}

#[tokio::test]
async fn an_unhealthy_target_changes_nothing() {
    let rig = Rig::start();
    let (old, new) = (Target::start("old").await, Target::start("new").await);
    rig.deploy(&old).await;
    new.shared.health.store(500, Ordering::SeqCst);
    let mut request = request_for(&new);
    request.deploy_timeout_ms = 100;
    let error = rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap_err();
    let ProxyError::Unhealthy { message, probes, .. } = error else { panic!("{error:?}") };
    assert_eq!(message, "target failed to become healthy within configured timeout (100ms)");
    assert!(matches!(probes[0].last, ProbeOutcome::Status { code: 500, .. }), "{probes:?}");
    assert!(probes[0].attempts > 1, "{probes:?}");
    assert_eq!(rig.open().await.get("/n").await.text(), "old  /n 0 0");
    assert_eq!(rig.status().await.generation, 1);
}

#[tokio::test]
async fn a_target_that_says_nothing_is_told_from_one_that_does_not_listen() {
    let rig = Rig::start();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut request = request_for(&Target::start("t").await);
    request.targets = vec![crate::rig::address(&silent.local_addr().unwrap().to_string())];
    request.deploy_timeout_ms = 50;
    let error = rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap_err();
    let ProxyError::Unhealthy { probes, .. } = error else { panic!("{error:?}") };
    assert_eq!(probes[0].last, ProbeOutcome::Timeout { connected: true });
}

#[tokio::test]
async fn putting_back_needs_no_health_check() {
    let rig = Rig::start();
    let (old, new) = (Target::start("old").await, Target::start("new").await);
    rig.deploy(&old).await;
    let previous = rig.deploy(&new).await.previous.unwrap();
    old.shared.health.store(500, Ordering::SeqCst);
    let reply = rig.client().await.deploy(&name("shop"), &previous.restore(), LIMIT).await.unwrap();
    assert_eq!(reply.generation, 3);
    assert_eq!(rig.open().await.get("/n").await.text(), "old  /n 0 0");
}

// proxy-compat case 48.
#[tokio::test]
async fn without_the_gate_requests_wait_for_nothing_and_get_503() {
    let rig = Rig::start();
    let target = Target::start("only").await;
    target.shared.health.store(500, Ordering::SeqCst);
    let mut request = request_for(&target);
    request.health = HealthGate::Skip;
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let mut connection = rig.open().await;
    assert_eq!(connection.get("/n").await.status, 503);
    target.shared.health.store(200, Ordering::SeqCst);
    soon(async { while connection.get("/n").await.status != 200 {} }).await;
    rig.wait_for(|status| status.counters.responses_2xx == 1).await;
    let counters = rig.status().await.counters;
    assert!(
        counters.target_errors.keys().map(|reason| reason.as_str()).eq(["no_healthy_target"]),
        "{counters:?}"
    );
}

// proxy-compat cases 44, 47, 50.
#[tokio::test]
async fn a_target_that_fails_its_checks_gets_nothing_until_it_recovers() {
    let rig = Rig::start();
    let (one, two) = (Target::start("one").await, Target::start("two").await);
    let mut request = request_for(&one);
    request.targets.push(crate::rig::address(&two.address()));
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let mut connection = rig.open().await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(connection.get("/n").await.text().split(' ').next().unwrap().to_owned());
    }
    seen.sort();
    assert_eq!(seen, ["one", "one", "two", "two"]);
    two.shared.health.store(500, Ordering::SeqCst);
    rig.wait_for(|status| status.targets[1].health == freehold_wire::HealthState::Unhealthy).await;
    for _ in 0..4 {
        assert_eq!(connection.get("/n").await.text(), "one  /n 0 0");
    }
    two.shared.health.store(200, Ordering::SeqCst);
    rig.wait_for(|status| status.targets[1].health == freehold_wire::HealthState::Healthy).await;
}

// proxy-compat case 207.
#[tokio::test]
async fn a_restart_serves_the_same_services_at_once() {
    let mut rig = Rig::start();
    let target = Target::start("kept").await;
    let mut request = request_for(&target);
    request.fence = Some(9);
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    target.shared.health.store(500, Ordering::SeqCst);
    rig.restart(Duration::from_secs(5));
    assert_eq!(rig.open().await.get("/n").await.text(), "kept  /n 0 0");
    let status = rig.status().await;
    assert_eq!((status.generation, status.fence, status.settings), (1, Some(9), request.settings.clone()));
    request.fence = Some(8);
    let error = rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap_err();
    assert!(matches!(error, ProxyError::Fenced { .. }), "{error:?}");
    // Another thread writes the log.
    for wanted in ["No previous state to restore", "Restored saved state"] {
        crate::client::soon(async {
            while !rig.log.lines().iter().any(|line| line["msg"] == wanted) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

// proxy-compat case 203.
#[tokio::test]
async fn a_damaged_state_file_is_set_aside_and_reported() {
    let mut rig = Rig::start();
    let target = Target::start("kept").await;
    rig.deploy(&target).await;
    rig.stop();
    let text = fs_err::read(rig.state_file()).unwrap();
    fs_err::write(rig.state_file(), &text[..text.len() / 2]).unwrap();
    rig.restart(Duration::from_secs(5));
    // The copy tells the same.
    assert_eq!(rig.open().await.get("/n").await.text(), "kept  /n 0 0");
    rig.stop();
    let lines = rig.log.lines();
    let line = lines.iter().find(|line| line["msg"] == "The saved state is damaged").unwrap();
    assert_eq!((line["level"].as_str(), line["lost_services"].as_str()), (Some("ERROR"), Some("")));
    fs_err::write(rig.state_file(), &text[..text.len() / 2]).unwrap();
    fs_err::remove_file(rig.state_file().with_added_extension("copy")).unwrap();
    rig.restart(Duration::from_secs(5));
    // What is kept for a kamal-proxy in our place tells the same.
    assert_eq!(rig.open().await.get("/n").await.text(), "kept  /n 0 0");
    rig.stop();
    let lines = rig.log.lines();
    let line = lines.iter().find(|line| line["msg"] == "Failed to decode saved state").unwrap();
    assert_eq!(line["level"], "ERROR");
    let aside = fs_err::read_dir(rig.state_file().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains("damaged"))
        .unwrap();
    assert!(line["error"].as_str().unwrap().contains(aside.to_str().unwrap()), "{line}");
    assert_eq!(fs_err::read(aside).unwrap(), &text[..text.len() / 2]);
}

// proxy-compat cases 199, 202, 203: what kamal-proxy stored serves, service by service, and nothing of it is lost.
#[tokio::test]
async fn what_kamal_proxy_left_serves_and_what_is_wrong_with_it_is_kept() {
    let mut rig = Rig::start();
    let target = Target::start("t").await;
    rig.stop();
    let folder = rig.state_file().parent().unwrap().to_owned();
    let record = |name: &str, host: &str, target: &str| {
        format!(r#"{{"name":"{name}","active_targets":["{target}"],"options":{{"hosts":["{host}"]}}}}"#)
    };
    let address = target.address();
    let text = format!(
        "[{},{}]",
        record("shop", "shop.example.com", &address),
        record("bad", "b.example.com", "http://x")
    );
    fs_err::write(folder.join("kamal-proxy.state"), &text).unwrap();
    rig.restart(Duration::from_secs(5));
    assert_eq!(rig.open().await.get("/n").await.text(), "t  /n 0 0");
    rig.deploy(&target).await;
    let kept = || {
        let entries = fs_err::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.to_string_lossy().contains("kept-")).collect::<Vec<_>>()
    };
    assert_eq!(fs_err::read_to_string(&kept()[0]).unwrap(), text);
    assert!(rig.log.text().contains("Service of kamal-proxy not carried over"));
}

// proxy-compat case 205.
#[tokio::test]
async fn stopping_finishes_what_is_in_flight() {
    let mut rig = Rig::start();
    let target = Target::start("only").await;
    rig.deploy(&target).await;
    let mut idle = rig.open().await;
    idle.get("/n").await;
    let mut slow = rig.open().await;
    slow.send("GET /gate HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    target.wait_for_waiting(1).await;
    let port = rig.port();
    let server = rig.begin_stop();
    assert!(idle.is_closed().await);
    soon(async { while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {} }).await;
    target.open_gate();
    let reply = slow.reply().await;
    assert_eq!((reply.text(), reply.header("connection")), ("only", Some("close")));
    assert!(slow.is_closed().await);
    tokio::task::spawn_blocking(|| server.join()).await.unwrap();
    assert!(!rig.socket().exists());
}

// proxy-compat case 206.
#[tokio::test]
async fn stopping_has_a_deadline() {
    let mut rig = Rig::start();
    rig.restart(Duration::from_millis(50));
    let target = Target::start("only").await;
    rig.deploy(&target).await;
    let mut slow = rig.open().await;
    slow.send("GET /gate HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    target.wait_for_waiting(1).await;
    let started = Instant::now();
    let server = rig.begin_stop();
    assert_eq!(slow.reply().await.status, 504);
    tokio::task::spawn_blocking(|| server.join()).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_takes_the_place_of_another_without_a_gap() {
    let rig = Rig::start();
    let (old, new) = (Target::start("old").await, Target::start("new").await);
    rig.deploy(&old).await;
    let mut api = rig.client().await;
    let mut request = request_for(&new);
    let error = api.deploy(&name("renamed"), &request, LIMIT).await.unwrap_err();
    assert!(matches!(error, ProxyError::HostConflict { .. }), "{error:?}");
    request.takes_over = Some(name("another"));
    let error = api.deploy(&name("renamed"), &request, LIMIT).await.unwrap_err();
    assert!(matches!(error, ProxyError::HostConflict { .. }), "{error:?}");

    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let mut loads = JoinSet::new();
    for worker in 1..=4 {
        loads.spawn(load(rig.port(), worker, Arc::clone(&stop), Arc::clone(&sent)));
    }
    let (shop, renamed) = (name("shop"), name("renamed"));
    for _ in 0..10 {
        request.takes_over = Some(shop.clone());
        request.standby_ms = 60_000;
        let reply = api.deploy(&renamed, &request, LIMIT).await.unwrap();
        assert_eq!(reply.previous.unwrap().name, shop);
        let services = api.services(LIMIT).await.unwrap();
        assert_eq!(services.iter().map(|service| &service.name).collect::<Vec<_>>(), [&renamed]);
        let standby: Vec<String> = services[0].standby.iter().map(ToString::to_string).collect();
        assert_eq!(standby, [old.address()], "the earlier targets are those of the other service");
        // The way back, as often as one likes.
        let mut back = request_for(&old);
        back.takes_over = Some(renamed.clone());
        for _ in 0..2 {
            api.deploy(&shop, &back, LIMIT).await.unwrap();
        }
    }
    let seen = sent.load(Ordering::SeqCst);
    while sent.load(Ordering::SeqCst) < seen + 50 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::SeqCst);
    for outcome in loads.join_all().await {
        outcome.unwrap();
    }
    request.takes_over = Some(shop.clone());
    api.deploy(&renamed, &request, LIMIT).await.unwrap();
    let drained = DrainRequest { timeout_ms: 10_000, tunnel_timeout_ms: 0 };
    assert_eq!(api.drain(&renamed, &drained, LIMIT).await.unwrap().requests_left, 0);
    let error = api.drain(&shop, &drained, LIMIT).await.unwrap_err();
    assert!(matches!(error, ProxyError::UnknownService { .. }), "{error:?}");
    drop((old, new));
}

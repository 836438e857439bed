//! What a probe says about targets of every kind.

use std::sync::atomic::Ordering;
use std::time::Duration;

use freehold_wire::{HealthCheck, ProbeOutcome, ProbeReport, ProbeRequest, ProxyError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::client::{LIMIT, soon};
use crate::rig::{Rig, address};
use crate::target::Target;

fn request(target: &str) -> ProbeRequest {
    let health_check = HealthCheck { interval_ms: 20, timeout_ms: 100, ..HealthCheck::default() };
    ProbeRequest { target: address(target), health_check, deadline_ms: 150 }
}

async fn probe(rig: &Rig, request: &ProbeRequest) -> ProbeReport {
    rig.client().await.probe(request, LIMIT).await.unwrap()
}

/// A target that answers every connection with the same bytes, after it has read something, and closes it.
async fn saying(text: &'static [u8]) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /"));
            stream.write_all(text).await.unwrap();
        }
    });
    (address, tasks)
}

// proxy-compat cases 35, 135.
#[tokio::test]
async fn a_healthy_target_is_found_at_once() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let report = probe(&rig, &request(&target.address())).await;
    assert_eq!(
        (report.healthy, report.attempts, report.last),
        (true, 1, ProbeOutcome::Healthy { status: 200 })
    );
    // Nothing is routed to it.
    assert_eq!(rig.open().await.get("/n").await.status, 404);
}

#[tokio::test]
async fn a_target_that_starts_late_is_waited_for() {
    let rig = Rig::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut request = request(&format!("127.0.0.1:{port}"));
    request.deadline_ms = 10_000;
    let start = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Target::on("late", TcpListener::bind(("127.0.0.1", port)).await.unwrap())
    };
    let (report, _target) = tokio::join!(probe(&rig, &request), start);
    assert!(report.healthy && report.attempts > 1, "{report:?}");
    assert!(report.elapsed_ms < 5000, "{report:?}");
}

// proxy-compat cases 37, 38.
#[tokio::test]
async fn each_kind_of_failure_is_named() {
    let rig = Rig::start();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = free.local_addr().unwrap().to_string();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    drop(free);
    let (closing, _tasks) = saying(b"").await;
    let (partial, _tasks2) = saying(b"HTTP/1.1 200 OK\r\nContent-").await;
    let (greeting, _tasks3) = saying(b"220 mail.example.com ESMTP \x1b[31m\r\n").await;
    let (moved, _tasks4) =
        saying(b"HTTP/1.1 301 Moved\r\nLocation: https://shop.example.com/up\r\nContent-Length: 0\r\n\r\n")
            .await;
    let (failing, _tasks5) = saying(b"HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\nno\nroute\x07").await;
    for (target, wanted) in [
        (refused.as_str(), ProbeOutcome::Refused),
        ("no-such-host.invalid:80", ProbeOutcome::Unresolvable),
        (&silent.local_addr().unwrap().to_string(), ProbeOutcome::Timeout { connected: true }),
        (&closing, ProbeOutcome::ClosedEarly),
        (&partial, ProbeOutcome::ClosedEarly),
        (
            &greeting,
            ProbeOutcome::NotHttp { received: "220 mail.example.com ESMTP \\u{1b}[31m\\r\\n".into() },
        ),
        (
            &moved,
            ProbeOutcome::Status {
                code: 301,
                location: Some("https://shop.example.com/up".into()),
                body: String::new(),
            },
        ),
        (&failing, ProbeOutcome::Status { code: 500, location: None, body: "no\\nroute\\u{7}".into() }),
    ] {
        let report = probe(&rig, &request(target)).await;
        assert_eq!((report.healthy, report.last), (false, wanted), "{target}");
    }
}

#[tokio::test]
async fn a_failing_target_is_asked_until_the_deadline() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    target.shared.health.store(503, Ordering::SeqCst);
    let report = probe(&rig, &request(&target.address())).await;
    assert!(report.attempts > 2 && report.elapsed_ms <= 1000, "{report:?}");
    assert_eq!(u64::from(report.attempts), target.requests());
}

#[tokio::test]
async fn redirects_to_the_target_itself_are_followed() {
    let rig = Rig::start();
    let (looping, _tasks) =
        saying(b"HTTP/1.1 302 Found\r\nLocation: /up\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await;
    let report = probe(&rig, &request(&looping)).await;
    assert!(matches!(report.last, ProbeOutcome::Status { code: 302, .. }), "{report:?}");
}

#[tokio::test]
async fn a_port_and_a_host_of_the_check_are_used() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let mut asked = request("127.0.0.1:9");
    asked.health_check.port = Some(target.port);
    asked.health_check.host = Some("shop.example.com".to_owned());
    assert!(probe(&rig, &asked).await.healthy);
}

#[tokio::test]
async fn senseless_checks_are_refused() {
    let rig = Rig::start();
    let mut client = rig.client().await;
    for change in [
        (|check| check.interval_ms = 0) as fn(&mut HealthCheck),
        |check| check.timeout_ms = 0,
        |check| check.path = "/a b".to_owned(),
        |check| check.path = "/a\r\nX: y".to_owned(),
        |check| check.host = Some("a\r\nb".to_owned()),
        |check| check.port = Some(0),
    ] {
        let mut asked = request("127.0.0.1:9");
        change(&mut asked.health_check);
        let error = soon(client.probe(&asked, LIMIT)).await.unwrap_err();
        assert!(matches!(error, ProxyError::Refused { .. }), "{error:?}");
        assert!(error.message().unwrap().contains("health_check."), "{error:?}");
    }
}

/// A target that answers 200 to one `Host` and 421 to every other.
async fn insisting(host: &'static str) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let own = address.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            let text = std::str::from_utf8(&request[..length]).unwrap().to_owned();
            let wanted = if host.is_empty() { &own } else { host };
            let status = if text.contains(&format!("\r\nHost: {wanted}\r\n")) { 200 } else { 421 };
            assert!(text.contains("\r\nUser-Agent: kamal-proxy\r\n"), "{text}");
            let answer =
                format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, tasks)
}

// proxy-compat cases 39-41.
#[tokio::test]
async fn the_host_of_a_check_is_the_one_that_was_given_or_the_targets_own() {
    let rig = Rig::start();
    let (named, _tasks) = insisting("example.com").await;
    let (own, _tasks2) = insisting("").await;
    for (target, host, healthy) in [
        (&named, Some("example.com"), true),
        (&named, Some("other.example.com"), false),
        (&named, None, false),
        (&own, None, true),
    ] {
        let mut asked = request(target);
        asked.health_check.host = host.map(ToOwned::to_owned);
        assert_eq!(probe(&rig, &asked).await.healthy, healthy, "{host:?}");
    }
}

// proxy-compat case 43.
#[tokio::test]
async fn every_success_is_healthy_also_behind_a_redirect() {
    let rig = Rig::start();
    let (empty, _tasks) = saying(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
    let (odd, _tasks2) = saying(b"HTTP/1.1 299 Odd\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    for (target, status) in [(empty, 204), (odd, 299)] {
        assert_eq!(probe(&rig, &request(&target)).await.last, ProbeOutcome::Healthy { status });
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let moved = listener.local_addr().unwrap().to_string();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            let answer: &[u8] = match request[..length].starts_with(b"GET /up ") {
                true => b"HTTP/1.1 302 Found\r\nLocation: /ready\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                false => b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
            };
            stream.write_all(answer).await.unwrap();
        }
    });
    assert_eq!(probe(&rig, &request(&moved)).await.last, ProbeOutcome::Healthy { status: 204 });
}

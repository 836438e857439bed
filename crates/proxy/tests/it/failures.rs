//! Targets and clients that go away, are silent or talk nonsense.

use std::time::Duration;

use freehold_wire::Reason;
use tokio::net::TcpListener;

use crate::client::{LIMIT, soon};
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

const HEAD: &str = "Host: shop.example.com\r\n";

async fn rig() -> (Rig, Target) {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    (rig, target)
}

async fn raw(rig: &Rig, answer: &str) -> crate::client::Reply {
    let mut connection = rig.open().await;
    connection
        .send(format!("POST /raw HTTP/1.1\r\n{HEAD}Content-Length: {}\r\n\r\n{answer}", answer.len()))
        .await;
    connection.reply().await
}

// proxy-compat case 89.
#[tokio::test]
async fn a_target_that_is_gone_gives_502_and_a_reason() {
    let (rig, target) = rig().await;
    rig.open().await.get("/n").await;
    target.stop().await;
    let mut connection = rig.open().await;
    for _ in 0..2 {
        let reply = connection.get("/n").await;
        assert_eq!((reply.status, reply.header("content-type")), (502, Some("text/html; charset=utf-8")));
        assert!(reply.text().contains("Bad Gateway"));
    }
    let counters = rig.counters(3).await;
    assert_eq!(
        (counters.requests, counters.responses_2xx, counters.responses_5xx),
        (3, 1, 2),
        "{counters:?}"
    );
    assert_eq!(counters.target_errors.get(&Reason::TargetRefused), Some(&2), "{counters:?}");
    let mut rig = rig;
    rig.stop();
    let lines = rig.log.requests();
    assert_eq!((&lines[1]["status"], &lines[1]["reason"]), (&502.into(), &"target_refused".into()));
}

// proxy-compat case 91.
#[tokio::test]
async fn a_kept_connection_that_the_target_closed_loses_no_request() {
    let (rig, target) = rig().await;
    for path in ["/close-silently", "/close", "/n"] {
        for _ in 0..30 {
            assert_eq!(rig.open().await.get(path).await.status, 200, "{path}");
        }
    }
    // Requests with a body are not repeated, but neither are they given a connection that is closed.
    for _ in 0..30 {
        assert_eq!(rig.open().await.get("/until-close").await.text(), "until the end");
        let mut connection = rig.open().await;
        connection.send(format!("POST /n HTTP/1.1\r\n{HEAD}Content-Length: 2\r\n\r\nab")).await;
        assert_eq!(connection.reply().await.text(), "t  /n 2 195");
    }
    assert_eq!(rig.counters(150).await.responses_2xx, 150);
    assert_eq!(target.requests(), 151);
}

// proxy-compat case 89.
#[tokio::test]
async fn a_request_that_was_taken_is_not_sent_twice() {
    let (rig, target) = rig().await;
    let before = target.requests();
    for request in [
        format!("GET /drop HTTP/1.1\r\n{HEAD}\r\n"),
        format!("POST /drop HTTP/1.1\r\n{HEAD}Content-Length: 2\r\n\r\nab"),
    ] {
        let mut connection = rig.open().await;
        connection.send(request).await;
        assert_eq!(connection.reply().await.status, 502);
    }
    // Neither was on a connection that had been used before by anything but the health check's own.
    assert_eq!(target.requests(), before + 2);
    let counters = rig.counters(2).await;
    assert_eq!(counters.target_errors.get(&Reason::TargetClosed), Some(&2), "{counters:?}");
}

// proxy-compat case 89.
#[tokio::test]
async fn answers_that_two_programs_could_read_differently_are_refused() {
    let (rig, _target) = rig().await;
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nab",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        assert_eq!(raw(&rig, answer).await.status, 502, "{answer:?}");
    }
    let counters = rig.counters(10).await;
    assert_eq!(counters.target_errors.get(&Reason::TargetInvalidResponse), Some(&10), "{counters:?}");
    assert_eq!(
        raw(&rig, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab").await.text(),
        "ab"
    );
}

#[tokio::test]
async fn a_connection_with_more_than_the_answer_is_not_used_again() {
    let (rig, target) = rig().await;
    let mut connection = rig.open().await;
    let before = target.connections();
    for _ in 0..3 {
        assert_eq!(connection.get("/extra").await.text(), "ok");
        assert_eq!(connection.get("/n").await.text(), "t  /n 0 0");
    }
    assert!(target.connections() > before + 2);
}

// proxy-compat cases 87, 88.
#[tokio::test]
async fn a_silent_target_gives_504() {
    let (rig, target) = rig().await;
    let mut request = request_for(&target);
    request.settings.response_timeout_ms = 100;
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let mut connection = rig.open().await;
    assert_eq!(connection.get("/gate").await.status, 504);
    assert_eq!(connection.get("/n").await.status, 200);
    // Only the head has to come in time.
    connection.send(format!("GET /half-gate HTTP/1.1\r\n{HEAD}\r\n")).await;
    target.wait_for_waiting(2).await;
    assert!(soon(connection.head()).await.is_some());
    rig.wait_for(|status| status.counters.since_switch_ms > 500).await;
    target.open_gate();
    let mut rest = [0; 10];
    soon(tokio::io::AsyncReadExt::read_exact(&mut connection.stream, &mut rest)).await.unwrap();
    assert_eq!(&rest, b"first-last");
    let counters = rig.counters(3).await;
    assert_eq!(counters.target_errors.get(&Reason::TargetResponseTimeout), Some(&1), "{counters:?}");
}

// proxy-compat case 79.
#[tokio::test]
async fn a_client_that_leaves_frees_the_target() {
    let (mut rig, target) = rig().await;
    let mut connection = rig.open().await;
    connection.send(format!("GET /gate HTTP/1.1\r\n{HEAD}\r\n")).await;
    target.wait_for_waiting(1).await;
    drop(connection);
    rig.wait_for(|status| status.in_flight.requests == 0).await;
    let mut connection = rig.open().await;
    connection.send(format!("POST /n HTTP/1.1\r\n{HEAD}Content-Length: 100\r\n\r\nonly a part")).await;
    rig.wait_for(|status| status.in_flight.requests == 1).await;
    drop(connection);
    rig.wait_for(|status| status.in_flight.requests == 0).await;
    let counters = rig.counters(2).await;
    assert!(counters.target_errors.is_empty(), "{counters:?}");
    assert_eq!((counters.requests, counters.responses_4xx), (2, 0), "{counters:?}");
    rig.stop();
    for line in rig.log.requests() {
        assert_eq!((&line["status"], &line["reason"]), (&499.into(), &"client_gone".into()), "{line}");
        assert_eq!(line["resp_content_length"], 0, "{line}");
    }
}

// proxy-compat case 80.
#[tokio::test]
async fn a_malformed_upload_is_the_clients_fault() {
    let (rig, _target) = rig().await;
    let mut connection = rig.open().await;
    connection.send(format!("POST /n HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\nZZ\r\n")).await;
    assert_eq!(connection.reply().await.status, 400);
    assert!(connection.is_closed().await);
    assert!(rig.counters(1).await.target_errors.is_empty());
}

#[tokio::test]
async fn another_target_takes_over_when_one_cannot_be_connected_to() {
    let (rig, good) = rig().await;
    let bad = Target::start("bad").await;
    let mut request = request_for(&good);
    request.targets.push(crate::rig::address(&bad.address()));
    // Checks so rare that the second target stays healthy in the proxy's eyes.
    request.settings.health_check.interval_ms = 60_000;
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    bad.stop().await;
    let mut connection = rig.open().await;
    for number in 0..6 {
        connection
            .send(format!("POST /n HTTP/1.1\r\n{HEAD}X-Number: {number}\r\nContent-Length: 1\r\n\r\na"))
            .await;
        assert_eq!(connection.reply().await.text(), format!("t {number} /n 1 97"));
    }
}

#[tokio::test]
async fn a_target_that_comes_back_on_its_address_is_found() {
    let (rig, target) = rig().await;
    let mut connection = rig.open().await;
    assert_eq!(connection.get("/n").await.status, 200);
    let port = target.port;
    target.stop().await;
    assert_eq!(connection.get("/n").await.status, 502);
    let listener = soon(async {
        loop {
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)).await {
                return listener;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let _again = Target::on("again", listener);
    assert_eq!(connection.get("/n").await.text(), "again  /n 0 0");
}

#[tokio::test]
async fn a_target_is_found_by_its_name() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let mut request = request_for(&target);
    request.targets = vec![crate::rig::address(&format!("localhost:{}", target.port))];
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    assert_eq!(rig.open().await.get("/n").await.text(), "t  /n 0 0");
    request.targets = vec![crate::rig::address("no-such-host.invalid")];
    request.health = freehold_wire::HealthGate::Trust;
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    assert_eq!(rig.open().await.get("/n").await.status, 502);
    let counters = rig.counters(1).await;
    assert_eq!(counters.target_errors.get(&Reason::TargetUnresolvable), Some(&1), "{counters:?}");
}

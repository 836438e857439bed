//! What clients may do that want to do harm: be slow, be many, send what confuses a reader.

use std::process::Stdio;
use std::time::{Duration, Instant};

use freehold_proxy::Limits;
use freehold_wire::Buffering;

use crate::client::{Connection, LIMIT, soon};
use crate::command_line::{client_of, kamal};
use crate::metrics::{scrape, wait_for};
use crate::process::Process;
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

#[tokio::test]
async fn a_body_that_trickles_ends_in_time() {
    let limits = Limits {
        upload: Duration::from_millis(400),
        least_upload_bytes_per_second: 1000,
        ..Limits::default()
    };
    for buffers in [false, true] {
        let (rig, target) = (Rig::with_limits(limits), Target::start("t").await);
        let mut request = request_for(&target);
        request.settings.buffering = Buffering { requests: buffers, ..Buffering::default() };
        rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
        let mut slow = rig.open().await;
        slow.send("POST /n HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 1000\r\n\r\n").await;
        let started = Instant::now();
        // Each byte comes well within the time for a piece.
        let trickle = async {
            loop {
                use tokio::io::AsyncWriteExt;
                tokio::time::sleep(Duration::from_millis(50)).await;
                if slow.stream.get_mut().write_all(b"x").await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let ended = async {
            loop {
                let found = rig.log.requests().into_iter().find(|line| line["reason"] == "client_timeout");
                match found {
                    Some(line) => return line,
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let line = tokio::select! {
            () = trickle => panic!("it goes on for ever"),
            line = soon(ended) => line,
        };
        assert_eq!(line["status"], 408);
        assert!(started.elapsed() >= Duration::from_millis(350), "{:?}", started.elapsed());
        assert_eq!(slow.reply().await.status, 408);
    }
}

#[tokio::test]
async fn bodies_that_have_no_room_on_the_disk_are_refused_and_counted() {
    let (rig, target) = (Rig::spilling(1_000_000), Target::start("t").await);
    let mut request = request_for(&target);
    request.settings.buffering = Buffering { requests: true, responses: true, ..Buffering::default() };
    request.settings.buffering.memory_bytes = 1000;
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let mut first = rig.open().await;
    first.send("POST /n HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 900000\r\n\r\n").await;
    first.send(vec![b'x'; 700_000]).await;
    let used = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("freehold_buffer_disk_bytes "));
        line.unwrap().parse::<u64>().unwrap()
    };
    soon(async { while used(&scrape(&rig).await) < 500_000 {} }).await;
    let mut second = rig.open().await;
    second.send("POST /n HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 600000\r\n\r\n").await;
    second.send(vec![b'x'; 600_000]).await;
    assert_eq!(second.reply().await.status, 503);
    wait_for(&rig, "freehold_http_dropped_total{service=\"shop\",reason=\"buffer_full\"} 1").await;
    soon(async { while !rig.log.requests().iter().any(|line| line["reason"] == "buffer_full") {} }).await;
    first.send(vec![b'x'; 200_000]).await;
    assert_eq!(first.reply().await.status, 200);
    soon(async { while used(&scrape(&rig).await) > 0 {} }).await;
    wait_for(&rig, "freehold_buffer_disk_limit_bytes 1000000").await;
}

#[tokio::test]
async fn bytes_and_failures_are_counted_by_reason() {
    let (rig, target) = (Rig::counting(), Target::start("t").await);
    rig.deploy(&target).await;
    let mut client = rig.open().await;
    client.send("POST /n HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 5\r\n\r\n12345").await;
    let length = client.reply().await.body.len();
    wait_for(&rig, "freehold_http_request_bytes_total{service=\"shop\"} 5").await;
    wait_for(&rig, &format!("freehold_http_response_bytes_total{{service=\"shop\"}} {length}")).await;
    assert_eq!(rig.open().await.get("/drop").await.status, 502);
    wait_for(&rig, "freehold_target_errors_total{service=\"shop\",reason=\"target_closed\"} 1").await;
    wait_for(&rig, "freehold_http_dropped_total{service=\"shop\",reason=\"target_closed\"} 1").await;
    // What cannot be read has no service and no method, and is counted all the same.
    let mut client = rig.open().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
    assert_eq!(client.reply().await.status, 400);
    wait_for(&rig, "freehold_http_dropped_total{service=\"\",reason=\"invalid_request\"} 1").await;
    let text = scrape(&rig).await;
    assert!(!text.contains("freehold_target_errors_total{service=\"\""), "{text}");
}

#[tokio::test]
async fn nothing_that_a_client_sends_reaches_a_terminal_as_it_is() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let mut request = request_for(&target);
    request.settings.canonical_host = Some(freehold_wire::HostPattern::parse("shop.example.com").unwrap());
    request.settings.hosts = Vec::new();
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    for text in [
        "GET /created?%1b%5b31m\u{9b}31m<script>\u{202e} HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: a\u{9b}b\tc\r\n\r\n",
        "GET /'\"<script>alert(1)</script> HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \u{1b}[31m\r\n\r\n",
        "\u{1b}]0;x\u{7} / HTTP/1.1\r\n\r\n",
    ] {
        let mut client = rig.open().await;
        client.send(text).await;
        let reply = client.reply().await;
        assert!(!reply.text().contains("<script>"), "{}", reply.text());
        assert!(
            reply.text().chars().all(|character| character == '\n' || !character.is_control()),
            "{reply:?}"
        );
    }
    soon(async { while rig.log.requests().len() < 4 {} }).await;
    let log = rig.log.text();
    assert!(log.chars().all(|character| character == '\n' || !character.is_control()), "{log:?}");
    let (code, table) = kamal(&rig, &["list"]).await;
    assert_eq!(code, 0);
    // The colours of the table are its own.
    let plain = table.replace("\u{1b}[", "");
    assert!(plain.chars().all(|character| character == '\n' || !character.is_control()), "{table:?}");
}

/// Attacks a proxy as slowhttptest does, from a thousand connections, while it has to serve others.
#[tokio::test]
async fn slowhttptest_does_not_exhaust_it() {
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start("t").await);
    let process = Process::start(folder.path(), 0);
    let mut client = client_of(folder.path()).await;
    let port = client.version(LIMIT).await.unwrap().http_port;
    let mut request = request_for(&target);
    request.settings.hosts = Vec::new();
    client.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let common = ["-c", "1000", "-r", "1000", "-l", "6", "-p", "2"];
    for (mode, further, path) in [
        ("-H", &["-i", "1", "-t", "GET"][..], "/n"),
        ("-B", &["-i", "1", "-s", "100000", "-t", "POST"], "/n"),
        ("-X", &["-w", "64", "-y", "128", "-n", "1", "-z", "16", "-k", "1"], "/large"),
        ("-R", &["-a", "1", "-b", "2000", "-t", "HEAD"], "/large"),
    ] {
        let attack = tokio::process::Command::new("slowhttptest")
            .arg(mode)
            .args(common)
            .args(further)
            .args(["-u", &url(path)])
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .status();
        let mut attack = std::pin::pin!(attack);
        let (mut served, mut slowest) = (0, Duration::ZERO);
        let status = loop {
            let started = Instant::now();
            let serving = async { Connection::open(port).await.get("/n").await.status };
            tokio::select! {
                status = &mut attack => break status.expect("slowhttptest is installed by script/test"),
                status = soon(serving) => assert_eq!(status, 200, "{mode}"),
            }
            slowest = slowest.max(started.elapsed());
            served += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        println!("{mode}: {served} served meanwhile, the slowest in {slowest:?}");
        assert!(status.success(), "{mode}: {status}");
        assert!(served >= 20 && slowest < Duration::from_secs(3), "{mode}: {served} {slowest:?}");
    }
    let log = process.end().await;
    assert!(!log.contains("panicked"), "{log}");
}

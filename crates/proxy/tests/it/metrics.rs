//! What is counted, as Prometheus reads it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{LIMIT, soon};
use crate::rig::{Rig, name};
use crate::target::Target;

/// Reads what is counted.
pub(crate) async fn scrape(rig: &Rig) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", rig.metrics_port())).await.unwrap();
    let text = "GET /whatever HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    answer
}

/// Waits until a line is there: a client has its answer a moment before the request has ended.
pub(crate) async fn wait_for(rig: &Rig, line: &str) {
    soon(async {
        while !scrape(rig).await.lines().any(|found| found == line) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

// Section 20 of the description of kamal-proxy.
#[tokio::test]
async fn requests_are_counted_by_service_method_and_status() {
    let (rig, target) = (Rig::counting(), Target::start("t").await);
    rig.deploy(&target).await;
    for _ in 0..3 {
        assert_eq!(rig.open().await.get("/n").await.status, 200);
    }
    let mut connection = rig.open().await;
    connection.send("PURGE /n HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    connection.reply().await;
    connection.send("GET /n HTTP/1.1\r\nHost: nobody.example.com\r\n\r\n").await;
    assert_eq!(connection.reply().await.status, 404);
    let total = "kamal_proxy_http_requests_total";
    wait_for(&rig, &format!("{total}{{service=\"shop\",method=\"GET\",status=\"200\"}} 3")).await;
    wait_for(&rig, &format!("{total}{{service=\"shop\",method=\"OTHER\",status=\"200\"}} 1")).await;
    wait_for(&rig, &format!("{total}{{service=\"\",method=\"GET\",status=\"404\"}} 1")).await;
    let labels = "service=\"shop\",method=\"GET\",status=\"200\"";
    let duration = "kamal_proxy_http_request_duration_seconds";
    wait_for(&rig, &format!("{duration}_bucket{{{labels},le=\"+Inf\"}} 3")).await;
    wait_for(&rig, &format!("{duration}_count{{{labels}}} 3")).await;
    let gauge = |count: u32| format!("kamal_proxy_http_in_flight_requests{{service=\"shop\"}} {count}");
    wait_for(&rig, &gauge(0)).await;
    let mut waiting = rig.open().await;
    waiting.send("GET /gate HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    target.wait_for_waiting(1).await;
    wait_for(&rig, &gauge(1)).await;
    // A service that is gone keeps its counts.
    rig.client().await.remove(&name("shop"), None, LIMIT).await.unwrap();
    wait_for(&rig, &format!("{total}{{service=\"shop\",method=\"OTHER\",status=\"200\"}} 1")).await;
}

// proxy-compat cases 120-122.
#[tokio::test]
async fn paths_that_are_left_out_are_logged_and_not_counted() {
    for (strip, counted) in [(true, "/api/other"), (false, "/api/up")] {
        let (rig, target) = (Rig::counting(), Target::start("t").await);
        let mut request = crate::rig::request_for(&target);
        request.settings.path_prefixes = vec![freehold_wire::PathPrefix::parse("/api").unwrap()];
        request.settings.strip_path_prefix = strip;
        request.settings.exclude_metrics_paths = ["/up", "/healthz", "/gate"].map(ToOwned::to_owned).to_vec();
        request.health = freehold_wire::HealthGate::Trust;
        rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
        let mut client = rig.open().await;
        if strip {
            for (method, path) in [("GET", "/api/up"), ("POST", "/api/healthz?x"), ("GET", "/api/u%70")] {
                client.send(format!("{method} {path} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")).await;
                client.reply().await;
            }
        }
        client.get(counted).await;
        client.get("/api/up/nested").await;
        let total = "kamal_proxy_http_requests_total{service=\"shop\",method=\"GET\",status=\"404\"} 2";
        wait_for(&rig, total).await;
        let text = scrape(&rig).await;
        assert_eq!(text.matches("kamal_proxy_http_requests_total{service=\"shop\"").count(), 1, "{text}");
        let logged = if strip { 5 } else { 2 };
        soon(async {
            while rig.log.requests().len() < logged {
                tokio::task::yield_now().await;
            }
        })
        .await;
        if strip {
            client.send("GET /api/gate HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
            target.wait_for_waiting(1).await;
            assert_eq!(rig.status().await.in_flight.requests, 1);
            wait_for(&rig, "kamal_proxy_http_in_flight_requests{service=\"shop\"} 0").await;
        }
    }
}

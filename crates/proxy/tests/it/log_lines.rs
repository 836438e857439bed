//! The line that each request has in the log.

use freehold_wire::DeployRequest;

use crate::client::LIMIT;
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

const FIELDS: [&str; 23] = [
    "time",
    "level",
    "msg",
    "host",
    "port",
    "path",
    "request_id",
    "status",
    "service",
    "target",
    "duration",
    "method",
    "req_content_length",
    "req_content_type",
    "resp_content_length",
    "resp_content_type",
    "client_addr",
    "client_port",
    "remote_addr",
    "user_agent",
    "proto",
    "scheme",
    "query",
];

/// Sends a request and returns its line as it was written.
async fn line_of(change: impl FnOnce(&mut DeployRequest), request: &str) -> (u16, String) {
    let (mut rig, target) = (Rig::start(), Target::start("t").await);
    let mut wanted = request_for(&target);
    change(&mut wanted);
    rig.client().await.deploy(&name("shop"), &wanted, LIMIT).await.unwrap();
    let mut connection = rig.open().await;
    connection.send(request).await;
    connection.reply().await;
    let port = rig.port();
    rig.stop();
    let text = rig.log.text();
    (port, text.lines().find(|line| line.contains("\"msg\":\"Request\"")).unwrap().to_owned())
}

// proxy-compat case 117.
#[tokio::test]
async fn a_line_has_kamal_proxys_fields_in_its_order() {
    let (port, text) = line_of(
        |_| {},
        "POST /created?a=b HTTP/1.1\r\nHost: shop.example.com\r\nContent-Type: text/x\r\nContent-Length: 5\r\n\
         X-Forwarded-For: 192.0.2.7\r\n\r\nhello",
    )
    .await;
    let mut from = 0;
    for field in FIELDS {
        let at = text.find(&format!("\"{field}\":")).unwrap_or_else(|| panic!("no {field}: {text}"));
        assert!(at >= from, "{field} is not in its place: {text}");
        from = at;
    }
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line.as_object().unwrap().len(), FIELDS.len(), "{text}");
    assert_eq!(
        (&line["level"], &line["status"], &line["method"]),
        (&"INFO".into(), &201.into(), &"POST".into())
    );
    assert_eq!((&line["req_content_length"], &line["resp_content_length"]), (&5.into(), &8.into()));
    assert_eq!(
        (&line["req_content_type"], &line["resp_content_type"]),
        (&"text/x".into(), &"text/plain".into())
    );
    assert_eq!(
        (line["port"].as_u64(), &line["scheme"], &line["proto"]),
        (Some(port.into()), &"http".into(), &"HTTP/1.1".into())
    );
    assert_eq!((&line["client_addr"], &line["remote_addr"]), (&"127.0.0.1".into(), &"192.0.2.7".into()));
    assert!(line["client_port"].as_str().unwrap().parse::<u16>().is_ok(), "{text}");
    assert_eq!(
        (&line["path"], &line["query"], &line["service"]),
        (&"/created".into(), &"a=b".into(), &"shop".into())
    );
}

// proxy-compat cases 115, 116.
#[tokio::test]
async fn a_header_with_the_clients_address_stands_in_the_line() {
    for trusted in [true, false] {
        for (lines, wanted) in [
            ("True-Client-IP: 203.0.113.9\"\r\nX-Forwarded-For: 6.6.6.6\r\n", "203.0.113.9\""),
            ("X-Forwarded-For: 6.6.6.6\r\n", "6.6.6.6"),
        ] {
            let (_, text) = line_of(
                |request| {
                    request.settings.client_ip_header = Some("True-Client-IP".to_owned());
                    request.settings.forward_headers = trusted;
                },
                &format!("GET /n HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: x\r\n{lines}\r\n"),
            )
            .await;
            let line: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&line["remote_addr"], &line["user_agent"]), (&wanted.into(), &"x".into()), "{text}");
            assert_eq!(line["client_addr"], "127.0.0.1");
        }
    }
}

// proxy-compat case 117.
#[tokio::test]
async fn every_request_has_a_line_in_the_log_with_nothing_unescaped() {
    let (mut rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    let mut connection = rig.open().await;
    connection
        .send(
            "POST /n/%1b%5B31m?q=%22 HTTP/1.1\r\nHost: shop.example.com\r\nX-Request-Id: id-1\r\n\
             X-Forwarded-For: 1.2.3.4\r\nUser-Agent: a\"\u{9b}b\r\nContent-Type: text/x\r\nContent-Length: 3\r\n\r\nabc",
        )
        .await;
    assert_eq!(connection.reply().await.status, 404);
    rig.stop();
    let line = rig.log.requests().remove(0);
    for (field, wanted) in [
        ("host", "shop.example.com"),
        ("path", "/n/\u{1b}[31m"),
        ("request_id", "id-1"),
        ("service", "shop"),
        ("target", &target.address()),
        ("method", "POST"),
        ("req_content_type", "text/x"),
        ("client_addr", "127.0.0.1"),
        ("remote_addr", "1.2.3.4"),
        ("user_agent", "a\"\u{9b}b"),
        ("proto", "HTTP/1.1"),
        ("scheme", "http"),
        ("query", "q=%22"),
    ] {
        assert_eq!(line[field], wanted, "{field}");
    }
    assert_eq!((&line["status"], &line["req_content_length"]), (&404.into(), &3.into()));
    assert_eq!(line["resp_content_length"], 12);
    assert!(line["duration"].as_u64().unwrap() > 0);
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
}

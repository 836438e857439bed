//! Traces, as a collector gets them and targets see them.

use freehold_proxy::TraceConfig;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::client::soon;
use crate::command_line::call;
use crate::metrics::wait_for;
use crate::rig::Rig;
use crate::target::Target;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn config(port: u16, per_million: u32) -> TraceConfig {
    TraceConfig {
        endpoint: format!("http://127.0.0.1:{port}/otlp/").parse().unwrap(),
        headers: vec![("x-key".to_owned(), "secret".into())],
        per_million,
    }
}

/// Takes one message of a collector's and returns its head and what is in it.
async fn take_message(listener: &TcpListener) -> (String, Value) {
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    let mut text = Vec::new();
    loop {
        let mut block = [0; 4096];
        let length = soon(stream.read(&mut block)).await.unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&block[..length]);
        let whole = String::from_utf8(text.clone()).unwrap();
        if let Some((head, body)) = whole.split_once("\r\n\r\n")
            && let Ok(message) = serde_json::from_str(body)
        {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
            return (head.to_owned(), message);
        }
    }
}

/// Returns what the target got as header.
async fn header_at_target(rig: &Rig, sent: &str) -> Option<String> {
    let mut client = rig.open().await;
    client.send(format!("GET /head HTTP/1.1\r\nHost: shop.example.com\r\n{sent}\r\n")).await;
    let text = client.reply().await.text().to_owned();
    let lines: Vec<_> =
        text.lines().filter(|line| line.to_ascii_lowercase().starts_with("traceparent")).collect();
    assert!(lines.len() < 2, "{text}");
    lines.first().and_then(|line| line.split_once(": ")).map(|(_, value)| value.to_owned())
}

fn attribute<'v>(span: &'v Value, key: &str) -> &'v Value {
    let all = span["attributes"].as_array().unwrap();
    &all.iter().find(|attribute| attribute["key"] == key).expect(key)["value"]
}

#[tokio::test]
async fn a_trace_that_a_client_began_goes_on_and_reaches_the_collector() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::tracing(config(listener.local_addr().unwrap().port(), 0));
    let target = Target::start("t").await;
    rig.deploy(&target).await;
    let sent = format!("Traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: a=b\r\n");
    let got = header_at_target(&rig, &sent).await.unwrap();
    let parts: Vec<_> = got.split('-').collect();
    assert_eq!((parts[0], parts[1], parts[3]), ("00", TRACE, "01"));
    assert_ne!(parts[2], PARENT, "the proxy's own span stands between");
    let (head, message) = take_message(&listener).await;
    assert!(
        head.starts_with("POST /otlp/v1/traces HTTP/1.1\r\n") && head.contains("x-key: secret"),
        "{head}"
    );
    let span = &message["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!((span["traceId"].as_str(), span["parentSpanId"].as_str()), (Some(TRACE), Some(PARENT)));
    assert_eq!((span["spanId"].as_str(), span["kind"].as_u64()), (Some(parts[2]), Some(2)));
    assert_eq!(attribute(span, "url.path")["stringValue"], "/head");
    assert_eq!(attribute(span, "http.response.status_code")["intValue"], "200");
    assert_eq!(attribute(span, "freehold.service")["stringValue"], "shop");
    assert_eq!(attribute(span, "freehold.target")["stringValue"], target.address());
    let nanos = |name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
    assert!(nanos("startTimeUnixNano") < nanos("endTimeUnixNano"));
    wait_for(&rig, "freehold_trace_spans_total{result=\"sent\"} 1").await;
    // What the client does not want to be recorded is not, and goes through as it is.
    let unwanted = format!("00-{TRACE}-{PARENT}-00");
    assert_eq!(header_at_target(&rig, &format!("traceparent: {unwanted}\r\n")).await, Some(unwanted));
    // Of those that nobody began, none is to be recorded here; the target hears that.
    let made = header_at_target(&rig, "traceparent: nonsense\r\n").await.unwrap();
    assert!(made.len() == 55 && made.ends_with("-00"), "{made}");
    wait_for(&rig, "freehold_trace_spans_total{result=\"sent\"} 1").await;
}

#[tokio::test]
async fn the_proxys_own_errors_are_in_the_trace_and_a_collector_that_is_away_stalls_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let rig = Rig::tracing(config(port, 1_000_000));
    let target = Target::start("t").await;
    rig.deploy(&target).await;
    assert_eq!(rig.open().await.get("/drop").await.status, 502);
    let (_, message) = take_message(&listener).await;
    let span = &message["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!(attribute(span, "error.type")["stringValue"], "target_closed");
    assert_eq!(span["status"]["code"], 2);
    drop(listener);
    for _ in 0..3 {
        assert_eq!(rig.open().await.get("/n").await.status, 200);
    }
    wait_for(&rig, "freehold_trace_spans_total{result=\"dropped\"} 3").await;
    let line = soon(async {
        loop {
            let found =
                rig.log.lines().into_iter().find(|line| line["msg"] == "Traces do not reach the collector");
            match found {
                Some(line) => return line,
                None => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    assert!(line["error"].as_str().unwrap().contains("cannot reach `127.0.0.1`"), "{line}");
}

#[tokio::test]
async fn without_a_collector_headers_go_through_as_they_are() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    let sent = format!("00-{TRACE}-{PARENT}-01");
    assert_eq!(header_at_target(&rig, &format!("traceparent: {sent}\r\n")).await, Some(sent));
    assert_eq!(header_at_target(&rig, "").await, None);
}

#[tokio::test]
async fn what_is_no_collector_is_refused() {
    for (arguments, wanted) in [
        (
            &["run", "--otlp-endpoint=ftp://x"][..],
            "`ftp://x` is not the `http` or `https` address of a collector",
        ),
        (&["run", "--otlp-endpoint=http://x", "--trace-ratio=2"], "`--trace-ratio` must be 0 to 1, not 2"),
        (&["run", "--trace-ratio=0.5"], "`--trace-ratio` needs `--otlp-endpoint`"),
    ] {
        let outcome = call(freehold_proxy::Invocation::KamalProxy, arguments, &[]).await;
        assert!(outcome.errors.contains(wanted), "{}", outcome.errors);
    }
}

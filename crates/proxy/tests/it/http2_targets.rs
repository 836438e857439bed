//! Targets that speak HTTP/2.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use freehold_wire::{DeployRequest, TargetProtocol};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::client::{LIMIT, soon};
use crate::http2::{Client, post, read};
use crate::rig::{Rig, address, name, settings};

/// A server that speaks nothing but HTTP/2.
struct Server {
    port: u16,
    connections: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&connections);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut all = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                all.spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
                    let mut requests = JoinSet::new();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        requests.spawn(answer(request, respond));
                    }
                });
            }
        });
        Self { port, connections, _tasks: tasks }
    }

    fn request(&self) -> DeployRequest {
        let mut settings = settings("shop.example.com");
        settings.target_protocol = TargetProtocol::H2c;
        settings.health_check.protocol = TargetProtocol::H2c;
        settings.health_check.interval_ms = 60_000;
        DeployRequest::new(vec![address(&format!("127.0.0.1:{}", self.port))], settings)
    }
}

fn status(status: u16) -> Response<()> {
    Response::builder().status(status).body(()).unwrap()
}

pub(crate) fn trailers(value: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(value));
    trailers
}

pub(crate) async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (head, mut body) = request.into_parts();
    match head.uri.path() {
        // gRPC's own check: a message whose field 1 is 1, which is `SERVING`.
        "/grpc.health.v1.Health/Check" => {
            let mut back = respond.send_response(status(200), false).unwrap();
            back.send_data(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]), false).unwrap();
            back.send_trailers(trailers("0")).unwrap();
        }
        "/up" => drop(respond.send_response(status(200), true).unwrap()),
        // Sends back each piece as it comes, and in the end what the client's trailers said.
        "/echo" => {
            let mut back = respond.send_response(status(200), false).unwrap();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
                back.send_data(data, false).unwrap();
            }
            let mut end = trailers("0");
            if let Ok(Some(theirs)) = body.trailers().await {
                end.extend(theirs);
            }
            back.send_trailers(end).unwrap();
        }
        "/head" => {
            let mut back = respond.send_response(status(200), false).unwrap();
            back.send_data(format!("{:?} {:?}", head.uri, head.headers).into(), true).unwrap();
        }
        "/trailers-only" => {
            let mut response = status(200);
            response.headers_mut().extend(trailers("7"));
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            respond.send_response(response, true).unwrap();
        }
        "/hints" => {
            let mut hints = status(103);
            hints.headers_mut().insert("link", HeaderValue::from_static("</a.css>"));
            respond.send_informational(hints).unwrap();
            respond.send_response(status(204), true).unwrap();
        }
        "/cut" => {
            let mut back = respond.send_response(status(200), false).unwrap();
            back.send_data(Bytes::from_static(b"only this"), false).unwrap();
            // What is sent just before a reset is not sent at all; so the client says when it has the head.
            assert!(body.data().await.is_some());
            back.send_reset(h2::Reason::INTERNAL_ERROR);
        }
        "/refuse" => respond.send_reset(h2::Reason::REFUSED_STREAM),
        _ => drop(respond.send_response(status(404), true).unwrap()),
    }
}

async fn scene() -> (Rig, Server) {
    let (rig, server) = (Rig::start(), Server::start().await);
    rig.client().await.deploy(&name("shop"), &server.request(), LIMIT).await.unwrap();
    (rig, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_either_protocol_are_served() {
    let (rig, server) = scene().await;
    let checks = server.connections.load(Ordering::SeqCst);
    let mut client = rig.open().await;
    for _ in 0..5 {
        client
            .send("POST /echo HTTP/1.1\r\nHost: shop.example.com\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        client.send("3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n").await;
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.text()), (200, "abcde"));
        assert_eq!(reply.trailers, "grpc-status: 0\r\nx-sum: 5\r\n");
    }
    let reply = client.get("/head").await;
    let text = reply.text();
    assert!(text.starts_with("http://shop.example.com/head"), "{text}");
    assert!(text.contains(r#""x-forwarded-for": "127.0.0.1""#), "{text}");
    assert!(!text.contains(r#""host""#) && !text.contains("connection"), "{text}");
    assert_eq!(client.get("/nothing").await.status, 404);
    client.send("GET /hints HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    let hints = client.head().await.unwrap();
    assert!(hints.starts_with("HTTP/1.1 103 ") && hints.contains("link: </a.css>"), "{hints}");
    assert!(client.head().await.unwrap().starts_with("HTTP/1.1 204 "));
    let mut client = Client::open(rig.port()).await;
    assert_eq!(client.send(post("/echo"), &[b"abc"], Some(trailers("5"))).await.unwrap().text(), "abc");
    // Each thread of the proxy has one connection for all of its requests.
    let made = server.connections.load(Ordering::SeqCst) - checks;
    assert!(made <= 2, "{made} connections");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_go_both_ways_piece_by_piece() {
    let (rig, _server) = scene().await;
    let client = Client::open(rig.port()).await;
    let mut requests = soon(client.requests.clone().ready()).await.unwrap();
    let (response, mut body) = requests.send_request(post("/echo"), false).unwrap();
    let mut back = soon(response).await.unwrap().into_body();
    for piece in [&b"one"[..], b"two", b"three"] {
        body.send_data(Bytes::from_static(piece), false).unwrap();
        let data = soon(back.data()).await.unwrap().unwrap();
        assert_eq!(data, piece, "each comes back before the next is sent");
        back.flow_control().release_capacity(data.len()).unwrap();
    }
    body.send_data(Bytes::new(), true).unwrap();
    assert!(soon(back.data()).await.is_none());
    assert_eq!(soon(back.trailers()).await.unwrap().unwrap().get("grpc-status").unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_go_through_whole() {
    let (rig, _server) = scene().await;
    let client = Client::open(rig.port()).await;
    let mut requests = soon(client.requests.clone().ready()).await.unwrap();
    let (response, mut body) = requests.send_request(post("/echo"), false).unwrap();
    let sum = own(async move {
        let mut sent = 0;
        for number in 0..2000_u32 {
            let piece = Bytes::from(vec![(number % 251) as u8; 1000]);
            body.reserve_capacity(piece.len());
            while body.capacity() < piece.len() {
                std::future::poll_fn(|context| body.poll_capacity(context)).await.unwrap().unwrap();
            }
            sent += piece.len();
            body.send_data(piece, false).unwrap();
        }
        body.send_data(Bytes::new(), true).unwrap();
        sent
    });
    let reply = read(soon(response).await.unwrap()).await.unwrap();
    assert_eq!(reply.body.len(), soon(sum).await.unwrap());
    assert!(
        reply
            .body
            .chunks(1000)
            .zip(0_u32..)
            .all(|(piece, number)| piece.iter().all(|byte| u32::from(*byte) == number % 251))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_of_a_target_are_what_the_client_sees() {
    let (rig, _server) = scene().await;
    let mut client = Client::open(rig.port()).await;
    let reply = client.send(post("/trailers-only"), &[b"x"], None).await.unwrap();
    assert_eq!((reply.status, reply.headers.get("grpc-status").unwrap().to_str().unwrap()), (200, "7"));
    assert!(!reply.headers.contains_key("content-length"), "{:?}", reply.headers);
    let mut requests = soon(client.requests.clone().ready()).await.unwrap();
    let (response, mut body) = requests.send_request(post("/cut"), false).unwrap();
    let response = soon(response).await.unwrap();
    body.send_data(Bytes::from_static(b"x"), true).unwrap();
    let error = soon(read(response)).await.unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
    assert_eq!(client.send(post("/refuse"), &[b"x"], None).await.unwrap().status, 502);
    assert_eq!(client.get("/up").await.status, 200, "the connection goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_target_cannot_be_told_is_not_its_fault() {
    let (mut rig, _server) = scene().await;
    let reply = rig.open().await.get("/<").await;
    assert_eq!(reply.status, 400, "{}", reply.head);
    // As much as a client may send goes through with what is added to it.
    let lines: String = (0..127).map(|number| format!("x-{number}: {}\r\n", "x".repeat(200))).collect();
    let mut client = rig.open().await;
    client.send(format!("GET /head HTTP/1.1\r\nHost: shop.example.com\r\n{lines}\r\n")).await;
    let reply = client.reply().await;
    assert_eq!(reply.status, 200, "{}", reply.head);
    assert!(reply.text().contains("\"x-126\"") && reply.text().contains("x-forwarded-for"));
    let path = format!("/head?{}", "x".repeat(31 * 1024));
    assert_eq!(rig.open().await.get(&path).await.status, 200);
    assert_eq!(rig.counters(3).await.target_errors.len(), 0);
    rig.stop();
    let lines = rig.log.requests();
    // Each thread writes its own lines.
    let refused: Vec<_> = lines.iter().filter(|line| line["status"] == 400).collect();
    assert!(refused.len() == 1 && refused[0]["reason"] == "invalid_request", "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_speaks_something_else_is_not_healthy() {
    let (rig, target) = (Rig::start(), crate::target::Target::start("t").await);
    let mut request = crate::rig::request_for(&target);
    request.settings.target_protocol = TargetProtocol::H2c;
    request.settings.health_check.protocol = TargetProtocol::H2c;
    request.deploy_timeout_ms = 300;
    let error = rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap_err();
    let text = format!("{error:?}");
    assert!(text.contains("NotHttp") || text.contains("ClosedEarly") || text.contains("not HTTP"), "{text}");
}

fn own<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    #[expect(clippy::disallowed_methods, reason = "the handle is awaited")]
    tokio::spawn(future)
}

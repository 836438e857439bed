//! HTTP/2 with clients.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use freehold_proxy::Limits;
use freehold_wire::{CertificateSource, Tls};
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Request, Response};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};

use crate::client::{LIMIT, soon};
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

/// A connection by prior knowledge.
pub(crate) struct Client {
    pub(crate) requests: SendRequest<Bytes>,
    pub(crate) driver: JoinHandle<Result<(), h2::Error>>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: HeaderMap,
}

impl Reply {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Its socket is closed, so that a proxy that stops need not wait for it.
        self.driver.abort();
    }
}

impl Client {
    pub(crate) async fn open(port: u16) -> Self {
        let socket = soon(TcpStream::connect(("127.0.0.1", port))).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self::over(socket).await
    }

    pub(crate) async fn over<S>(socket: S) -> Self
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (requests, connection) = soon(h2::client::handshake(socket)).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "the handle is kept and awaited where it matters")]
        let driver = tokio::spawn(connection);
        Self { requests, driver }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        self.send(get(path), &[], None).await.unwrap()
    }

    /// Sends a request with a body in pieces, and trailers.
    pub(crate) async fn send(
        &mut self,
        request: Request<()>,
        pieces: &[&'static [u8]],
        trailers: Option<HeaderMap>,
    ) -> Result<Reply, h2::Error> {
        let ready = soon(self.requests.clone().ready()).await;
        let mut requests = ready?;
        let ends = pieces.is_empty() && trailers.is_none();
        let (response, mut stream) = requests.send_request(request, ends)?;
        for (at, piece) in pieces.iter().enumerate() {
            stream.send_data(Bytes::from_static(piece), at + 1 == pieces.len() && trailers.is_none())?;
        }
        if let Some(trailers) = trailers {
            stream.send_trailers(trailers)?;
        }
        soon(read(response.await?)).await
    }
}

pub(crate) fn get(path: &str) -> Request<()> {
    Request::get(format!("http://shop.example.com{path}")).body(()).unwrap()
}

pub(crate) fn post(path: &str) -> Request<()> {
    Request::post(format!("http://shop.example.com{path}")).body(()).unwrap()
}

pub(crate) async fn read(response: Response<h2::RecvStream>) -> Result<Reply, h2::Error> {
    let (head, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await?.unwrap_or_default();
    Ok(Reply { status: head.status.as_u16(), headers: head.headers, body, trailers })
}

pub(crate) async fn scene() -> (Rig, Target, Client) {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    let client = Client::open(rig.port()).await;
    (rig, target, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_served_as_by_http1() {
    let (mut rig, _target, mut client) = scene().await;
    let reply = client.get("/n?a=b").await;
    assert_eq!((reply.status, reply.text()), (200, "t  /n?a=b 0 0"));
    assert!(reply.headers.contains_key("date"));
    assert!(!reply.headers.contains_key("connection"));
    let mut request = get("/head");
    let headers = request.headers_mut();
    for crumb in ["a=1", "b=2"] {
        headers.append("cookie", HeaderValue::from_static(crumb));
    }
    headers.insert("te", HeaderValue::from_static("trailers"));
    headers.insert("x-forwarded-for", HeaderValue::from_static("6.6.6.6"));
    let reply = client.send(request, &[], None).await.unwrap();
    let head = reply.text();
    assert!(head.starts_with("GET /head HTTP/1.1\r\n"), "{head}");
    for line in [
        "host: shop.example.com\r\n",
        "cookie: a=1; b=2\r\n",
        "TE: trailers\r\n",
        "X-Forwarded-For: 127.0.0.1\r\n",
        "X-Forwarded-Proto: http\r\n",
        "X-Forwarded-Host: shop.example.com\r\n",
    ] {
        assert_eq!(head.matches(line).count(), 1, "{line} in {head}");
    }
    assert_eq!(client.get("/nothing-here").await.status, 404);
    let reply =
        client.send(Request::get("http://other.example.com/").body(()).unwrap(), &[], None).await.unwrap();
    assert_eq!((reply.status, reply.text().contains("<h1>Not Found</h1>")), (404, true));
    drop(client);
    rig.stop();
    let lines = rig.log.requests();
    assert!(lines.iter().all(|line| line["proto"] == "HTTP/2.0"), "{lines:?}");
    assert_eq!(lines[0]["query"], "a=b");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_go_both_ways_with_their_trailers() {
    let (_rig, _target, mut client) = scene().await;
    let reply = client.send(post("/n"), &[b"abc", b"", b"de"], None).await.unwrap();
    assert_eq!(reply.text(), "t  /n 5 495");
    let mut sized = post("/n");
    sized.headers_mut().insert("content-length", HeaderValue::from_static("5"));
    assert_eq!(client.send(sized, &[b"abc", b"de"], None).await.unwrap().text(), "t  /n 5 495");
    assert_eq!(client.send(post("/n"), &[b""], None).await.unwrap().text(), "t  /n 0 0");
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("5"));
    trailers.insert("content-range", HeaderValue::from_static("no trailer"));
    let reply = client.send(post("/head"), &[b"abcde"], Some(trailers)).await.unwrap();
    assert!(reply.text().contains("trailer x-sum: 5\r\n"), "{}", reply.text());
    assert!(!reply.text().contains("content-range"), "{}", reply.text());
    let reply = client.get("/chunked").await;
    assert_eq!(reply.text(), "hello world");
    assert_eq!(reply.trailers.get("x-sum").unwrap(), "11");
    assert!(!reply.headers.contains_key("transfer-encoding"));
    assert_eq!(client.get("/until-close").await.text(), "until the end");
    let reply = client.send(Request::head("http://shop.example.com/n").body(()).unwrap(), &[], None).await;
    let reply = reply.unwrap();
    assert_eq!(
        (reply.headers.get("content-length").unwrap(), reply.text()),
        (&HeaderValue::from_static("9"), "")
    );
    assert_eq!(client.get("/large").await.body.len(), 200_000);
}

/// Opens an encrypted connection on which HTTP/2 was agreed on, if the client offers it.
async fn agree(port: u16, offered: &[&[u8]]) -> tokio_rustls::client::TlsStream<TcpStream> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certificates/first.crt");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&fs_err::read(path).unwrap()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
    let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = ServerName::try_from("shop.example.com").unwrap();
    soon(tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket)).await.unwrap()
}

fn tls() -> Tls {
    let path = |file| format!("{}/tests/certificates/first.{file}", env!("CARGO_MANIFEST_DIR"));
    let certificate =
        CertificateSource::Files { certificate_path: path("crt"), private_key_path: path("key") };
    Tls { certificate, redirect: true, clients: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encrypted_connections_agree_on_it() {
    let (mut rig, target) = (Rig::start(), Target::start("t").await);
    let mut request = request_for(&target);
    request.settings.tls = Some(tls());
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let stream = agree(rig.https_port(), &[b"http/1.1", b"h2"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut client = Client::over(stream).await;
    let mut request = get("/head");
    *request.uri_mut() = "https://shop.example.com/head".parse().unwrap();
    let reply = client.send(request, &[], None).await.unwrap();
    assert!(reply.text().contains("X-Forwarded-Proto: https\r\n"), "{}", reply.text());
    let mut request = get("/large");
    *request.uri_mut() = "https://shop.example.com/large".parse().unwrap();
    assert_eq!(client.send(request, &[], None).await.unwrap().body.len(), 200_000);
    for (offered, agreed) in [(&[&b"http/1.1"[..]][..], Some(&b"http/1.1"[..])), (&[], None)] {
        assert_eq!(agree(rig.https_port(), offered).await.get_ref().1.alpn_protocol(), agreed);
    }
    // Without TLS the whole service is redirected, by either protocol.
    let mut plain = Client::open(rig.port()).await;
    let reply = plain.get("/n").await;
    assert_eq!(reply.status, 301);
    assert_eq!(reply.headers.get("location").unwrap(), "https://shop.example.com/n");
    drop((client, plain));
    rig.stop();
    let lines = rig.log.requests();
    let https: Vec<_> = lines.iter().filter(|line| line["scheme"] == "https").collect();
    assert!(https.len() == 2 && https.iter().all(|line| line["proto"] == "HTTP/2.0"), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_go_side_by_side() {
    let (_rig, target, mut client) = scene().await;
    let mut waiting = JoinSet::new();
    for _ in 0..100 {
        let mut requests = soon(client.requests.clone().ready()).await.unwrap();
        let (response, _) = requests.send_request(get("/gate"), true).unwrap();
        waiting.spawn(async move { read(response.await?).await });
    }
    target.wait_for_waiting(100).await;
    assert_eq!(client.get("/n").await.status, 200, "others are not held up");
    target.open_gate();
    while let Some(reply) = soon(waiting.join_next()).await {
        assert_eq!(reply.unwrap().unwrap().text(), "t");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_was_cut_is_reset() {
    let (_rig, _target, mut client) = scene().await;
    for path in ["/cut", "/cut-chunked"] {
        let error = client.send(get(path), &[], None).await.unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR), "{path}");
    }
    assert_eq!(client.get("/drop").await.status, 502);
    assert_eq!(client.get("/n").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interim_answers_and_early_ones_go_through() {
    let (_rig, _target, client) = scene().await;
    let mut requests = soon(client.requests.clone().ready()).await.unwrap();
    let (mut response, _) = requests.send_request(get("/hints"), true).unwrap();
    let hints = soon(std::future::poll_fn(|context| response.poll_informational(context))).await;
    let hints = hints.unwrap().unwrap();
    assert_eq!(hints.status(), 103);
    assert_eq!(hints.headers().get("link").unwrap(), "</a.css>");
    assert_eq!(read(soon(response).await.unwrap()).await.unwrap().text(), "hinted");
    // The client waits until it may go on.
    let mut request = post("/n");
    request.headers_mut().insert("expect", HeaderValue::from_static("100-continue"));
    let (mut response, mut body) =
        requests.clone().ready().await.unwrap().send_request(request, false).unwrap();
    let go_on = soon(std::future::poll_fn(|context| response.poll_informational(context))).await;
    assert_eq!(go_on.unwrap().unwrap().status().as_u16(), 100);
    body.send_data(Bytes::from_static(b"abc"), true).unwrap();
    assert_eq!(read(soon(response).await.unwrap()).await.unwrap().text(), "t  /n 3 294");
    // The answer comes before the body, which is not wanted then.
    let (response, mut body) = requests.send_request(post("/early"), false).unwrap();
    let reply = read(soon(response).await.unwrap()).await.unwrap();
    assert_eq!((reply.status, reply.text()), (413, "too much"));
    let reset = soon(std::future::poll_fn(|context| body.poll_reset(context))).await.unwrap();
    assert_eq!(reset, h2::Reason::NO_ERROR);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_cancels_ends_the_exchange() {
    let (rig, target, mut client) = scene().await;
    let mut requests = soon(client.requests.clone().ready()).await.unwrap();
    let (response, mut body) = requests.send_request(get("/gate"), true).unwrap();
    target.wait_for_waiting(1).await;
    body.send_reset(h2::Reason::CANCEL);
    drop(response);
    rig.wait_for(|status| status.in_flight.requests == 0).await;
    assert_eq!(client.get("/n").await.status, 200, "the others go on");
    assert_eq!(rig.counters(2).await.responses_2xx, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_stops_takes_nothing_new_and_ends_what_has_begun() {
    let (mut rig, target, client) = scene().await;
    let mut requests = soon(client.requests.clone().ready()).await.unwrap();
    let (response, _) = requests.send_request(get("/gate"), true).unwrap();
    target.wait_for_waiting(1).await;
    let server = rig.begin_stop();
    // The proxy says that it takes no more.
    let refused = soon(async {
        loop {
            let mut requests = match client.requests.clone().ready().await {
                Ok(requests) => requests,
                Err(error) => return error,
            };
            let (response, _) = requests.send_request(get("/n"), true).unwrap();
            if let Err(error) = response.await {
                return error;
            }
        }
    })
    .await;
    assert!(refused.is_go_away() && refused.reason() == Some(h2::Reason::NO_ERROR), "{refused}");
    target.open_gate();
    assert_eq!(read(soon(response).await.unwrap()).await.unwrap().text(), "t");
    soon(tokio::task::spawn_blocking(move || server.join())).await.unwrap();
    drop(client);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_nothing_holds_up_nobody_else() {
    let (_rig, target, mut client) = scene().await;
    let mut requests = soon(client.requests.clone().ready()).await.unwrap();
    // 100 MB of which the client lets come 64 KB.
    let (response, _) = requests.send_request(get("/huge"), true).unwrap();
    let slow = soon(response).await.unwrap();
    let mut other = Client::open(_rig.port()).await;
    assert_eq!(other.get("/n").await.status, 200);
    assert!(_rig.status().await.in_flight.requests > 0, "the rest waits at the target");
    drop(slow);
    _rig.wait_for(|status| status.in_flight.requests == 0).await;
    assert_eq!(client.get("/n").await.status, 200);
    assert!(target.requests() >= 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_hold() {
    let short = Duration::from_millis(300);
    let limits = Limits {
        idle: short,
        head: short,
        upload: short,
        stalled_client: short,
        linger: short,
        ..Limits::default()
    };
    let (rig, target) = (Rig::with_limits(limits), Target::start("t").await);
    rig.deploy(&target).await;
    // Nothing is asked for.
    let mut idle = Client::open(rig.port()).await;
    let ended = soon(&mut idle.driver).await.unwrap();
    assert!(
        ended.as_ref().map_or_else(|error| error.reason() == Some(h2::Reason::NO_ERROR), |()| true),
        "{ended:?}"
    );
    // A body does not come.
    let client = Client::open(rig.port()).await;
    let mut requests = soon(client.requests.clone().ready()).await.unwrap();
    let (response, _body) = requests.send_request(post("/n"), false).unwrap();
    let reply = read(soon(response).await.unwrap()).await.unwrap();
    assert_eq!(reply.status, 408);
    // An answer is not taken.
    let (response, _) = requests.send_request(get("/huge"), true).unwrap();
    let mut body = soon(response).await.unwrap().into_body();
    let error = soon(async {
        loop {
            match body.data().await.expect("it does not end well") {
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    })
    .await;
    assert!(error.is_reset() || error.is_go_away(), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_reads_nothing_holds_the_client_up() {
    const LENGTH: usize = 64 * 1024 * 1024;
    let (rig, target, client) = scene().await;
    let mut requests = soon(client.requests.clone().ready()).await.unwrap();
    let (response, mut body) = requests.send_request(post("/unread"), false).unwrap();
    target.wait_for_waiting(1).await;
    let (mut sent, mut was_held_up) = (0, false);
    while sent < LENGTH {
        body.reserve_capacity(1024 * 1024);
        let room = std::future::poll_fn(|context| body.poll_capacity(context));
        // What is not given in that time waits for the target.
        match tokio::time::timeout(Duration::from_millis(500), room).await {
            Ok(_) => {
                let piece = Bytes::from(vec![0; body.capacity().min(LENGTH - sent)]);
                sent += piece.len();
                body.send_data(piece, sent == LENGTH).unwrap();
            }
            Err(_) => {
                assert!(!was_held_up, "it goes on when the target reads");
                assert!(sent < LENGTH / 2, "{sent} bytes were taken");
                was_held_up = true;
                // Others are not held up: the window of the connection has room for them.
                let mut other = client.requests.clone();
                let (response, _) = other.send_request(get("/n"), true).unwrap();
                assert_eq!(read(soon(response).await.unwrap()).await.unwrap().status, 200);
                target.open_gate();
            }
        }
    }
    assert!(was_held_up);
    let reply = read(soon(response).await.unwrap()).await.unwrap();
    assert_eq!(reply.text(), format!("t  /unread {LENGTH} 0"));
    drop(rig);
}

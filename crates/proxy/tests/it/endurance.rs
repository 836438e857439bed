//! A hundred thousand requests while everything around them changes: none may fail, except what a crash had in its hands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use freehold_wire::{DeployRequest, Gate, GateRequest, ProxyClient, UpgradeRequest};
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{Connection, LIMIT, soon};
use crate::command_line::client_of;
use crate::encrypted::{Files, client};
use crate::http2;
use crate::pebble::free_port;
use crate::process::Process;
use crate::rig::{address, name, settings};
use crate::target::Target;

const REQUESTS: u64 = 100_000;
const CLIENTS: usize = 16;
/// As many again come by HTTP/2.
const ENCRYPTED_CLIENTS: usize = 2;
const SWITCHES: u64 = 100;

/// What the clients share.
#[derive(Debug, Default)]
struct Tally {
    done: AtomicU64,
    /// Answered 502, or not at all, while their target crashed.
    crashed: AtomicU64,
    /// Sent again because nobody listened, or the connection was closed before the request was read.
    again: AtomicU64,
    /// Whether the proxy is being stopped and started, so that nobody listens for a moment.
    is_restarting: AtomicBool,
    over: AtomicBool,
}

/// Sends requests one after the other, every fifth with a body, until it is over.
async fn send_requests(port: u16, tally: Arc<Tally>) {
    let (mut connection, mut number) = (None, 0_u64);
    while !tally.over.load(Ordering::SeqCst) {
        number += 1;
        let text = match number % 5 {
            0 => "POST /n HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 3\r\n\r\nabc",
            _ => "GET /n HTTP/1.1\r\nHost: shop.example.com\r\n\r\n",
        };
        // Asked before the request goes out: one that is sent afterwards has no excuse.
        let may_be_sent_again = tally.is_restarting.load(Ordering::SeqCst);
        let mut open = match connection.take() {
            Some(open) => open,
            None => match tokio::net::TcpStream::connect(("127.0.0.1", port)).await {
                Ok(stream) => Connection { stream: tokio::io::BufReader::new(stream) },
                Err(error) => {
                    assert!(may_be_sent_again || tally.is_restarting.load(Ordering::SeqCst), "{error}");
                    tally.again.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    continue;
                }
            },
        };
        let sent = open.stream.get_mut().write_all(text.as_bytes()).await;
        let reply = if sent.is_ok() { soon(open.try_reply("GET")).await } else { None };
        match reply {
            Some(reply) if reply.status == 200 => {
                tally.done.fetch_add(1, Ordering::SeqCst);
                if reply.header("connection") != Some("close") {
                    connection = Some(open);
                }
            }
            Some(reply) => {
                assert_eq!(reply.status, 502, "{}", reply.head);
                tally.crashed.fetch_add(1, Ordering::SeqCst);
            }
            None => {
                let is_excused = may_be_sent_again || tally.is_restarting.load(Ordering::SeqCst);
                assert!(is_excused, "a connection was closed instead of an answer");
                tally.again.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// Waits a moment where nobody listens, which only a restart excuses.
async fn wait_for_the_restart(tally: &Tally, may_fail: bool, error: &(dyn std::fmt::Display + Sync)) {
    assert!(may_fail || tally.is_restarting.load(Ordering::SeqCst), "{error}");
    tally.again.fetch_add(1, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(2)).await;
}

async fn agree(port: u16, protocol: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut config = client("first");
    config.alpn_protocols = vec![protocol.to_vec()];
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.set_nodelay(true)?;
    let server = ServerName::try_from("shop.example.com").unwrap();
    soon(TlsConnector::from(Arc::new(config)).connect(server, socket)).await
}

/// Notes a status.
fn note(tally: &Tally, status: u16) {
    match status {
        200 => tally.done.fetch_add(1, Ordering::SeqCst),
        status => {
            assert_eq!(status, 502);
            tally.crashed.fetch_add(1, Ordering::SeqCst)
        }
    };
}

/// Reads an answer of known length: its status, and whether the connection ends behind it.
async fn read_answer(stream: &mut TlsStream<TcpStream>) -> Option<(u16, bool)> {
    let mut received = Vec::new();
    loop {
        if stream.read_buf(&mut received).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&received);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length: usize = head.split("Content-Length: ").nth(1)?.split("\r\n").next()?.parse().ok()?;
        if body.len() >= length {
            let status = head.split(' ').nth(1)?.parse().ok()?;
            return Some((status, head.contains("Connection: close")));
        }
    }
}

/// Sends requests over encrypted connections, one after the other, until it is over.
async fn send_encrypted(port: u16, tally: Arc<Tally>) {
    let mut connection = None;
    while !tally.over.load(Ordering::SeqCst) {
        let may_fail = tally.is_restarting.load(Ordering::SeqCst);
        let mut open = match connection.take() {
            Some(open) => open,
            None => match agree(port, b"http/1.1").await {
                Ok(stream) => stream,
                Err(error) => {
                    wait_for_the_restart(&tally, may_fail, &error).await;
                    continue;
                }
            },
        };
        let sent = open.write_all(b"GET /n HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
        let answer = if sent.is_ok() { soon(read_answer(&mut open)).await } else { None };
        match answer {
            Some((status, is_last)) => {
                note(&tally, status);
                connection = (!is_last && status == 200).then_some(open);
            }
            None => wait_for_the_restart(&tally, may_fail, &"closed instead of an answer").await,
        }
    }
}

/// Sends requests by HTTP/2 over encrypted connections, until it is over.
async fn send_by_http2(port: u16, tally: Arc<Tally>) {
    let mut connection: Option<http2::Client> = None;
    while !tally.over.load(Ordering::SeqCst) {
        let may_fail = tally.is_restarting.load(Ordering::SeqCst);
        let mut open = match connection.take() {
            Some(open) => open,
            None => match agree(port, b"h2").await {
                Ok(stream) => http2::Client::over(stream).await,
                Err(error) => {
                    wait_for_the_restart(&tally, may_fail, &error).await;
                    continue;
                }
            },
        };
        if soon(open.requests.clone().ready()).await.is_err() {
            // The proxy has said that it takes no further one on this connection.
            continue;
        }
        match open.send(http2::get("/n"), &[], None).await {
            Ok(reply) => {
                note(&tally, reply.status);
                connection = Some(open);
            }
            // Refused before anything was done: to be sent again (RFC 9113, section 8.7).
            Err(error) if error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM) => {
                tally.again.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => wait_for_the_restart(&tally, may_fail, &error).await,
        }
    }
}

/// The proxy in processes of its own, and what is behind it.
struct Course {
    folder: TempDir,
    first: Option<Process>,
    port: u16,
    https_port: u16,
    files: Files,
    targets: Vec<Target>,
    tally: Arc<Tally>,
    log: String,
}

impl Course {
    async fn client(&self) -> ProxyClient {
        client_of(self.folder.path()).await
    }

    /// Deploys two targets in the place of those before.
    async fn switch(&mut self) {
        let fresh = vec![Target::start("a").await, Target::start("b").await];
        let addresses = fresh.iter().map(|target| address(&target.address())).collect();
        let mut request = DeployRequest::new(addresses, settings("shop.example.com"));
        request.settings.tls = Some(self.files.tls(false));
        self.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
        for target in std::mem::replace(&mut self.targets, fresh) {
            target.stop().await;
        }
    }

    async fn pause(&self) {
        self.set_gate(Gate::Paused { max_pause_ms: 20_000 }).await;
        self.set_gate(Gate::Open).await;
    }

    async fn set_gate(&self, gate: Gate) {
        let request = GateRequest { gate, drain_timeout_ms: 10_000, fence: None };
        self.client().await.set_gate(&name("shop"), &request, LIMIT).await.unwrap();
    }

    /// Lets one of the two targets end with all that it has in its hands.
    async fn crash(&mut self) {
        self.targets.pop().unwrap().stop().await;
    }

    async fn upgrade(&self) {
        let request = UpgradeRequest { executable: None, drain_timeout_ms: 10_000 };
        self.client().await.upgrade(&request, LIMIT).await.unwrap();
    }

    /// Hands over in the midst of a pause, and lets the new process end it.
    async fn upgrade_in_a_pause(&self) {
        self.set_gate(Gate::Paused { max_pause_ms: 20_000 }).await;
        self.upgrade().await;
        self.set_gate(Gate::Open).await;
    }

    /// Stops the proxy in good order, or kills it, and starts it again with its state.
    async fn restart(&mut self, is_killed: bool) {
        self.tally.is_restarting.store(true, Ordering::SeqCst);
        match is_killed {
            true => self.log += &self.first.take().unwrap().kill().await,
            false => self.end().await,
        }
        let https_port = format!("--https-port={}", self.https_port);
        self.first = Some(Process::start_with(self.folder.path(), self.port, &[&https_port]));
        self.client().await;
        self.tally.is_restarting.store(false, Ordering::SeqCst);
    }

    async fn end(&mut self) {
        self.log += &self.first.take().unwrap().end().await;
    }

    async fn wait_for(&self, requests: u64) {
        while self.tally.done.load(Ordering::SeqCst) < requests {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_everything_changes() {
    let folder = tempfile::tempdir().unwrap();
    let https_port = free_port();
    let first = Process::start_with(folder.path(), 0, &[&format!("--https-port={https_port}")]);
    let port = client_of(folder.path()).await.version(LIMIT).await.unwrap().http_port;
    let tally = Arc::new(Tally::default());
    let mut course = Course {
        folder,
        first: Some(first),
        port,
        https_port,
        files: Files::new("first"),
        targets: Vec::new(),
        tally: Arc::clone(&tally),
        log: String::new(),
    };
    course.switch().await;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(send_requests(port, Arc::clone(&tally)));
    }
    for _ in 0..ENCRYPTED_CLIENTS {
        clients.spawn(send_encrypted(https_port, Arc::clone(&tally)));
        clients.spawn(send_by_http2(https_port, Arc::clone(&tally)));
    }
    let events = async {
        let (mut pauses, mut crashes, mut upgrades) = (0, 0, 0);
        for number in 0..SWITCHES {
            course.wait_for(number * REQUESTS / SWITCHES).await;
            match number % 10 {
                3 | 7 => {
                    course.pause().await;
                    pauses += 1;
                }
                5 => {
                    course.crash().await;
                    crashes += 1;
                }
                8 => {
                    match number % 20 {
                        8 => course.upgrade_in_a_pause().await,
                        _ => course.upgrade().await,
                    }
                    upgrades += 1;
                }
                _ if number == 50 => course.restart(false).await,
                // Its lines about a crash were written long ago.
                _ if number == 72 => course.restart(true).await,
                _ => {}
            }
            course.switch().await;
        }
        course.wait_for(REQUESTS).await;
        assert_eq!((pauses, crashes, upgrades), (20, 10, 10));
    };
    tokio::select! {
        () = events => {}
        Some(ended) = clients.join_next() => panic!("a client has ended: {ended:?}"),
    }
    tally.over.store(true, Ordering::SeqCst);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    course.end().await;
    let reasons: Vec<&str> = course.log.lines().filter(|line| line.contains("\"status\":502")).collect();
    let [done, crashed, again] =
        [&tally.done, &tally.crashed, &tally.again].map(|count| count.load(Ordering::SeqCst));
    println!("{done} answered, {crashed} lost by crashes, {again} sent again around the restart");
    assert!(done >= REQUESTS);
    assert!(crashed <= 10 * (CLIENTS + 2 * ENCRYPTED_CLIENTS) as u64, "{crashed}");
    // Each of them is in the log, as one whose target has died with it.
    assert_eq!(reasons.len() as u64, crashed, "{reasons:#?}");
    for line in reasons {
        assert!(line.contains("\"reason\":\"target_closed\""), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_streams_survive_an_upgrade_until_the_deadline() {
    const SOCKETS: usize = 200;
    const STREAMS: usize = 50;
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start("t").await);
    let first = Process::start(folder.path(), 0);
    let mut client = client_of(folder.path()).await;
    let port = client.version(LIMIT).await.unwrap().http_port;
    let request = DeployRequest::new(vec![address(&target.address())], settings("shop.example.com"));
    client.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let (mut sockets, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..SOCKETS {
        let mut socket = Connection::open(port).await;
        socket.send("GET /socket HTTP/1.1\r\nHost: shop.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
        assert_eq!(socket.reply().await.status, 101);
        sockets.push(socket);
    }
    for _ in 0..STREAMS {
        let mut stream = Connection::open(port).await;
        stream.send("GET /pieces-gate?text/event-stream HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
        soon(stream.head()).await.unwrap();
        assert_eq!(soon(stream.chunk()).await.unwrap(), b"first");
        streams.push(stream);
    }
    let deadline = Duration::from_secs(4);
    let started = std::time::Instant::now();
    let drain_timeout_ms = u64::try_from(deadline.as_millis()).unwrap();
    client.upgrade(&UpgradeRequest { executable: None, drain_timeout_ms }, LIMIT).await.unwrap();
    let mut client = client_of(folder.path()).await;
    assert_eq!(Connection::open(port).await.get("/n").await.status, 200);
    for socket in &mut sockets {
        socket.send(b"after").await;
        let mut back = [0; 5];
        soon(socket.stream.read_exact(&mut back)).await.unwrap();
        assert_eq!(&back, b"after");
    }
    target.open_gate();
    for stream in &mut streams {
        assert_eq!(soon(stream.chunk()).await.unwrap(), b"-last");
        assert!(soon(stream.chunk()).await.unwrap().is_empty(), "the end");
    }
    assert!(started.elapsed() < deadline, "the machine is too slow for this test: {:?}", started.elapsed());
    for socket in &mut sockets {
        assert!(socket.is_closed().await);
    }
    assert!(started.elapsed() >= deadline, "{:?}", started.elapsed());
    assert_eq!(client.services(LIMIT).await.unwrap().len(), 1);
    first.end().await;
}

//! A hundred thousand requests while everything around them changes: none may fail, except what a crash had in its hands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use freehold_wire::{DeployRequest, Gate, GateRequest, ProxyClient, UpgradeRequest};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use crate::client::{Connection, LIMIT, soon};
use crate::command_line::client_of;
use crate::process::Process;
use crate::rig::{address, name, settings};
use crate::target::Target;

const REQUESTS: u64 = 100_000;
const CLIENTS: usize = 16;
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
        use tokio::io::AsyncWriteExt;
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

/// The proxy in processes of its own, and what is behind it.
struct Course {
    folder: TempDir,
    first: Option<Process>,
    port: u16,
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
        let request = DeployRequest::new(addresses, settings("shop.example.com"));
        self.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
        for target in std::mem::replace(&mut self.targets, fresh) {
            target.stop().await;
        }
    }

    async fn pause(&self) {
        let mut client = self.client().await;
        for gate in [Gate::Paused { max_pause_ms: 20_000 }, Gate::Open] {
            let request = GateRequest { gate, drain_timeout_ms: 10_000, fence: None };
            client.set_gate(&name("shop"), &request, LIMIT).await.unwrap();
        }
    }

    /// Lets one of the two targets end with all that it has in its hands.
    async fn crash(&mut self) {
        self.targets.pop().unwrap().stop().await;
    }

    async fn upgrade(&self) {
        let request = UpgradeRequest { executable: None, drain_timeout_ms: 10_000 };
        self.client().await.upgrade(&request, LIMIT).await.unwrap();
    }

    /// Stops the proxy and starts it again with its state.
    async fn restart(&mut self) {
        self.tally.is_restarting.store(true, Ordering::SeqCst);
        self.end().await;
        self.first = Some(Process::start(self.folder.path(), self.port));
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
    let first = Process::start(folder.path(), 0);
    let port = client_of(folder.path()).await.version(LIMIT).await.unwrap().http_port;
    let tally = Arc::new(Tally::default());
    let mut course = Course {
        folder,
        first: Some(first),
        port,
        targets: Vec::new(),
        tally: Arc::clone(&tally),
        log: String::new(),
    };
    course.switch().await;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(send_requests(port, Arc::clone(&tally)));
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
                    course.upgrade().await;
                    upgrades += 1;
                }
                _ if number == 50 => course.restart().await,
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
    assert!(crashed <= 10 * CLIENTS as u64, "{crashed}");
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

//! A target whose answers a test chooses by the path it asks for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A running target; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) port: u16,
    pub(crate) shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

/// What tests see and direct.
#[derive(Debug)]
pub(crate) struct Shared {
    name: String,
    /// The status of `/up`.
    pub(crate) health: AtomicU16,
    /// Connections accepted.
    pub(crate) connections: AtomicU64,
    /// Requests read to their end.
    pub(crate) requests: AtomicU64,
    /// Requests that wait at the gate.
    waiting: watch::Sender<u64>,
    /// Whether requests at the gate go on.
    open: watch::Sender<bool>,
    /// The requests for `/allow`, line and head.
    pub(crate) questions: Mutex<Vec<String>>,
}

struct Request {
    line: String,
    head: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Target {
    pub(crate) async fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(name, listener)
    }

    pub(crate) fn on(name: &str, listener: TcpListener) -> Self {
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            health: AtomicU16::new(200),
            connections: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            waiting: watch::Sender::new(0),
            open: watch::Sender::new(false),
            questions: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Self { port, shared, tasks }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How many requests wait at the gate.
    pub(crate) fn waiting(&self) -> u64 {
        *self.shared.waiting.borrow()
    }

    /// Waits until so many requests wait at the gate.
    pub(crate) async fn wait_for_waiting(&self, count: u64) {
        let mut waiting = self.shared.waiting.subscribe();
        crate::client::soon(waiting.wait_for(|waiting| *waiting == count)).await.unwrap();
    }

    pub(crate) fn open_gate(&self) {
        self.shared.open.send_replace(true);
    }

    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub(crate) async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            stream.set_nodelay(true).unwrap();
            let mut stream = BufReader::new(stream);
            // A connection ends when the proxy ends it, or when an answer wants it.
            while serve(&mut stream, &shared).await.is_some() {}
        });
    }
}

async fn read_head(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut request =
        Request { line: String::new(), head: String::new(), headers: BTreeMap::new(), body: Vec::new() };
    stream.read_line(&mut request.line).await.ok().filter(|length| *length > 0)?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
        if line == "\r\n" {
            return Some(request);
        }
        let (name, value) = line.split_once(':').unwrap();
        request.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        request.head.push_str(&line);
    }
}

async fn read_body(stream: &mut BufReader<TcpStream>, request: &mut Request) -> Option<()> {
    if let Some(length) = request.headers.get("content-length") {
        request.body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut request.body).await.ok()?;
    } else if request.headers.contains_key("transfer-encoding") {
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
            let size = usize::from_str_radix(line.trim(), 16).unwrap();
            if size == 0 {
                break;
            }
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).await.ok()?;
            request.body.extend_from_slice(&chunk[..size]);
        }
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
            if line == "\r\n" {
                break;
            }
            request.head.push_str(&format!("trailer {line}"));
        }
    }
    Some(())
}

async fn say(stream: &mut BufReader<TcpStream>, text: impl AsRef<[u8]>) -> Option<()> {
    stream.get_mut().write_all(text.as_ref()).await.ok()
}

async fn answer(stream: &mut BufReader<TcpStream>, status: &str, body: &str) -> Option<()> {
    say(stream, format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await
}

/// Answers one request; none where the connection is to be closed.
async fn serve(stream: &mut BufReader<TcpStream>, shared: &Shared) -> Option<()> {
    let mut request = read_head(stream).await?;
    let path = request.line.split(' ').nth(1).unwrap().to_owned();
    let route = path.split('?').next().unwrap().to_owned();
    if route == "/early" {
        // The answer comes before the body was read; then the connection is closed.
        say(stream, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\n\r\ntoo much").await?;
        return None;
    }
    if route == "/unread" {
        // The body stays where it is until the gate opens.
        shared.waiting.send_modify(|waiting| *waiting += 1);
        shared.open.subscribe().wait_for(|open| *open).await.ok()?;
    }
    if route == "/continue" {
        say(stream, "HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    read_body(stream, &mut request).await?;
    shared.requests.fetch_add(1, Ordering::SeqCst);
    match route.as_str() {
        "/up" => {
            let status = shared.health.load(Ordering::SeqCst);
            answer(stream, &format!("{status} Whatever"), "").await
        }
        "/gate" => {
            shared.waiting.send_modify(|waiting| *waiting += 1);
            let opened = shared.open.subscribe().wait_for(|open| *open).await.is_ok();
            shared.waiting.send_modify(|waiting| *waiting -= 1);
            assert!(opened);
            answer(stream, "200 OK", &shared.name).await
        }
        "/half-gate" | "/whole-gate" | "/pieces-gate" => in_two(stream, shared, &route, &path).await,
        "/allow" => {
            shared.questions.lock().push(format!("{}{}", request.line, request.head));
            if path.contains("host=shop.example.com") {
                return answer(stream, "200 OK", "").await;
            }
            answer(stream, "403 Forbidden", &"x".repeat(500)).await
        }
        "/head" => answer(stream, "200 OK", &format!("{}{}", request.line, request.head)).await,
        "/huge" => {
            say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n").await?;
            let block = vec![b'x'; 1_000_000];
            for _ in 0..100 {
                say(stream, &block).await?;
            }
            Some(())
        }
        "/raw" => {
            // The answer is what the request's body says.
            say(stream, &request.body).await?;
            None
        }
        "/socket" => tunnel(stream, &request).await,
        "/n" | "/" | "/unread" => number(stream, shared, &request, &path).await,
        other => oddity(stream, other).await,
    }
}

/// Answers in two parts, between which it waits at the gate; the query is the kind of the body.
async fn in_two(stream: &mut BufReader<TcpStream>, shared: &Shared, route: &str, path: &str) -> Option<()> {
    let kind = path.split_once('?').map_or(String::new(), |(_, kind)| format!("Content-Type: {kind}\r\n"));
    let (head, last) = match route {
        "/pieces-gate" => {
            ("200 OK\r\nTransfer-Encoding: chunked\r\n", ("5\r\nfirst\r\n", "5\r\n-last\r\n0\r\n\r\n"))
        }
        "/whole-gate" => ("302 Found\r\nLocation: /x\r\nContent-Length: 10\r\n", ("first", "-last")),
        _ => ("200 OK\r\nContent-Length: 10\r\n", ("first", "-last")),
    };
    say(stream, format!("HTTP/1.1 {head}{kind}\r\n{}", last.0)).await?;
    shared.waiting.send_modify(|waiting| *waiting += 1);
    shared.open.subscribe().wait_for(|open| *open).await.ok()?;
    say(stream, last.1).await
}

/// Tells the request's number, path, length and sum of bytes.
async fn number(
    stream: &mut BufReader<TcpStream>,
    shared: &Shared,
    request: &Request,
    path: &str,
) -> Option<()> {
    let number = request.headers.get("x-number").cloned().unwrap_or_default();
    let sum: u64 = request.body.iter().map(|byte| u64::from(*byte)).sum();
    let body = format!("{} {number} {path} {} {sum}", shared.name, request.body.len());
    if request.line.starts_with("HEAD") {
        return say(stream, format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())).await;
    }
    answer(stream, "200 OK", &body).await
}

/// Answers as servers do that end or frame their answers in unusual ways.
async fn oddity(stream: &mut BufReader<TcpStream>, route: &str) -> Option<()> {
    match route {
        "/chunked" => {
            say(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n").await?;
            say(stream, "5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 11\r\n\r\n").await
        }
        "/until-close" => {
            say(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end").await?;
            None
        }
        "/close" => {
            say(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbye").await?;
            None
        }
        "/close-silently" => {
            answer(stream, "200 OK", "bye").await?;
            None
        }
        "/drop" => None,
        "/cut" => {
            say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this").await?;
            None
        }
        "/cut-chunked" => {
            say(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n").await?;
            None
        }
        "/extra" => {
            say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n").await
        }
        "/hints" => {
            say(stream, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").await?;
            answer(stream, "200 OK", "hinted").await
        }
        "/moved" => say(stream, "HTTP/1.1 302 Found\r\nLocation: /n\r\nContent-Length: 0\r\n\r\n").await,
        "/created" => {
            say(
                stream,
                "HTTP/1.1 201 Created\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n\r\ncreated!",
            )
            .await
        }
        "/large" => {
            let body = "0123456789abcdef".repeat(200_000 / 16);
            answer(stream, "200 OK", &body).await
        }
        other => answer(stream, "404 Not Found", other).await,
    }
}

/// Upgrades and sends back whatever comes, until the end.
async fn tunnel(stream: &mut BufReader<TcpStream>, request: &Request) -> Option<()> {
    let Some(protocol) = request.headers.get("upgrade") else {
        return answer(stream, "426 Upgrade Required", "").await;
    };
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade";
    say(stream, format!("{head}\r\nUpgrade: {protocol}\r\n\r\n")).await?;
    loop {
        let block = stream.fill_buf().await.ok()?.to_vec();
        if block.is_empty() {
            say(stream, "<end>").await?;
            return None;
        }
        stream.consume(block.len());
        say(stream, block).await?;
    }
}

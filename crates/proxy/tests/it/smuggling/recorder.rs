//! A target that takes down what proxies forward to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request as it came here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) head: Vec<u8>,
    body: Vec<u8>,
}

impl Seen {
    /// Returns the method, the path and the body.
    pub(super) fn summary(&self) -> String {
        let line = self.head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let line = line.rsplit_once(' ').map_or(&*line, |(first, _)| first);
        format!("{line} {:?}", String::from_utf8_lossy(&self.body))
    }
}

type ByCase = Arc<Mutex<BTreeMap<usize, Vec<Seen>>>>;

/// What one recorder has.
#[derive(Debug, Clone)]
pub(super) struct Handle(ByCase);

impl Handle {
    /// Returns the requests that belong to a case, in order.
    pub(super) fn of(&self, case: usize) -> Vec<Seen> {
        self.0.lock().get(&case).cloned().unwrap_or_default()
    }

    /// Says whether the request has come that stands behind a case's own.
    pub(super) fn has_the_last(&self, case: usize) -> bool {
        self.of(case).iter().any(|seen| seen.head.starts_with(format!("GET /c{case}-after ").as_bytes()))
    }
}

/// A running recorder; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Recorder {
    port: u16,
    seen: Handle,
    _tasks: JoinSet<()>,
}

impl Recorder {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Handle(Arc::default());
        let mut tasks = JoinSet::new();
        let shared = seen.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(record(stream, shared.clone()));
            }
        });
        Self { port, seen, _tasks: tasks }
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(super) fn handle(&self) -> Handle {
        self.seen.clone()
    }
}

/// Answers request after request, and takes each down under the case whose number its path bears.
async fn record(mut stream: TcpStream, seen: Handle) {
    let mut input = Vec::new();
    loop {
        let Some((request, length)) = first_request(&input) else {
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer).await {
                Ok(length) if length > 0 => input.extend_from_slice(&buffer[..length]),
                _ => return,
            }
            continue;
        };
        input.drain(..length);
        let is_head = request.head.starts_with(b"HEAD ");
        if let Some(case) = case_of(&request.head) {
            seen.0.lock().entry(case).or_default().push(request);
        }
        let answer =
            if is_head { "HTTP/1.1 200 OK\r\n\r\n" } else { "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn case_of(head: &[u8]) -> Option<usize> {
    let line = String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next()?).into_owned();
    let (_, rest) = line.split_once("/c")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Reads a request with the framing that a proxy writes: one length, or chunks.
fn first_request(input: &[u8]) -> Option<(Seen, usize)> {
    let head_end = input.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let head = &input[..head_end];
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim).map(str::to_owned))
    };
    let mut at = head_end;
    let mut body = Vec::new();
    if value("transfer-encoding").is_some() {
        loop {
            let line_end = input[at..].windows(2).position(|bytes| bytes == b"\r\n")? + at;
            let size = usize::from_str_radix(std::str::from_utf8(&input[at..line_end]).ok()?, 16).ok()?;
            at = line_end + 2;
            if size == 0 {
                // Trailers end with an empty line.
                while !input.get(at..)?.starts_with(b"\r\n") {
                    at += input[at..].windows(2).position(|bytes| bytes == b"\r\n")? + 2;
                }
                at += 2;
                break;
            }
            body.extend_from_slice(input.get(at..at + size)?);
            at += size + 2;
            if at > input.len() {
                return None;
            }
        }
    } else if let Some(length) = value("content-length") {
        let length = length.parse::<usize>().ok()?;
        body.extend_from_slice(input.get(at..at + length)?);
        at += length;
    }
    Some((Seen { head: head.to_vec(), body }, at))
}

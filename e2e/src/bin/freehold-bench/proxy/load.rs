//! Requests at a proxy: each answer is read to its end, and its status and length are checked.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsConnector;

use super::target::body_bytes;
use crate::Failure;

/// How long one answer may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// Where requests go, and what they ask for.
#[derive(Clone)]
pub(crate) struct Aim {
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    pub(crate) path: &'static str,
    /// How connections are encrypted, if they are.
    pub(crate) tls: Option<TlsConnector>,
}

/// Trusts one certificate, and resumes no session.
pub(crate) fn connector(
    certificate: rustls::pki_types::CertificateDer<'static>,
) -> Result<TlsConnector, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Runs something that is not sent between threads.
async fn locally<T>(work: impl Future<Output = T>) -> T {
    LocalSet::new().run_until(work).await
}

/// Sends so many requests over so many connections that are kept, each as soon as the one before is answered.
pub(crate) async fn keep_alive(aim: &Aim, connections: usize, requests: usize) -> Result<(), Failure> {
    let left = Rc::new(Cell::new(requests));
    let mut clients = JoinSet::new();
    let work = async {
        for _ in 0..connections {
            let (aim, left) = (aim.clone(), Rc::clone(&left));
            clients.spawn_local(async move {
                let mut client = Client::connect(&aim).await?;
                while let Some(less) = left.get().checked_sub(1) {
                    left.set(less);
                    client.request().await?;
                }
                Ok::<_, Failure>(())
            });
        }
        finish(&mut clients).await
    };
    locally(work).await
}

/// Sends so many requests, each on a connection of its own, some at a time.
pub(crate) async fn new_connections(aim: &Aim, at_once: usize, requests: usize) -> Result<(), Failure> {
    let left = Rc::new(Cell::new(requests));
    let mut clients = JoinSet::new();
    let work = async {
        for _ in 0..at_once {
            let (aim, left) = (aim.clone(), Rc::clone(&left));
            clients.spawn_local(async move {
                while let Some(less) = left.get().checked_sub(1) {
                    left.set(less);
                    Client::connect(&aim).await?.request().await?;
                }
                Ok::<_, Failure>(())
            });
        }
        finish(&mut clients).await
    };
    locally(work).await
}

/// Sends requests at a rate for a while, whether or not those before are answered; returns how long each took, from the
/// time at which it was due where all connections were busy then, in order.
pub(crate) async fn at_rate(
    aim: &Aim,
    connections: usize,
    per_second: f64,
    span: Duration,
) -> Result<Vec<Duration>, Failure> {
    let times = Rc::new(RefCell::new(Vec::new()));
    let next = Rc::new(Cell::new(0_u32));
    let interval = Duration::from_secs_f64(1.0 / per_second);
    let mut clients = JoinSet::new();
    let work = async {
        let begun = Instant::now();
        for _ in 0..connections {
            let (aim, times, next) = (aim.clone(), Rc::clone(&times), Rc::clone(&next));
            clients.spawn_local(async move {
                let mut client = Client::connect(&aim).await?;
                loop {
                    let number = next.get();
                    next.set(number + 1);
                    let due = begun + interval * number;
                    if due.duration_since(begun) > span {
                        return Ok::<_, Failure>(());
                    }
                    // A timer is late by up to a millisecond, which is not the proxy's doing; a client that was still busy when
                    // a request was due is.
                    let sent = if due > Instant::now() {
                        sleep_until(due).await;
                        Instant::now()
                    } else {
                        due
                    };
                    client.request().await?;
                    times.borrow_mut().push(sent.elapsed());
                }
            });
        }
        finish(&mut clients).await
    };
    locally(work).await?;
    let mut times = times.take();
    times.sort_unstable();
    Ok(times)
}

/// Opens so many connections, sends one request on each, and leaves them open until what is returned is dropped.
pub(crate) async fn open(aim: &Aim, connections: usize) -> Result<Vec<Client>, Failure> {
    let mut clients = Vec::new();
    for _ in 0..connections {
        let mut client = Client::connect(aim).await?;
        client.request().await?;
        client.buffer = Vec::new();
        clients.push(client);
    }
    Ok(clients)
}

async fn finish(clients: &mut JoinSet<Result<(), Failure>>) -> Result<(), Failure> {
    while let Some(outcome) = clients.join_next().await {
        outcome??;
    }
    Ok(())
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// One connection.
pub(crate) struct Client {
    stream: Box<dyn Stream>,
    request: String,
    body_bytes: usize,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(aim: &Aim) -> Result<Self, Failure> {
        let socket = TcpStream::connect(aim.address).await?;
        socket.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &aim.tls {
            None => Box::new(socket),
            Some(tls) => Box::new(tls.connect(ServerName::try_from(aim.host.clone())?, socket).await?),
        };
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: freehold-bench\r\nAccept: */*\r\n\r\n",
            aim.path, aim.host
        );
        Ok(Self { stream, request, body_bytes: body_bytes(aim.path), buffer: Vec::new() })
    }

    async fn request(&mut self) -> Result<(), Failure> {
        tokio::time::timeout(DEADLINE, self.exchange()).await?
    }

    async fn exchange(&mut self) -> Result<(), Failure> {
        self.stream.write_all(self.request.as_bytes()).await?;
        self.buffer.resize(256 * 1024, 0);
        let mut filled = 0;
        loop {
            let room = self.buffer.get_mut(filled..).unwrap_or_default();
            let length = self.stream.read(room).await?;
            if length == 0 {
                return Err("a connection was closed before its answer".into());
            }
            filled += length;
            let Some(head_bytes) = head(self.buffer.get(..filled).unwrap_or_default(), self.body_bytes)?
            else {
                continue;
            };
            let mut body = filled - head_bytes;
            while body < self.body_bytes {
                let length = self.stream.read(&mut self.buffer).await?;
                if length == 0 {
                    return Err("a connection was closed in the middle of an answer".into());
                }
                body += length;
            }
            return if body == self.body_bytes { Ok(()) } else { Err("an answer was too long".into()) };
        }
    }
}

/// Returns how long a whole head is, or nothing where more is to come.
fn head(bytes: &[u8], body_bytes: usize) -> Result<Option<usize>, Failure> {
    let mut slots = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut slots);
    let httparse::Status::Complete(head_bytes) = response.parse(bytes)? else { return Ok(None) };
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    if response.code != Some(200) || length != Some(body_bytes) {
        return Err(format!("an answer has status {:?} and length {length:?}", response.code).into());
    }
    Ok(Some(head_bytes))
}

//! What stands before a certificate authority: it says when certificates are to be renewed for one that does not know RFC 9773,
//! refuses as a busy one does, holds requests back, and keeps what was ordered.

use std::path::PathBuf;
use std::sync::Arc;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::pebble::Pebble;

/// The front; it is gone when it is dropped.
#[derive(Debug)]
pub(crate) struct RenewalFront {
    port: u16,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    port: u16,
    /// Where the authority itself is, and its folder.
    authority: u16,
    folder: PathBuf,
    /// Start and end of the window in which certificates are to be renewed; none where it does not say.
    window: Mutex<Option<(String, String)>>,
    /// The certificates that were asked about.
    asked: Mutex<Vec<String>>,
    refusals: Mutex<Vec<Refusal>>,
    /// The paths that were asked for, and what was ordered.
    paths: Mutex<Vec<String>>,
    orders: Mutex<Vec<Value>>,
    /// Where something was made.
    created: Mutex<Vec<String>>,
    /// What paths begin with that are held back.
    held: watch::Sender<Option<String>>,
}

/// An answer in place of the authority's.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) path: &'static str,
    pub(crate) times: usize,
    pub(crate) status: &'static str,
    pub(crate) problem: &'static str,
    pub(crate) retry_after: Option<u64>,
}

impl RenewalFront {
    /// Starts it before an authority, with its certificate.
    pub(crate) async fn start(pebble: &Pebble, window: Option<(&str, &str)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            port,
            authority: pebble.port(),
            folder: pebble.folder().to_owned(),
            window: Mutex::new(window.map(|window| (window.0.to_owned(), window.1.to_owned()))),
            asked: Mutex::default(),
            refusals: Mutex::default(),
            paths: Mutex::default(),
            orders: Mutex::default(),
            created: Mutex::default(),
            held: watch::Sender::new(None),
        });
        let certificate = CertificateDer::from_pem_file(pebble.folder().join("tls.crt")).unwrap();
        let key = PrivateKeyDer::from_pem_file(pebble.folder().join("tls.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), Arc::clone(&shared)));
        Self { port, shared, _tasks: tasks }
    }

    pub(crate) fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().clone()
    }

    pub(crate) fn say(&self, window: (&str, &str)) {
        *self.shared.window.lock() = Some((window.0.to_owned(), window.1.to_owned()));
    }

    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.shared.refusals.lock().push(refusal);
    }

    /// Holds back what asks for paths with this begin, until it is told another one.
    pub(crate) fn hold(&self, begin: Option<&str>) {
        self.shared.held.send_replace(begin.map(str::to_owned));
    }

    /// Returns how often a path was asked for.
    pub(crate) fn count(&self, begin: &str) -> usize {
        self.shared.paths.lock().iter().filter(|path| path.starts_with(begin)).count()
    }

    /// Returns how often something was made at a path.
    pub(crate) fn created(&self, path: &str) -> usize {
        self.shared.created.lock().iter().filter(|created| *created == path).count()
    }

    /// Returns what was ordered, as it was written.
    pub(crate) fn orders(&self) -> Vec<Value> {
        self.shared.orders.lock().clone()
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        connections.spawn(answer(socket, acceptor.clone(), Arc::clone(&shared)));
    }
}

/// Answers one request; a client may leave at any time.
async fn answer(socket: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) -> Option<()> {
    let mut stream = acceptor.accept(socket).await.ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    let path = head.split(' ').nth(1).unwrap().to_owned();
    shared.paths.lock().push(path.clone());
    let is_held = |held: &Option<String>| held.as_ref().is_some_and(|begin| path.starts_with(begin));
    shared.held.subscribe().wait_for(|held| !is_held(held)).await.ok()?;
    let bytes = match own_answer(&shared, &path) {
        Some(text) => text.into_bytes(),
        None => {
            let answer = forward(&shared, &path, &head, &body).await?;
            // Now and then it refuses a nonce, and is asked again.
            if answer.starts_with(b"HTTP/1.1 201") {
                shared.created.lock().push(path.clone());
                shared.orders.lock().extend(payload(&body).filter(|_| path == "/order-plz"));
            }
            answer
        }
    };
    stream.write_all(&bytes).await.ok()?;
    stream.shutdown().await.ok()
}

/// What was signed.
fn payload(body: &[u8]) -> Option<Value> {
    let signed: Value = serde_json::from_slice(body).ok()?;
    let payload = BASE64_URL_SAFE_NO_PAD.decode(signed["payload"].as_str()?).ok()?;
    serde_json::from_slice(&payload).ok()
}

fn own_answer(shared: &Shared, path: &str) -> Option<String> {
    if let Some(certificate) = path.strip_prefix("/renewal/") {
        shared.asked.lock().push(certificate.to_owned());
        let (start, end) = shared.window.lock().clone()?;
        let body = json!({ "suggestedWindow": { "start": start, "end": end } }).to_string();
        return Some(response("200 OK", "Retry-After: 21600\r\n", &body));
    }
    let mut refusals = shared.refusals.lock();
    let refusal = refusals.iter_mut().find(|refusal| refusal.times > 0 && path.starts_with(refusal.path))?;
    refusal.times -= 1;
    let body = json!({
        "type": format!("urn:ietf:params:acme:error:{}", refusal.problem),
        "detail": format!("{} for a test", refusal.problem),
    });
    let pause = refusal.retry_after.map_or(String::new(), |seconds| format!("Retry-After: {seconds}\r\n"));
    Some(response(refusal.status, &pause, &body.to_string()))
}

fn response(status: &str, lines: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{lines}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// Hands a request on as it is. The authority makes its addresses from the `Host`, so that all lead here.
async fn forward(shared: &Shared, path: &str, head: &str, body: &[u8]) -> Option<Vec<u8>> {
    let mut trusted = RootCertStore::empty();
    trusted.add(CertificateDer::from_pem_file(shared.folder.join("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_root_certificates(trusted).with_no_client_auth();
    let socket = TcpStream::connect(("127.0.0.1", shared.authority)).await.ok()?;
    let server = ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(server, socket).await.ok()?;
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    stream.write_all(&[head.as_bytes(), body].concat()).await.ok()?;
    let mut answer = Vec::new();
    // It does not say goodbye.
    stream.read_to_end(&mut answer).await.ok();
    if path == "/dir" && shared.window.lock().is_some() {
        let at = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
        let mut directory: Value = serde_json::from_slice(&answer[at..]).unwrap();
        directory["renewalInfo"] = format!("https://127.0.0.1:{}/renewal", shared.port).into();
        return Some(response("200 OK", "", &directory.to_string()).into_bytes());
    }
    Some(answer)
}

//! What stands before a certificate authority that does not know RFC 9773, and says for it when certificates are to be renewed.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// The front; it is gone when it is dropped.
#[derive(Debug)]
pub(crate) struct RenewalFront {
    port: u16,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    directory: Value,
    /// Start and end of the window in which certificates are to be renewed.
    window: Mutex<(String, String)>,
    /// The certificates that were asked about.
    asked: Mutex<Vec<String>>,
}

impl RenewalFront {
    /// Starts it with the certificate in a folder, for an authority with this directory.
    pub(crate) async fn start(folder: &Path, directory: Value, window: (&str, &str)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut directory = directory;
        directory["renewalInfo"] = format!("https://127.0.0.1:{port}/renewal").into();
        let shared = Arc::new(Shared {
            directory,
            window: Mutex::new((window.0.to_owned(), window.1.to_owned())),
            asked: Mutex::default(),
        });
        let certificate = CertificateDer::from_pem_file(folder.join("tls.crt")).unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.join("tls.key")).unwrap();
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
        *self.shared.window.lock() = (window.0.to_owned(), window.1.to_owned());
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        connections.spawn(answer(socket, acceptor.clone(), Arc::clone(&shared)));
    }
}

async fn answer(socket: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let mut stream = acceptor.accept(socket).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap();
    let body = match path.strip_prefix("/renewal/") {
        None => shared.directory.to_string(),
        Some(certificate) => {
            shared.asked.lock().push(certificate.to_owned());
            let (start, end) = shared.window.lock().clone();
            json!({ "suggestedWindow": { "start": start, "end": end } }).to_string()
        }
    };
    let text = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nRetry-After: 21600\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.shutdown().await.ok();
}

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::process::Process;

/// How long one request may take from the lookup of the name to the answer's head.
const LIMIT: Duration = Duration::from_secs(10);

/// How much of an answer is read.
const ANSWER_LIMIT_BYTES: usize = 64 * 1024;

/// Where Linux distributions, BSDs and macOS keep the certificates of the authorities that they trust.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why a place cannot be posted to.
#[derive(Debug, thiserror::Error)]
pub(super) enum AddressError {
    /// It is no address.
    #[error("it is not a URL")]
    Uri(#[from] http::uri::InvalidUri),
    /// It names no host.
    #[error("it names no host")]
    NoHost,
    /// The host's name cannot be in a certificate.
    #[error("a certificate cannot be for this host")]
    ServerName(#[from] InvalidDnsNameError),
    /// There are no certificates of authorities to check the host's with.
    #[error("cannot read the certificates of this computer's authorities")]
    Authorities(#[source] io::Error),
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
}

/// Why nothing was taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error("it cannot be connected to")]
    Connect(#[source] io::Error),
    #[error("the connection broke")]
    Exchange(#[from] hyper::Error),
    #[error("the request is not possible")]
    Request(#[from] http::Error),
    #[error("it did not answer within {} s", LIMIT.as_secs())]
    TimedOut,
    #[error("it answered `{0}`")]
    Status(StatusCode),
}

impl PostError {
    /// Says whether another try may succeed (OTLP over HTTP, § Retryable Response Codes).
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            Self::Request(_) => false,
            Self::Connect(_) | Self::Exchange(_) | Self::TimedOut => true,
        }
    }
}

/// An address that takes JSON by `POST`.
pub(super) struct Place {
    host: String,
    port: u16,
    path: String,
    authority: String,
    headers: HeaderMap,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Place {
    /// Makes the place ready; nothing is connected.
    ///
    /// # Errors
    /// What is wrong with the address, or with this computer's certificates.
    pub(super) fn new(url: &str, headers: HeaderMap, process: &Process) -> Result<Self, AddressError> {
        let uri: Uri = url.parse()?;
        let host = uri.host().ok_or(AddressError::NoHost)?.to_owned();
        let is_tls = uri.scheme_str() == Some("https");
        let bare = host.trim_matches(['[', ']']).to_owned();
        let tls = if is_tls {
            let name = ServerName::try_from(bare.clone())?;
            Some((TlsConnector::from(Arc::new(tls_config(process)?)), name))
        } else {
            None
        };
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let authority = uri.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { host: bare, port, path, authority, headers, tls })
    }

    /// Posts a body of JSON.
    ///
    /// # Errors
    /// [`PostError`] when it was not taken.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection; the body may have been taken.
    pub(super) async fn post(&self, body: String) -> Result<(), PostError> {
        tokio::time::timeout(LIMIT, self.exchange(body)).await.unwrap_or(Err(PostError::TimedOut))
    }

    async fn exchange(&self, body: String) -> Result<(), PostError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(PostError::Connect)?;
        match &self.tls {
            None => self.request(stream, body).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await.map_err(PostError::Connect)?;
                self.request(stream, body).await
            }
        }
    }

    async fn request(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        body: String,
    ) -> Result<(), PostError> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&self.path)
            .header(HOST, &self.authority)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(Full::new(Bytes::from(body)))?;
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let exchange = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            // Read to its end: a collector that still writes must not find the connection gone.
            drop(Limited::new(answer.into_body(), ANSWER_LIMIT_BYTES).collect().await);
            if status.is_success() { Ok(()) } else { Err(PostError::Status(status)) }
        };
        tokio::pin!(exchange, connection);
        tokio::select! {
            answer = &mut exchange => answer,
            // The connection is done before the answer was read: the answer tells how.
            ended = &mut connection => {
                ended?;
                exchange.await
            }
        }
    }
}

/// Trusts the authorities that the computer trusts, or those in the file that `SSL_CERT_FILE` names, as OpenSSL does.
fn tls_config(process: &Process) -> Result<ClientConfig, AddressError> {
    let named = process.variable("SSL_CERT_FILE").map(|path| process.directory.join(path));
    let bundle =
        named.or_else(|| BUNDLES.iter().map(Into::into).find(|path: &std::path::PathBuf| path.exists()));
    let missing =
        || io::Error::new(io::ErrorKind::NotFound, "install `ca-certificates`, or set `SSL_CERT_FILE`");
    let bundle = bundle.ok_or_else(|| AddressError::Authorities(missing()))?;
    let text = fs_err::read(&bundle).map_err(AddressError::Authorities)?;
    let mut roots = RootCertStore::empty();
    // Bundles hold certificates that rustls does not take; what is left decides.
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&text).filter_map(Result::ok));
    if roots.is_empty() {
        let empty = format!("`{}` holds no certificate", bundle.display());
        return Err(AddressError::Authorities(io::Error::other(empty)));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Logs, SystemClock, Terminal};
    use freehold_model::SshLogLevel;
    use std::path::{Path, PathBuf};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::pki_types::PrivateKeyDer;
    use tokio_util::sync::CancellationToken;

    #[derive(Debug)]
    struct NoLogs;

    impl Logs for NoLogs {
        fn show_ssh(&self, _level: SshLogLevel, _show: Box<dyn Fn(&str) + Send + Sync>) {}
    }

    fn process(bundle: &Path) -> Process {
        Process {
            environment: [("SSL_CERT_FILE".to_owned(), bundle.display().to_string())].into(),
            directory: PathBuf::from("/"),
            executable: PathBuf::new(),
            id: 1,
            terminal: Terminal { is_stdin: false, is_stdout: false, is_stderr: false, size: || None },
            clock: Arc::new(SystemClock::start()),
            seed: [0; 16],
            logs: Arc::new(NoLogs),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
        }
    }

    fn certificates() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../proxy/tests/certificates")
    }

    /// A collector that takes one request by TLS, under the name of the certificate, and answers with a status.
    async fn post_to_collector(bundle: &str, name: &str, status: &str) -> (Result<(), PostError>, String) {
        let certificate = CertificateDer::from_pem_file(certificates().join("first.crt")).unwrap();
        let key = PrivateKeyDer::from_pem_file(certificates().join("first.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let headers = HeaderMap::from_iter([("api-key".parse().unwrap(), HeaderValue::from_static("k"))]);
        let url = format!("https://{name}:{port}/base/v1/logs");
        let mut place = Place::new(&url, headers, &process(&certificates().join(bundle))).unwrap();
        "127.0.0.1".clone_into(&mut place.host);
        let serve = async {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else {
                return String::new();
            };
            let mut request = Vec::new();
            while !request.ends_with(b"{\"a\":1}") {
                assert!(stream.read_buf(&mut request).await.unwrap() > 0);
            }
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}");
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            String::from_utf8(request).unwrap()
        };
        tokio::join!(place.post("{\"a\":1}".to_owned()), serve)
    }

    #[tokio::test]
    async fn a_collector_with_tls_is_checked_and_gets_the_request() {
        let (outcome, request) = post_to_collector("first.crt", "shop.example.com", "200 OK").await;
        outcome.unwrap();
        assert!(request.starts_with("POST /base/v1/logs HTTP/1.1\r\nhost: shop.example.com:"), "{request}");
        assert!(request.contains("content-type: application/json\r\n") && request.contains("api-key: k\r\n"));
    }

    #[tokio::test]
    async fn another_authority_or_another_name_gets_nothing() {
        for (bundle, name) in [("second.crt", "shop.example.com"), ("first.crt", "other.example.com")] {
            let (outcome, request) = post_to_collector(bundle, name, "200 OK").await;
            assert!(matches!(outcome, Err(PostError::Connect(_))), "{outcome:?}");
            assert_eq!(request, "");
        }
    }

    #[tokio::test]
    async fn what_may_pass_is_told_from_what_does_not() {
        for (status, may_pass) in [("503 Service Unavailable", true), ("400 Bad Request", false)] {
            let (outcome, _) = post_to_collector("first.crt", "shop.example.com", status).await;
            assert_eq!(outcome.unwrap_err().may_pass(), may_pass, "{status}");
        }
    }
}

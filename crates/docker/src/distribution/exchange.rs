//! One request and its answer, over a connection of its own.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, LINK, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderName, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::Authorities;

/// The greatest answer that is read: registries refuse manifests of more than 4 MiB.
const LARGEST: usize = 8 * 1024 * 1024;

/// Where Linux distributions, BSDs and macOS keep the certificates of the authorities that they trust.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// HTTPS.
    Tls,
    /// HTTP.
    Plain,
}

/// A request.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) method: Method,
    path: String,
    headers: Vec<(HeaderName, String)>,
    pub(super) body: Bytes,
}

impl Asked {
    pub(super) fn new(method: Method, path: String) -> Self {
        Self { method, path, headers: Vec::new(), body: Bytes::new() }
    }

    pub(super) fn get(path: String) -> Self {
        Self::new(Method::GET, path)
    }

    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// An answer, read whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: String,
    pub(super) location: Option<String>,
    /// Where the next page of a list is.
    pub(super) next: Option<String>,
    pub(super) challenges: Vec<String>,
    pub(super) body: Bytes,
}

/// Asks a server.
pub(super) async fn exchange(
    (host, port, scheme): (&str, Option<u16>, Scheme),
    asked: &Asked,
    tls: &Arc<ClientConfig>,
) -> io::Result<Answer> {
    let number = port.unwrap_or(if scheme == Scheme::Tls { 443 } else { 80 });
    let authority = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let bare = host.trim_matches(['[', ']']);
    let stream = TcpStream::connect((bare, number)).await?;
    match scheme {
        Scheme::Plain => request(stream, &authority, asked).await,
        Scheme::Tls => {
            let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
            let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?;
            request(stream, &authority, asked).await
        }
    }
}

async fn request(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    authority: &str,
    asked: &Asked,
) -> io::Result<Answer> {
    let mut builder = Request::builder().method(&asked.method).uri(&asked.path).header(HOST, authority);
    for (name, value) in &asked.headers {
        builder = builder.header(name, value);
    }
    let request = builder.body(Full::new(asked.body.clone())).map_err(io::Error::other)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LARGEST).collect().await.map_err(io::Error::other)?.to_bytes();
        let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let challenges = head.headers.get_all(WWW_AUTHENTICATE).iter();
        Ok(Answer {
            status: head.status,
            content_type: text(CONTENT_TYPE).unwrap_or_default(),
            location: text(LOCATION),
            next: text(LINK).and_then(|link| {
                let (address, rest) = link.strip_prefix('<')?.split_once('>')?;
                rest.contains("next").then(|| address.to_owned())
            }),
            challenges: challenges.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect(),
            body,
        })
    };
    tokio::pin!(exchange, connection);
    tokio::select! {
        answer = &mut exchange => answer,
        // The connection is done before the answer was read: the answer tells how.
        ended = &mut connection => {
            ended.map_err(io::Error::other)?;
            exchange.await
        }
    }
}

/// Makes the settings of TLS with a registry: trusted are the authorities that the computer trusts, or those in the bundle
/// that is named, and those that Docker knows for that registry.
///
/// # Errors
/// There is no certificate that can be read.
pub(super) fn trusting(authorities: &Authorities, server: &str) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let system = authorities.bundle.clone();
    let system =
        system.or_else(|| BUNDLES.iter().map(Into::into).find(|path: &std::path::PathBuf| path.exists()));
    for path in system.into_iter().chain(super::bundle_of(authorities, server)) {
        let text = fs_err::read(&path)?;
        // Bundles hold certificates that rustls does not take; what is left decides.
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&text).filter_map(Result::ok));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

//! Whether a name leads here, found out before a certificate is ordered: an order that cannot succeed counts at the authority.
//!
//! The proxy shows something that nobody else can know, and looks for it where the name leads, as the authority would.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use freehold_wire::TargetAddress;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::account::Authority;
use super::challenge::{HTTP_PATH, TLS_PROTOCOL};
use super::fleet::{Message, Proven};
use super::{Keeper, OWN_HEADER, random_text};

/// How many addresses of a name are looked at.
const MAX_ADDRESSES: usize = 8;

/// How much of an answer is read.
const MAX_ANSWER_BYTES: usize = 4096;

/// On which ports a name is looked for, as authorities do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProofPorts {
    /// For HTTP.
    pub http: u16,
    /// For HTTPS.
    pub https: u16,
}

impl Default for ProofPorts {
    fn default() -> Self {
        Self { http: 80, https: 443 }
    }
}

/// A name does not lead here.
#[derive(Debug, thiserror::Error)]
pub(super) enum Elsewhere {
    #[error(
        "nothing was ordered: expected that `{name}` leads to this proxy, and found that it has no address, or that no name \
         server answers"
    )]
    NoAddress { name: String },
    #[error(
        "nothing was ordered: expected that `{name}` leads to this proxy, and found that {found}; where the proxy cannot \
         reach itself by that address although others can, turn this check off"
    )]
    Other { name: String, found: String },
}

/// What the proxy shows to itself.
struct Sign {
    token: String,
    text: String,
    digest: [u8; 32],
}

impl Keeper {
    /// Looks whether every address of a name leads here, by HTTP or by TLS.
    pub(super) async fn look_for(&self, authority: &Authority, name: &str) -> Result<(), Elsewhere> {
        let nowhere = || Elsewhere::NoAddress { name: name.to_owned() };
        let ports = self.config.ports;
        let address = TargetAddress::parse(&format!("{name}:{}", ports.http)).map_err(|_| nowhere())?;
        let found = self.resolver.find_anew(&address).await.map_err(|_| nowhere())?;
        let text = random_text();
        let sign = Sign { token: random_text(), digest: Sha256::digest(&text).into(), text };
        let _shown = self.challenges.show_text(&sign.token, &sign.text);
        let _shown_by_tls = self.challenges.show_certificate(name, &sign.digest).ok();
        if let Some(fleet) = &authority.fleet {
            let Sign { token, text, digest } = &sign;
            let (token, text, digest) = (token.clone(), text.clone(), digest.to_vec());
            // It may lead to any of them.
            fleet.tell(&Message::Prove(Proven { name: name.to_owned(), token, text, digest })).await;
        }
        let mut wrong = Vec::new();
        for address in found.addresses.into_iter().take(MAX_ADDRESSES) {
            let by_http = |begin| look_by_http(address, begin, name, &sign);
            let looked = self.looked([by_http(b""), by_http(OWN_HEADER)], self.headers.http);
            let Err(http) = looked.await else { continue };
            let address = SocketAddr::new(address.ip(), ports.https);
            let by_tls = |begin| look_by_tls(address, begin, name, &sign);
            if let Err(tls) = self.looked([by_tls(b""), by_tls(OWN_HEADER)], self.headers.https).await {
                let ip = address.ip();
                wrong.push(format!("at {ip} port {} {http}, and port {} {tls}", ports.http, ports.https));
            }
        }
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(Elsewhere::Other { name: name.to_owned(), found: wrong.join("; ") }),
        }
    }

    /// Looks as a client does, and then as a proxy that is trusted, where those have to say so: the name may lead to a load
    /// balancer, which does that itself, or to this proxy.
    async fn looked(
        &self,
        [as_client, as_proxy]: [impl Future<Output = Result<(), String>>; 2],
        has_header: bool,
    ) -> Result<(), String> {
        match self.within(as_client).await {
            Err(error) if has_header => self.within(as_proxy).await.map_err(|_| error),
            looked => looked,
        }
    }

    async fn within(&self, look: impl Future<Output = Result<(), String>>) -> Result<(), String> {
        let limit: Duration = self.limits.reach;
        timeout(limit, look).await.unwrap_or_else(|_| Err(format!("is silent for {} s", limit.as_secs())))
    }
}

fn failed(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "refuses connections".to_owned(),
        _ => format!("cannot be used ({error})"),
    }
}

async fn look_by_http(
    address: SocketAddr,
    begin: &'static [u8],
    name: &str,
    sign: &Sign,
) -> Result<(), String> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
    stream.write_all(begin).await.map_err(|error| failed(&error))?;
    let request = format!(
        "GET {HTTP_PATH}{} HTTP/1.1\r\nHost: {name}\r\nUser-Agent: freehold\r\nConnection: close\r\n\r\n",
        sign.token
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| failed(&error))?;
    let mut answer = Vec::new();
    loop {
        let read = stream.read_buf(&mut answer).await;
        let text = String::from_utf8_lossy(&answer);
        let is_ok = text.starts_with("HTTP/1.1 200");
        if is_ok && text.contains(&sign.text) {
            return Ok(());
        }
        let is_over = answer.len() > MAX_ANSWER_BYTES || read.as_ref().map_or(true, |length| *length == 0);
        if !is_over && (is_ok || !text.contains("\r\n\r\n")) {
            continue;
        }
        let status = text.strip_prefix("HTTP/").and_then(|rest| rest.split(' ').nth(1));
        return Err(match (status, read) {
            (Some(status), _) => format!("is somebody else's, who answers with status {}", printable(status)),
            (None, Err(error)) => failed(&error),
            (None, Ok(_)) => "does not speak HTTP".to_owned(),
        });
    }
}

/// What a stranger answers is cut to what a status can be.
fn printable(status: &str) -> String {
    status.chars().filter(char::is_ascii_digit).take(3).collect()
}

async fn look_by_tls(
    address: SocketAddr,
    begin: &'static [u8],
    name: &str,
    sign: &Sign,
) -> Result<(), String> {
    let other = || "shows another certificate".to_owned();
    let server = ServerName::try_from(name.to_owned()).map_err(|_| other())?;
    let mut stream = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
    stream.write_all(begin).await.map_err(|error| failed(&error))?;
    let stream = connector().ok_or_else(other)?.connect(server, stream).await;
    let stream = stream.map_err(|_| "does not agree on the protocol of proofs".to_owned())?;
    let certificates = stream.get_ref().1.peer_certificates();
    // Each node that shows it makes its own certificate; the digest in it is the same.
    let is_ours = |leaf: &CertificateDer<'_>| leaf.windows(sign.digest.len()).any(|part| part == sign.digest);
    match certificates.and_then(<[_]>::first).is_some_and(is_ours) {
        true => Ok(()),
        false => Err(other()),
    }
}

fn connector() -> Option<TlsConnector> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().ok()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)));
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![TLS_PROTOCOL.to_vec()];
    Some(TlsConnector::from(Arc::new(config)))
}

/// Lets anybody in: what counts is what the certificate holds.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    // Whether the other side has the key does not matter: nothing is told to it.
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

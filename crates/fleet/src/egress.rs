//! A small HTTP proxy on our side of a forwarded port: a host without a way out gets its packages through it.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freehold_model::AddressScope;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

/// How large the head of a request may be.
const HEAD_LIMIT_BYTES: usize = 16 * 1024;

/// How long the head of a request may take to come.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// How long a destination may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);

/// Who may use the proxy, and for what.
pub(crate) struct Egress {
    password: String,
    named: BTreeSet<String>,
    /// Whether it leads to this computer itself, which only a test's does.
    leads_here: bool,
}

/// The user in the proxy's credentials; the password is what is secret.
const USER: &str = "freehold";

impl Egress {
    /// Makes a proxy for who knows the password.
    ///
    /// It leads to public addresses, and to those named, which may be private ones: mirrors of the user's own. Other private
    /// addresses, those of the network in which we happen to be, are none of the host's business; those of this computer itself
    /// never are, whatever the host calls a source.
    pub(crate) fn new(password: String, named: BTreeSet<String>) -> Self {
        Self { password, named, leads_here: false }
    }

    /// Makes a password that cannot be guessed.
    ///
    /// # Errors
    /// That of the system's random source.
    pub(crate) fn password() -> io::Result<String> {
        let mut random = [0_u8; 24];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Returns the address of the proxy at a port of the host's own, with credentials.
    pub(crate) fn url(&self, port: u16) -> String {
        format!("http://{USER}:{}@127.0.0.1:{port}", self.password)
    }

    /// Serves one connection: `CONNECT`, or one request with an absolute address (RFC 9112 §3.2.2, RFC 9110 §9.3.6).
    ///
    /// # Errors
    /// When either side's connection breaks.
    ///
    /// # Cancel safety
    /// Both connections are closed.
    pub(crate) async fn serve(&self, mut client: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let head = tokio::time::timeout(HEAD_WITHIN, read_head(&mut client)).await;
        let (head, rest) = head.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let Some(request) = Request::parse(&head) else {
            return refuse(&mut client, "400 Bad Request", "").await;
        };
        if !request.has_password(&self.password) {
            let ask = "Proxy-Authenticate: Basic realm=\"freehold\"\r\n";
            return refuse(&mut client, "407 Proxy Authentication Required", ask).await;
        }
        let mut destination = match self.connect(&request.host, request.port).await {
            Ok(destination) => destination,
            Err(error) => {
                tracing::debug!(host = %request.host, %error, "not proxied");
                let status = match error.kind() {
                    io::ErrorKind::PermissionDenied => "403 Forbidden",
                    _ => "502 Bad Gateway",
                };
                return refuse(&mut client, status, "").await;
            }
        };
        let Some(head) = &request.forwarded else {
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            destination.write_all(&rest).await?;
            copy_bidirectional(&mut client, &mut destination).await?;
            return Ok(());
        };
        destination.write_all(head.as_bytes()).await?;
        destination.write_all(&rest).await?;
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let (mut from_destination, mut to_destination) = destination.split();
        {
            let up = tokio::io::copy(&mut from_client, &mut to_destination);
            let down = tokio::io::copy(&mut from_destination, &mut to_client);
            tokio::pin!(down);
            // The answer's end is the end, whether the client has more to say or not.
            tokio::select! {
                answered = &mut down => answered?,
                sent = up => {
                    sent?;
                    down.await?
                }
            };
        }
        to_client.shutdown().await
    }

    async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let may_be_private = self.named.contains(host);
        let within = |connect| async {
            let outcome = tokio::time::timeout(CONNECT_WITHIN, connect).await;
            outcome.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
        };
        let mut last = io::Error::from(io::ErrorKind::PermissionDenied);
        for address in tokio::net::lookup_host((host, port)).await? {
            let is_allowed = match AddressScope::of(address.ip()) {
                AddressScope::Public => true,
                AddressScope::Own | AddressScope::Link => may_be_private && self.leads_here,
                AddressScope::Private | AddressScope::Special => may_be_private,
            };
            if !is_allowed {
                continue;
            }
            match within(TcpStream::connect(address)).await {
                Ok(stream) => {
                    // This computer has other addresses, too.
                    if !self.leads_here && stream.local_addr()?.ip() == stream.peer_addr()?.ip() {
                        last = io::ErrorKind::PermissionDenied.into();
                        continue;
                    }
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// What a client of the proxy wants.
struct Request {
    host: String,
    port: u16,
    /// The head as the destination gets it; none for a tunnel.
    forwarded: Option<String>,
    credentials: Option<String>,
}

/// Header fields that are for the proxy alone (RFC 9110 §7.6.1, §11.7).
const OURS: [&str; 4] = ["proxy-authorization", "proxy-connection", "connection", "keep-alive"];

impl Request {
    fn parse(head: &str) -> Option<Self> {
        let (line, fields) = head.split_once("\r\n")?;
        let mut words = line.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() || !version.starts_with("HTTP/1.") {
            return None;
        }
        let mut credentials = None;
        let mut passed_on = String::new();
        for field in fields.split("\r\n").take_while(|field| !field.is_empty()) {
            let (name, value) = field.split_once(':')?;
            let name = name.to_ascii_lowercase();
            if name == "proxy-authorization" {
                credentials = value.trim().strip_prefix("Basic ").map(|text| text.trim().to_owned());
            }
            if !OURS.contains(&name.as_str()) {
                passed_on.push_str(field);
                passed_on.push_str("\r\n");
            }
        }
        if method == "CONNECT" {
            let (host, port) = split_authority(target, None)?;
            return Some(Self { host, port, forwarded: None, credentials });
        }
        let rest = target.strip_prefix("http://")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = split_authority(authority, Some(80))?;
        let path = if path.is_empty() { "/" } else { path };
        // One request for each connection: the client makes another for its next destination.
        let forwarded = format!("{method} {path} HTTP/1.1\r\n{passed_on}Connection: close\r\n\r\n");
        Some(Self { host, port, forwarded: Some(forwarded), credentials })
    }

    fn has_password(&self, password: &str) -> bool {
        let expected = STANDARD.encode(format!("{USER}:{password}"));
        let given = self.credentials.as_deref().unwrap_or_default();
        // Every byte is looked at, so that the time says nothing.
        given.len() == expected.len()
            && given.bytes().zip(expected.bytes()).fold(0, |seen, (one, other)| seen | (one ^ other)) == 0
    }
}

fn split_authority(authority: &str, default: Option<u16>) -> Option<(String, u16)> {
    if authority.contains('@') {
        return None;
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port.parse().ok()?)),
        _ => (authority, default),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then(|| Some((host.to_ascii_lowercase(), port?)))?
}

/// Reads the head of a request. Returns it, and what came after it.
async fn read_head(client: &mut (impl AsyncRead + Unpin)) -> io::Result<(String, Vec<u8>)> {
    let mut seen = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        let count = client.read(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        seen.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = seen.split_off(end + 4);
            let head = String::from_utf8(seen).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            return Ok((head, rest));
        }
        if seen.len() > HEAD_LIMIT_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

async fn refuse(client: &mut (impl AsyncWrite + Unpin), status: &str, fields: &str) -> io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: 0\r\nConnection: close\r\n\r\n");
    client.write_all(head.as_bytes()).await?;
    client.shutdown().await
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const PASSWORD: &str = "not-to-be-guessed";

    /// Serves one request through the proxy and returns the answer; the origin answers with the head that it saw.
    async fn ask(named: &[&str], request: impl Fn(u16) -> String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let origin = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let (head, rest) = read_head(&mut stream).await.expect("a head");
            let body = format!("{head}{}", String::from_utf8_lossy(&rest));
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.expect("an answer");
        };
        let named = named.iter().map(|&name| name.to_owned()).collect();
        let egress = Egress { leads_here: true, ..Egress::new(PASSWORD.to_owned(), named) };
        let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
        let text = request(port);
        let client = async {
            ours.write_all(text.as_bytes()).await.expect("sent");
            if text.starts_with("CONNECT") {
                // A tunnel ends when both sides have said all.
                ours.shutdown().await.expect("shut");
            }
            let mut answer = String::new();
            ours.read_to_string(&mut answer).await.expect("an answer");
            answer
        };
        let client = async {
            let (served, answer) = tokio::join!(egress.serve(theirs), client);
            served.expect("served");
            answer
        };
        tokio::join!(client, origin).0
    }

    /// Serves one request that never gets to an origin.
    async fn refused(request: &str) -> String {
        let named = ["127.0.0.1", "::1"].map(str::to_owned).into();
        let egress = Egress::new(PASSWORD.to_owned(), named);
        let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
        ours.write_all(request.as_bytes()).await.expect("sent");
        egress.serve(theirs).await.expect("served");
        let mut answer = String::new();
        ours.read_to_string(&mut answer).await.expect("an answer");
        answer.lines().next().unwrap_or_default().to_owned()
    }

    fn credentials(password: &str) -> String {
        format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(format!("{USER}:{password}")))
    }

    #[tokio::test]
    async fn a_request_is_passed_on_without_what_is_ours() {
        let answer = ask(&["127.0.0.1"], |port| {
            let fields = credentials(PASSWORD);
            format!(
                "GET http://127.0.0.1:{port}/debian/x?y HTTP/1.1\r\nHost: m\r\n{fields}Connection: keep-alive\r\n\r\n"
            )
        })
        .await;
        let (_, seen) = answer.split_once("\r\n\r\n").expect("a body");
        assert_eq!(seen, "GET /debian/x?y HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n");
    }

    #[tokio::test]
    async fn a_tunnel_carries_whatever_comes() {
        let answer = ask(&["localhost"], |port| {
            let fields = credentials(PASSWORD);
            format!("CONNECT localhost:{port} HTTP/1.1\r\n{fields}\r\nhello: within\r\n\r\n")
        })
        .await;
        assert!(answer.starts_with("HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 OK"), "{answer}");
        assert!(answer.ends_with("hello: within\r\n\r\n"));
    }

    #[tokio::test]
    async fn strangers_and_private_networks_are_refused() {
        let of = |target: &str, fields: &str| format!("CONNECT {target} HTTP/1.1\r\n{fields}\r\n");
        let own = credentials(PASSWORD);
        assert!(refused(&of("deb.example:80", "")).await.contains("407"));
        assert!(refused(&of("deb.example:80", &credentials("guess"))).await.contains("407"));
        for target in
            ["127.0.0.1:22", "10.0.0.1:80", "[::1]:80", "169.254.169.254:80", "[::ffff:10.0.0.1]:80"]
        {
            assert!(refused(&of(target, &own)).await.contains("403"), "{target}");
        }
        for request in
            ["GET / HTTP/1.1\r\n\r\n", "GET http:///x HTTP/1.1\r\n\r\n", "CONNECT a HTTP/1.1\r\n\r\n"]
        {
            assert!(refused(request).await.contains("400"), "{request}");
        }
    }
}

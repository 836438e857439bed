//! Which database answers at a port. A few bytes are said to it and a few are read; no name, no password.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use freehold_docker::ByteStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::engine_host::EngineHost;

/// How much of an answer is read.
const LIMIT_BYTES: usize = 128;

/// How long a greeting is waited for before something is said.
const GREETING_WITHIN: Duration = Duration::from_millis(700);

/// `SSLRequest`, which a PostgreSQL server answers with one byte before anybody has said who they are (PostgreSQL's manual,
/// "Message Formats").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A database that answered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum DatabaseAnswer {
    /// PostgreSQL, and whether it takes TLS.
    PostgreSql {
        /// Whether it takes TLS.
        has_tls: bool,
    },
    /// MySQL or MariaDB, by its greeting.
    MySql {
        /// The version that it says; none where it lets this address in no further.
        version: Option<String>,
    },
    /// Redis, or what speaks like it.
    Redis {
        /// Whether it does what is asked without a password.
        is_open: bool,
    },
}

impl fmt::Display for DatabaseAnswer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PostgreSql { has_tls: true } => formatter.write_str("PostgreSQL, with TLS"),
            Self::PostgreSql { has_tls: false } => formatter.write_str("PostgreSQL, without TLS"),
            Self::MySql { version: Some(version) } => write!(formatter, "MySQL {version}"),
            Self::MySql { version: None } => formatter.write_str("MySQL, which refuses this address"),
            Self::Redis { is_open: true } => formatter.write_str("Redis, without a password"),
            Self::Redis { is_open: false } => formatter.write_str("Redis, which asks for a password"),
        }
    }
}

/// Says which database answers this computer at an address, if one does.
///
/// # Cancel safety
/// The connections are closed.
pub async fn database_from_here(address: SocketAddr, wait: Duration) -> Option<DatabaseAnswer> {
    let open = async || {
        let stream = tokio::time::timeout(wait, TcpStream::connect(address)).await.ok()?.ok()?;
        Some(Box::new(stream) as Box<dyn ByteStream>)
    };
    identify(open, wait).await
}

impl EngineHost {
    /// Says which database answers this host at an address, if one does.
    ///
    /// # Cancel safety
    /// The connections are closed.
    pub async fn database_from(&self, address: SocketAddr, wait: Duration) -> Option<DatabaseAnswer> {
        let ip = address.ip().to_string();
        let open = async || {
            // A connection of its own may take a few round trips before that of the database.
            let limit = wait.saturating_mul(4);
            tokio::time::timeout(limit, self.open_port(&ip, address.port())).await.ok()?.ok()
        };
        identify(open, wait).await
    }
}

async fn identify(
    open: impl AsyncFn() -> Option<Box<dyn ByteStream>>,
    wait: Duration,
) -> Option<DatabaseAnswer> {
    let mut stream = open().await?;
    let greeting = read(&mut stream, GREETING_WITHIN.min(wait)).await;
    match greeting.as_deref() {
        // Nothing yet: the other side waits for us to begin.
        None => {}
        Some(greeting) => return mysql(greeting),
    }
    if let Some(answer) = ask(&mut stream, &SSL_REQUEST, wait).await
        && let Some(found) = postgres(&answer)
    {
        return Some(found);
    }
    let mut stream = open().await?;
    ask(&mut stream, b"PING\r\n", wait).await.and_then(|answer| redis(&answer))
}

async fn ask(stream: &mut Box<dyn ByteStream>, question: &[u8], wait: Duration) -> Option<Vec<u8>> {
    tokio::time::timeout(wait, stream.write_all(question)).await.ok()?.ok()?;
    read(stream, wait).await
}

/// Reads what comes first, up to a limit; none where nothing came in time. An end is an empty answer.
async fn read(stream: &mut Box<dyn ByteStream>, wait: Duration) -> Option<Vec<u8>> {
    let mut buffer = [0; LIMIT_BYTES];
    let count = tokio::time::timeout(wait, stream.read(&mut buffer)).await.ok()?.ok()?;
    buffer.get(..count).map(<[u8]>::to_vec)
}

/// The first packet: three bytes of length, the number 0, then 10 and the version, or 255 and an error (MySQL's manual,
/// "Protocol::Handshake").
fn mysql(greeting: &[u8]) -> Option<DatabaseAnswer> {
    match greeting {
        [length, 0, 0, 0, 10, rest @ ..] if usize::from(*length) > 20 => {
            let version = rest.split(|byte| *byte == 0).next()?;
            let is_version = version.len() <= 64 && version.iter().all(u8::is_ascii_graphic);
            let version =
                String::from_utf8(version.to_vec()).ok().filter(|text| is_version && !text.is_empty());
            version.map(|version| DatabaseAnswer::MySql { version: Some(version) })
        }
        [_, 0, 0, 0, 255, low, high, ..] if (1000..5000).contains(&u16::from_le_bytes([*low, *high])) => {
            Some(DatabaseAnswer::MySql { version: None })
        }
        _ => None,
    }
}

fn postgres(answer: &[u8]) -> Option<DatabaseAnswer> {
    match answer {
        b"S" => Some(DatabaseAnswer::PostgreSql { has_tls: true }),
        b"N" => Some(DatabaseAnswer::PostgreSql { has_tls: false }),
        _ => None,
    }
}

fn redis(answer: &[u8]) -> Option<DatabaseAnswer> {
    let is = |start: &[u8]| answer.starts_with(start);
    match () {
        () if is(b"+PONG") => Some(DatabaseAnswer::Redis { is_open: true }),
        // Without a password, but only for its own host: protected mode.
        () if is(b"-NOAUTH") || is(b"-DENIED") => Some(DatabaseAnswer::Redis { is_open: false }),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Serves two connections: a greeting, and an answer to each question that is known.
    async fn found(
        greeting: &'static [u8],
        answers: &'static [(&'static [u8], &'static [u8])],
    ) -> Option<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let mut heard: Vec<u8> = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(greeting).await.unwrap();
                let mut buffer = [0; 64];
                let count = stream.read(&mut buffer).await.unwrap_or_default();
                heard.extend(&buffer[..count]);
                assert!(heard.len() <= SSL_REQUEST.len() + 6, "no more is said than that: {heard:?}");
                if let Some((_, answer)) = answers.iter().find(|(question, _)| *question == &buffer[..count])
                {
                    stream.write_all(answer).await.unwrap();
                    // Whoever asks hangs up first.
                    let more = stream.read(&mut buffer).await.unwrap_or_default();
                    heard.extend(&buffer[..more]);
                }
            }
        };
        let client = database_from_here(address, Duration::from_secs(5));
        tokio::select! {
            found = client => found.map(|answer| answer.to_string()),
            () = server => None,
        }
    }

    #[tokio::test]
    async fn databases_are_told_by_what_they_answer() {
        let greeting = b"\x4a\x00\x00\x00\x0a8.0.36\x00\x08\x00\x00\x00abcdefgh\x00";
        assert_eq!(found(greeting, &[]).await.as_deref(), Some("MySQL 8.0.36"));
        let refused = b"\x45\x00\x00\x00\xff\x6a\x04Host 'x' is not allowed";
        assert_eq!(found(refused, &[]).await.as_deref(), Some("MySQL, which refuses this address"));
        assert_eq!(found(b"", &[(&SSL_REQUEST, b"S")]).await.as_deref(), Some("PostgreSQL, with TLS"));
        assert_eq!(found(b"", &[(&SSL_REQUEST, b"N")]).await.as_deref(), Some("PostgreSQL, without TLS"));
        let redis = |answer| -> &'static [(&'static [u8], &'static [u8])] { answer };
        let open = redis(&[(b"PING\r\n", b"+PONG\r\n")]);
        assert_eq!(found(b"", open).await.as_deref(), Some("Redis, without a password"));
        let closed = redis(&[(b"PING\r\n", b"-NOAUTH Authentication required.\r\n")]);
        assert_eq!(found(b"", closed).await.as_deref(), Some("Redis, which asks for a password"));
    }

    #[tokio::test]
    async fn what_is_no_database_is_none() {
        assert_eq!(found(b"SSH-2.0-OpenSSH_9.2\r\n", &[]).await, None);
        assert_eq!(found(b"", &[(b"PING\r\n", b"HTTP/1.1 400 Bad Request\r\n")]).await, None);
        assert_eq!(found(b"\x4a\x00\x00\x00\x0a\x1b[31m-a-terminal-is-not-coloured\x00", &[]).await, None);
    }
}

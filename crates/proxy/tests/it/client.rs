//! A client that says exactly what a test wants and reads strictly what comes back.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than anything here takes; a test that reaches it has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Waits for what must happen soon.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(LIMIT, future).await.expect("took too long")
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// One connection to the proxy.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) async fn open(port: u16) -> Self {
        let stream = soon(TcpStream::connect(("127.0.0.1", port))).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    pub(crate) async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(text.as_ref()).await.unwrap();
    }

    /// Sends a `GET` and reads the answer.
    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")).await;
        self.reply().await
    }

    pub(crate) async fn reply(&mut self) -> Reply {
        soon(self.try_reply("GET")).await.expect("no whole answer")
    }

    pub(crate) async fn head_reply(&mut self) -> Reply {
        soon(self.try_reply("HEAD")).await.expect("no whole answer")
    }

    pub(crate) async fn head(&mut self) -> Option<String> {
        let mut head = String::new();
        loop {
            let length = self.stream.read_line(&mut head).await.ok()?;
            if length == 0 {
                return None;
            }
            if head.ends_with("\r\n\r\n") {
                return Some(head);
            }
        }
    }

    /// Reads an answer; none where the connection ends before the answer does.
    pub(crate) async fn try_reply(&mut self, method: &str) -> Option<Reply> {
        let head = self.head().await?;
        let status = head.get(9..12)?.parse().ok()?;
        let mut reply = Reply { status, head, body: Vec::new(), trailers: String::new() };
        if method == "HEAD" || status == 204 || status == 304 || status < 200 {
            return Some(reply);
        }
        if reply.header("transfer-encoding") == Some("chunked") {
            loop {
                let chunk = self.chunk().await?;
                if chunk.is_empty() {
                    break;
                }
                reply.body.extend_from_slice(&chunk);
            }
            loop {
                let mut line = String::new();
                self.stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
                if line == "\r\n" {
                    return Some(reply);
                }
                reply.trailers.push_str(&line);
            }
        }
        match reply.header("content-length").map(|length| length.parse().unwrap()) {
            Some(length) => {
                reply.body = vec![0; length];
                self.stream.read_exact(&mut reply.body).await.ok()?;
            }
            None => drop(self.stream.read_to_end(&mut reply.body).await.ok()?),
        }
        Some(reply)
    }

    /// Reads one chunk; empty for the last one.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
        if size == 0 {
            return Some(Vec::new());
        }
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk).await.ok()?;
        assert!(chunk.ends_with(b"\r\n"));
        chunk.truncate(size);
        Some(chunk)
    }

    /// Says whether the proxy closes the connection, having sent nothing more.
    pub(crate) async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        matches!(soon(self.stream.read(&mut byte)).await, Ok(0) | Err(_))
    }
}

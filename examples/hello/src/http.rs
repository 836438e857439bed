use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The most that a request's line and headers may take.
const HEAD_LIMIT: usize = 64 * 1024;

/// A connection with what was read from it and not used yet.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

/// The line and the headers of a request.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) path: String,
    query: String,
    is_http_1_0: bool,
    headers: Vec<(String, String)>,
}

/// An answer with its whole body.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn text(status: u16, body: impl Into<String>) -> Self {
        let kind = ("Content-Type", "text/plain; charset=utf-8".to_owned());
        Self { status, headers: vec![kind], body: body.into() }
    }

    pub(crate) fn html(body: String) -> Self {
        Self { status: 200, headers: vec![("Content-Type", "text/html; charset=utf-8".to_owned())], body }
    }
}

impl Head {
    /// Makes one of what another protocol than HTTP/1 has told.
    pub(crate) fn new(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (method, path, query) = (method.to_owned(), path.to_owned(), query.to_owned());
        Self { method, path, query, is_http_1_0: false, headers: Vec::new() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let is_it = |header: &&(String, String)| header.0.eq_ignore_ascii_case(name);
        self.headers.iter().find(is_it).map(|header| header.1.as_str())
    }

    /// Returns the value of a parameter in the query, as it stands there.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|pair| pair.0 == name)
            .map(|pair| pair.1)
    }

    pub(crate) fn wants_close(&self) -> bool {
        let connection = self.header("Connection").unwrap_or_default();
        let says = |word: &str| connection.split(',').any(|part| part.trim().eq_ignore_ascii_case(word));
        says("close") || (self.is_http_1_0 && !says("keep-alive"))
    }
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).ok();
        Self { stream, buffer: Vec::new() }
    }

    /// Whether nothing of a next request has come yet.
    pub(crate) fn is_idle(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Reads the next head; `None` when the client has closed. What was read stays when this is dropped.
    pub(crate) async fn read_head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some((length, head)) = parse(&self.buffer)? {
                self.buffer.drain(..length);
                return Ok(Some(head));
            }
            if self.buffer.len() > HEAD_LIMIT {
                return Err(io::Error::other("the head is too long"));
            }
            if self.fill().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads a request's body to its end and returns its length in bytes.
    pub(crate) async fn read_body(&mut self, head: &Head) -> io::Result<u64> {
        let expects = head.header("Expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        if expects {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        if head.header("Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return self.read_chunks().await;
        }
        let length = head.header("Content-Length").map_or(Ok(0), str::parse).map_err(io::Error::other)?;
        self.skip(length).await?;
        Ok(length)
    }

    async fn read_chunks(&mut self) -> io::Result<u64> {
        let mut total = 0;
        loop {
            let line = self.read_line().await?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let length = u64::from_str_radix(digits, 16).map_err(io::Error::other)?;
            if length == 0 {
                while !self.read_line().await?.is_empty() {}
                return Ok(total);
            }
            self.skip(length).await?;
            self.read_line().await?;
            total += length;
        }
    }

    async fn read_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            self.fill_more().await?;
        }
    }

    async fn skip(&mut self, mut length: u64) -> io::Result<()> {
        while length > 0 {
            if self.buffer.is_empty() {
                self.fill_more().await?;
            }
            let here = usize::try_from(length).unwrap_or(usize::MAX).min(self.buffer.len());
            self.buffer.drain(..here);
            length -= u64::try_from(here).unwrap_or(0);
        }
        Ok(())
    }

    /// Reads exactly so many bytes.
    pub(crate) async fn read_exact(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill_more().await?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    async fn fill_more(&mut self) -> io::Result<()> {
        if self.fill().await? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(16 * 1024);
        self.stream.read_buf(&mut self.buffer).await
    }

    /// Writes an answer; the body stays away for HEAD.
    pub(crate) async fn write(&mut self, response: &Response, is_head: bool, closes: bool) -> io::Result<()> {
        let mut text = format!("HTTP/1.1 {} {}\r\n", response.status, reason(response.status));
        for (name, value) in &response.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("Content-Length: {}\r\n", response.body.len()));
        text.push_str(if closes { "Connection: close\r\n\r\n" } else { "\r\n" });
        if !is_head {
            text.push_str(&response.body);
        }
        self.stream.write_all(text.as_bytes()).await
    }
}

fn parse(bytes: &[u8]) -> io::Result<Option<(usize, Head)>> {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let target = request.path.unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let header = |header: &httparse::Header<'_>| {
        (header.name.to_owned(), String::from_utf8_lossy(header.value).trim().to_owned())
    };
    let head = Head {
        method: request.method.unwrap_or("GET").to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        is_http_1_0: request.version == Some(0),
        headers: request.headers.iter().map(header).collect(),
    };
    Ok(Some((length, head)))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        400 => "Bad Request",
        404 => "Not Found",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Answer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn connection(bytes: &'static [u8]) -> Connection {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(bytes).await.unwrap();
        Connection::new(listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn counts_a_body_by_length_and_by_chunks_and_finds_the_next_request() {
        let mut connection = connection(
            b"POST /upload?a=1&b=2 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloPOST /upload HTTP/1.1\r\n\
              Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\na\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n\
              GET / HTTP/1.0\r\n\r\n",
        )
        .await;
        let head = connection.read_head().await.unwrap().unwrap();
        assert_eq!((head.parameter("b"), head.parameter("c")), (Some("2"), None));
        assert!(!head.wants_close());
        assert_eq!(connection.read_body(&head).await.unwrap(), 5);
        let head = connection.read_head().await.unwrap().unwrap();
        assert_eq!(connection.read_body(&head).await.unwrap(), 13);
        let head = connection.read_head().await.unwrap().unwrap();
        assert_eq!(head.path, "/");
        assert!(head.wants_close());
        assert!(connection.is_idle());
    }
}

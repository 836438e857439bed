use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Why a request counts as failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("closed before an answer: {0}")]
    NoAnswer(io::Error),
    #[error("closed in the middle of an answer: {0}")]
    HalfAnswer(io::Error),
    #[error("status {0}")]
    Status(u16),
    #[error("not an answer: {0}")]
    Malformed(String),
    #[error("another answer than expected: `{0}`")]
    WrongAnswer(String),
    #[error("no answer in {0:?}")]
    TooSlow(Duration),
}

/// An HTTP/1.1 client connection without any mercy: it reconnects, retries and follows nothing by itself.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Whether an answer came over it already.
    pub(super) is_used: bool,
    /// Whether the server said that it closes it.
    pub(super) is_closing: bool,
}

/// A whole answer with status 200 or 101.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let is_it = |header: &&(String, String)| header.0.eq_ignore_ascii_case(name);
        self.headers.iter().find(is_it).map(|header| header.1.as_str())
    }

    pub(super) fn version(&self) -> Option<String> {
        self.header("X-Hello-Version").map(str::to_owned)
    }
}

impl Connection {
    pub(super) async fn open(target: SocketAddr) -> Result<Self, RequestError> {
        let stream = TcpStream::connect(target).await.map_err(RequestError::Connect)?;
        stream.set_nodelay(true).map_err(RequestError::Connect)?;
        Ok(Self { stream, buffer: Vec::new(), is_used: false, is_closing: false })
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), RequestError> {
        self.stream.write_all(bytes).await.map_err(RequestError::NoAnswer)
    }

    /// Reads the answer to what was sent, to its end.
    pub(super) async fn answer(&mut self) -> Result<Answer, RequestError> {
        let (status, headers) = self.head().await?;
        let mut answer = Answer { headers, body: Vec::new() };
        let says = |name, word| answer.header(name).is_some_and(|value| value.eq_ignore_ascii_case(word));
        self.is_used = true;
        self.is_closing = says("Connection", "close");
        if status != 101 {
            answer.body = if says("Transfer-Encoding", "chunked") {
                self.chunks().await?
            } else if let Some(length) = answer.header("Content-Length") {
                let length = length.parse().map_err(|_| RequestError::Malformed(length.to_owned()))?;
                self.exactly(length).await?
            } else {
                self.is_closing = true;
                self.rest().await?
            };
        }
        if status == 200 || status == 101 { Ok(answer) } else { Err(RequestError::Status(status)) }
    }

    async fn head(&mut self) -> Result<(u16, Vec<(String, String)>), RequestError> {
        loop {
            if let Some((length, status, headers)) = parse(&self.buffer)? {
                self.buffer.drain(..length);
                // An interim answer: the real one follows.
                if (100..200).contains(&status) && status != 101 {
                    continue;
                }
                return Ok((status, headers));
            }
            let is_begun = !self.buffer.is_empty();
            self.fill().await.map_err(if is_begun {
                RequestError::HalfAnswer
            } else {
                RequestError::NoAnswer
            })?;
        }
    }

    async fn chunks(&mut self) -> Result<Vec<u8>, RequestError> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let length =
                usize::from_str_radix(digits, 16).map_err(|_| RequestError::Malformed(line.clone()))?;
            if length == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.exactly(length).await?);
            self.exactly(2).await?;
        }
    }

    async fn line(&mut self) -> Result<String, RequestError> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            self.fill().await.map_err(RequestError::HalfAnswer)?;
        }
    }

    pub(super) async fn exactly(&mut self, length: usize) -> Result<Vec<u8>, RequestError> {
        while self.buffer.len() < length {
            self.fill().await.map_err(RequestError::HalfAnswer)?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    async fn rest(&mut self) -> Result<Vec<u8>, RequestError> {
        loop {
            match self.fill().await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(std::mem::take(&mut self.buffer));
                }
                Err(error) => return Err(RequestError::HalfAnswer(error)),
            }
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

type ParsedHead = (usize, u16, Vec<(String, String)>);

fn parse(bytes: &[u8]) -> Result<Option<ParsedHead>, RequestError> {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|error| RequestError::Malformed(error.to_string()))?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let header = |header: &httparse::Header<'_>| {
        (header.name.to_owned(), String::from_utf8_lossy(header.value).trim().to_owned())
    };
    Ok(Some((length, response.code.unwrap_or_default(), response.headers.iter().map(header).collect())))
}

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tower_service::Service;

/// A connection to an engine: bytes both ways.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + ?Sized> ByteStream for T {}

/// Opens connections to one engine: its socket on this machine, or the same socket through SSH.
#[async_trait]
pub trait Dial: Send + Sync {
    /// Opens a new connection to the engine's API.
    ///
    /// # Errors
    /// Whatever kept the connection from being made.
    ///
    /// # Cancel safety
    /// Dropping the future must abandon the attempt.
    async fn dial(&self) -> std::io::Result<Box<dyn ByteStream>>;
}

/// Dials a socket of this machine.
#[derive(Debug, Clone)]
pub struct UnixSocket(PathBuf);

impl UnixSocket {
    /// Names the socket by its path.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
}

#[async_trait]
impl Dial for UnixSocket {
    async fn dial(&self) -> std::io::Result<Box<dyn ByteStream>> {
        Ok(Box::new(UnixStream::connect(&self.0).await?))
    }
}

/// How long the engine may take. Every wait for it is bounded by one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadlines {
    /// For opening a connection.
    pub connect: Duration,
    /// For an ordinary request, until its answer is read.
    pub request: Duration,
    /// For the next bytes while an image is on its way, in either direction.
    pub transfer_idle: Duration,
    /// For a whole build.
    pub build: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            request: Duration::from_secs(60),
            transfer_idle: Duration::from_secs(300),
            build: Duration::from_secs(3600),
        }
    }
}

/// Dials with a deadline.
pub(crate) async fn dial(dial: &dyn Dial, limit: Duration) -> std::io::Result<Box<dyn ByteStream>> {
    match tokio::time::timeout(limit, dial.dial()).await {
        Ok(stream) => stream,
        Err(_) => Err(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no connection within {} s", limit.as_secs_f32()),
        )),
    }
}

/// The connector of the pooled client.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) limit: Duration,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<EngineStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let Self { dial: dialler, limit } = self.clone();
        Box::pin(async move { Ok(TokioIo::new(EngineStream(dial(dialler.as_ref(), limit).await?))) })
    }
}

pub(crate) struct EngineStream(Box<dyn ByteStream>);

impl Connection for EngineStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for EngineStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for EngineStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

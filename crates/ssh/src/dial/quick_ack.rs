use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A TCP stream that acknowledges at once what it has read.
///
/// An OpenSSH server sets `TCP_NODELAY` only once a session runs a command. Until then its Nagle algorithm and our
/// delayed acknowledgement wait for each other, 40 ms for each burst of small messages. Linux clears the option by
/// itself, so it is set after every read.
#[derive(Debug)]
pub(super) struct QuickAck(TcpStream);

impl QuickAck {
    pub(super) fn new(stream: TcpStream) -> Self {
        let stream = Self(stream);
        stream.arm();
        stream
    }

    #[cfg(target_os = "linux")]
    fn arm(&self) {
        // A kernel that refuses costs time only.
        drop(socket2::SockRef::from(&self.0).set_tcp_quickack(true));
    }

    #[cfg(not(target_os = "linux"))]
    fn arm(&self) {}
}

impl AsyncRead for QuickAck {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.0).poll_read(context, buffer);
        if matches!(read, Poll::Ready(Ok(()))) {
            self.arm();
        }
        read
    }
}

impl AsyncWrite for QuickAck {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

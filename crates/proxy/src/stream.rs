//! A client's connection, plain or encrypted, and its two halves.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio_rustls::server::TlsStream;

/// A client's connection.
#[derive(Debug)]
pub(crate) enum ClientStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

type Shared<'a> = Rc<RefCell<&'a mut TlsStream<TcpStream>>>;

/// The receiving half.
pub(crate) enum ClientReader<'a> {
    Plain(ReadHalf<'a>),
    Tls(Shared<'a>),
}

/// The sending half.
pub(crate) enum ClientWriter<'a> {
    Plain(WriteHalf<'a>),
    Tls(Shared<'a>),
}

impl ClientStream {
    /// Says whether what goes over it is encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Returns the connection below.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Parts it for as long as both halves are needed. No half is held while the other one waits: both are used by one task.
    pub(crate) fn split(&mut self) -> (ClientReader<'_>, ClientWriter<'_>) {
        match self {
            Self::Plain(stream) => {
                let (reader, writer) = stream.split();
                (ClientReader::Plain(reader), ClientWriter::Plain(writer))
            }
            Self::Tls(stream) => {
                let shared: Shared<'_> = Rc::new(RefCell::new(stream));
                (ClientReader::Tls(Rc::clone(&shared)), ClientWriter::Tls(shared))
            }
        }
    }
}

impl<'a> ClientReader<'a> {
    /// Returns the connection below, where nothing is between it and what is sent.
    pub(crate) fn plain(&mut self) -> Option<&mut ReadHalf<'a>> {
        match self {
            Self::Plain(reader) => Some(reader),
            Self::Tls(_) => None,
        }
    }

    /// Sends a few bytes on the other half, which nothing else uses yet.
    pub(crate) async fn send_aside(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(reader) => {
                let stream: &TcpStream = reader.as_ref();
                while !bytes.is_empty() {
                    stream.writable().await?;
                    match stream.try_write(bytes) {
                        Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            }
            Self::Tls(shared) => crate::inlet::send(&mut ClientWriter::Tls(Rc::clone(shared)), bytes).await,
        }
    }
}

impl AsyncRead for ClientReader<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(reader) => Pin::new(reader).poll_read(context, buffer),
            Self::Tls(shared) => Pin::new(&mut **shared.borrow_mut()).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for ClientWriter<'_> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(writer) => Pin::new(writer).poll_write(context, bytes),
            Self::Tls(shared) => Pin::new(&mut **shared.borrow_mut()).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(writer) => Pin::new(writer).poll_flush(context),
            Self::Tls(shared) => Pin::new(&mut **shared.borrow_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(writer) => Pin::new(writer).poll_shutdown(context),
            Self::Tls(shared) => Pin::new(&mut **shared.borrow_mut()).poll_shutdown(context),
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// Says to the other side of an encrypted connection that nothing more comes; costs nothing on a plain one.
pub(crate) async fn say_goodbye(stream: &mut ClientStream) -> io::Result<()> {
    if let ClientStream::Tls(stream) = stream {
        poll_fn(|context| {
            ready!(Pin::new(&mut **stream).poll_shutdown(context))?;
            Poll::Ready(Ok(()))
        })
        .await
    } else {
        Ok(())
    }
}

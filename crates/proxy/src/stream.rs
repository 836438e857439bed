//! A client's connection, plain, encrypted or a stream of one, and its two halves.

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

use crate::http2;
use crate::http2::stream::RequestStream;
use crate::inlet::send;

/// A client's connection.
#[derive(Debug)]
pub(crate) enum ClientStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// A stream of a connection by HTTP/2.
    Http2(RequestStream),
}

type Shared<'a> = Rc<RefCell<&'a mut TlsStream<TcpStream>>>;

/// The receiving half.
pub(crate) enum ClientReader<'a> {
    Plain(ReadHalf<'a>),
    Tls(Shared<'a>),
    Http2(&'a RequestStream),
}

/// The sending half.
pub(crate) enum ClientWriter<'a> {
    Plain(WriteHalf<'a>),
    Tls(Shared<'a>),
    Http2(&'a RequestStream),
}

impl ClientStream {
    /// Says whether what goes over it is encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(_) => true,
            Self::Http2(stream) => stream.is_encrypted,
        }
    }

    /// Returns how the log names what is spoken, where that is not told by a request's first line.
    pub(crate) fn protocol(&self) -> Option<&'static str> {
        matches!(self, Self::Http2(_)).then_some(http2::NAME)
    }

    /// Says whether the client has chosen HTTP/2 when the connection was agreed on.
    pub(crate) fn is_agreed_on_http2(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(http2::ALPN),
            Self::Plain(_) | Self::Http2(_) => false,
        }
    }

    /// Says whether the client is known to have given up already.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Http2(stream) if stream.is_gone())
    }

    /// Waits until the client is known to have given up, which tells only a stream of HTTP/2.
    pub(crate) fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(_) | Self::Tls(_) => Poll::Pending,
            Self::Http2(stream) => stream.poll_gone(context),
        }
    }

    /// Ends it so that the client cannot take what it has got for a whole answer.
    pub(crate) fn abort(&mut self) {
        let socket = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
            Self::Http2(stream) => return stream.abort(),
        };
        // A connection that the other side has closed already takes no option, and needs none.
        socket2::SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO)).ok();
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
            Self::Http2(stream) => (ClientReader::Http2(stream), ClientWriter::Http2(stream)),
        }
    }
}

impl<'a> ClientReader<'a> {
    /// Returns the connection below, where nothing is between it and what is sent.
    pub(crate) fn plain(&mut self) -> Option<&mut ReadHalf<'a>> {
        match self {
            Self::Plain(reader) => Some(reader),
            Self::Tls(_) | Self::Http2(_) => None,
        }
    }

    /// Returns the stream of HTTP/2, where it is one.
    pub(crate) fn stream(&self) -> Option<&'a RequestStream> {
        match self {
            Self::Http2(stream) => Some(stream),
            Self::Plain(_) | Self::Tls(_) => None,
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
            Self::Tls(shared) => send(&mut ClientWriter::Tls(Rc::clone(shared)), bytes).await,
            Self::Http2(stream) => send(&mut ClientWriter::Http2(stream), bytes).await,
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
            Self::Http2(stream) => stream.poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for ClientWriter<'_> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(writer) => Pin::new(writer).poll_write(context, bytes),
            Self::Tls(shared) => Pin::new(&mut **shared.borrow_mut()).poll_write(context, bytes),
            Self::Http2(stream) => stream.poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(writer) => Pin::new(writer).poll_flush(context),
            Self::Tls(shared) => Pin::new(&mut **shared.borrow_mut()).poll_flush(context),
            // The connection does that for all of its streams.
            Self::Http2(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(writer) => Pin::new(writer).poll_shutdown(context),
            Self::Tls(shared) => Pin::new(&mut **shared.borrow_mut()).poll_shutdown(context),
            // The connection does that for all of its streams.
            Self::Http2(_) => Poll::Ready(Ok(())),
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
            Self::Http2(stream) => stream.poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Http2(stream) => stream.poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            Self::Http2(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Http2(_) => Poll::Ready(Ok(())),
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

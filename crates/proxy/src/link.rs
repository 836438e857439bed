//! A connection to a target, by HTTP/1.1 or a stream of HTTP/2, and its two halves.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio_rustls::client::TlsStream;

use crate::http2;
use crate::http2::target::AnswerStream;

/// What a connection to a target goes over.
#[derive(Debug)]
pub(crate) enum TargetSocket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection to a target.
#[derive(Debug)]
pub(crate) enum TargetStream {
    Http1(TargetSocket),
    Http2(Box<AnswerStream>),
}

/// An encrypted connection that both halves use; no half is held while the other one waits.
type Shared<'a> = Rc<RefCell<&'a mut TlsStream<TcpStream>>>;

/// The receiving half.
pub(crate) enum TargetReader<'a> {
    Plain(ReadHalf<'a>),
    Tls(Shared<'a>),
    Http2(Rc<RefCell<&'a mut AnswerStream>>),
}

/// The sending half.
pub(crate) enum TargetWriter<'a> {
    Plain(WriteHalf<'a>),
    Tls(Shared<'a>),
    Http2(Rc<RefCell<&'a mut AnswerStream>>),
}

impl TargetSocket {
    /// Returns the connection below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Says whether the target has chosen HTTP/2 when the connection was agreed on.
    pub(crate) fn is_agreed_on_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(http2::ALPN),
        }
    }

    /// Returns the scheme of what is asked for over it.
    pub(crate) fn scheme(&self) -> &'static str {
        match self {
            Self::Plain(_) => "http",
            Self::Tls(_) => "https",
        }
    }

    /// Says whether nothing was received over it that was not read, and no end.
    pub(crate) fn is_drained(&mut self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Tls(stream) => stream
                .get_mut()
                .1
                .process_new_packets()
                .is_ok_and(|state| state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed()),
        }
    }
}

impl TargetStream {
    /// Parts it for as long as both halves are needed; both are used by one task.
    pub(crate) fn split(&mut self) -> (TargetReader<'_>, TargetWriter<'_>) {
        match self {
            Self::Http1(TargetSocket::Plain(stream)) => {
                let (reader, writer) = stream.split();
                (TargetReader::Plain(reader), TargetWriter::Plain(writer))
            }
            Self::Http1(TargetSocket::Tls(stream)) => {
                let shared: Shared<'_> = Rc::new(RefCell::new(stream));
                (TargetReader::Tls(Rc::clone(&shared)), TargetWriter::Tls(shared))
            }
            Self::Http2(stream) => {
                let shared: Rc<RefCell<&mut AnswerStream>> = Rc::new(RefCell::new(stream));
                (TargetReader::Http2(Rc::clone(&shared)), TargetWriter::Http2(shared))
            }
        }
    }
}

impl AsyncRead for TargetReader<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(reader) => Pin::new(reader).poll_read(context, buffer),
            Self::Tls(shared) => Pin::new(&mut **shared.borrow_mut()).poll_read(context, buffer),
            Self::Http2(shared) => shared.borrow_mut().poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for TargetWriter<'_> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(writer) => Pin::new(writer).poll_write(context, bytes),
            Self::Tls(shared) => Pin::new(&mut **shared.borrow_mut()).poll_write(context, bytes),
            Self::Http2(shared) => shared.borrow_mut().poll_write(context, bytes),
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
            Self::Http2(_) => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncRead for TargetSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for TargetSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(context),
        }
    }
}

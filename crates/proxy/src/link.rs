//! A connection to a target, by HTTP/1.1 or a stream of HTTP/2, and its two halves.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::http2::target::AnswerStream;

/// A connection to a target.
#[derive(Debug)]
pub(crate) enum TargetStream {
    Http1(TcpStream),
    Http2(Box<AnswerStream>),
}

/// The receiving half.
pub(crate) enum TargetReader<'a> {
    Http1(ReadHalf<'a>),
    Http2(Rc<RefCell<&'a mut AnswerStream>>),
}

/// The sending half.
pub(crate) enum TargetWriter<'a> {
    Http1(WriteHalf<'a>),
    Http2(Rc<RefCell<&'a mut AnswerStream>>),
}

impl TargetStream {
    /// Parts it for as long as both halves are needed; both are used by one task.
    pub(crate) fn split(&mut self) -> (TargetReader<'_>, TargetWriter<'_>) {
        match self {
            Self::Http1(stream) => {
                let (reader, writer) = stream.split();
                (TargetReader::Http1(reader), TargetWriter::Http1(writer))
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
            Self::Http1(reader) => Pin::new(reader).poll_read(context, buffer),
            Self::Http2(shared) => shared.borrow_mut().poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for TargetWriter<'_> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Http1(writer) => Pin::new(writer).poll_write(context, bytes),
            Self::Http2(shared) => shared.borrow_mut().poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Http1(writer) => Pin::new(writer).poll_flush(context),
            // The connection does that for all of its streams.
            Self::Http2(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Http1(writer) => Pin::new(writer).poll_shutdown(context),
            Self::Http2(_) => Poll::Ready(Ok(())),
        }
    }
}

//! A body that is written as HTTP/1 frames it, sent in frames.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;

use super::head::trailers_of;
use super::{broken, invalid};
use crate::http1::Framing;
use crate::http1::body::Body;

/// How much is sent in one go.
const MAX_PIECE_BYTES: usize = 32 * 1024;

/// The sending side of a stream, behind its head.
#[derive(Debug)]
pub(super) struct Sender {
    stream: SendStream<Bytes>,
    body: Body,
    ended: bool,
}

impl Sender {
    /// Starts behind a head that told of a body of this kind.
    pub(super) fn new(stream: SendStream<Bytes>, framing: Framing) -> Self {
        let body = Body::new(framing);
        let ended = body.is_done();
        Self { stream, body, ended }
    }

    /// Takes some of the bytes, as far as the receiver has room.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Err(invalid("bytes behind the end")));
        }
        let control = self.body.skip_control(bytes).map_err(|_| invalid("framing"))?;
        if self.body.is_done() {
            self.end()?;
        }
        if control > 0 {
            return Poll::Ready(Ok(control));
        }
        let room = ready!(self.poll_room(context, bytes.len().min(MAX_PIECE_BYTES)))?;
        let piece = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        let step = self.body.step(piece).map_err(|_| invalid("framing"))?;
        let data = Bytes::copy_from_slice(piece.get(step.data).unwrap_or_default());
        self.ended = self.body.is_done();
        self.stream.send_data(data, self.ended).map_err(broken)?;
        Poll::Ready(Ok(step.consumed))
    }

    fn end(&mut self) -> io::Result<()> {
        self.ended = true;
        let trailers = self.body.trailers();
        if trailers.is_empty() {
            return self.stream.send_data(Bytes::new(), true).map_err(broken);
        }
        self.stream.send_trailers(trailers_of(trailers)?).map_err(broken)
    }

    fn poll_room(&mut self, context: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        self.stream.reserve_capacity(wanted);
        loop {
            if self.stream.capacity() > 0 {
                return Poll::Ready(Ok(self.stream.capacity()));
            }
            match ready!(self.stream.poll_capacity(context)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }
}

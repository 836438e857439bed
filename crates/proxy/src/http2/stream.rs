//! A client's stream as a connection of HTTP/1.1.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use tokio::io::ReadBuf;

use super::head::{Malformed, response_of, write_request};
use super::meter::Meter;
use super::receive::{Received, Receiver};
use super::transmit::Sender;
use super::{broken, invalid};
use crate::http1::response::{Asked, parse};
use crate::http1::{Framing, slots};

/// A client's stream. One request is read from it, and one answer written to it.
#[derive(Debug)]
pub(crate) struct RequestStream {
    respond: SendResponse<Bytes>,
    receiver: Receiver,
    sender: Option<Sender>,
    is_head: bool,
    pub(crate) is_encrypted: bool,
    meter: Rc<Meter>,
}

impl RequestStream {
    /// Makes one of what a connection has received; a request that is malformed is reset.
    pub(crate) fn new(
        (request, mut respond): (http::Request<RecvStream>, SendResponse<Bytes>),
        is_encrypted: bool,
        meter: Rc<Meter>,
    ) -> Option<Self> {
        let (parts, body) = request.into_parts();
        let mut head = Vec::with_capacity(512);
        let told = match write_request(&parts, body.is_end_stream(), &mut head) {
            Ok(told) => told,
            Err(Malformed) => {
                respond.send_reset(Reason::PROTOCOL_ERROR);
                return None;
            }
        };
        let is_head = parts.method == http::Method::HEAD;
        let receiver = Receiver::new(body, told, head);
        Some(Self { respond, receiver, sender: None, is_head, is_encrypted, meter })
    }

    /// Lets the client know that what it has got is not the whole answer.
    pub(crate) fn abort(&mut self) {
        match &mut self.sender {
            Some(sender) => sender.stream.send_reset(Reason::INTERNAL_ERROR),
            None => self.respond.send_reset(Reason::INTERNAL_ERROR),
        }
    }

    /// Reads the request; behind its end, waits for the client to give up.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(self.receiver.poll_read(context, buffer))? {
            Received::Bytes => Poll::Ready(Ok(())),
            Received::End => {
                let reset = match &mut self.sender {
                    Some(sender) => sender.stream.poll_reset(context),
                    None => self.respond.poll_reset(context),
                };
                reset.map(|reason| reason.map(drop).map_err(broken))
            }
        }
    }

    /// Writes some of the answer.
    pub(crate) fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.sender {
            Some(sender) => {
                let written = ready!(sender.poll_write(context, bytes))?;
                if written.sent {
                    self.meter.answered();
                }
                Poll::Ready(Ok(written.length))
            }
            None => Poll::Ready(self.write_head(bytes)),
        }
    }

    fn write_head(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut slots = slots();
        let asked = Asked { head: self.is_head, get: !self.is_head, websocket: false };
        let response = parse(bytes, &mut slots, asked).map_err(|_| invalid("head"))?;
        // Whoever writes an answer writes its head in one go.
        let response = response.ok_or_else(|| invalid("part of a head"))?;
        let made = response_of(&response, bytes)?;
        let length = response.head_len;
        if response.status < 200 {
            self.respond.send_informational(made).map_err(broken)?;
            return Ok(length);
        }
        let ends = matches!(response.framing, Framing::None | Framing::Length(0));
        let stream = self.respond.send_response(made, ends).map_err(broken)?;
        self.sender = Some(Sender::new(stream, response.framing));
        Ok(length)
    }
}

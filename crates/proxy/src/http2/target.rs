//! A stream to a target that speaks HTTP/2, as a connection of HTTP/1.1.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use tokio::io::ReadBuf;

use super::head::{Prepared, Unsendable, prepare, write_response};
use super::links::Lease;
use super::receive::{Received, Receiver};
use super::transmit::Sender;
use super::{broken, invalid};
use crate::http1::Framing;

/// A stream to a target. One request is written to it, and one answer read from it.
#[derive(Debug)]
pub(crate) struct AnswerStream {
    requests: SendRequest<Bytes>,
    scheme: &'static str,
    /// The head, until it is sent.
    prepared: Option<Box<Prepared>>,
    sender: Option<Sender>,
    answer: Answer,
    is_head: bool,
    _lease: Option<Lease>,
}

#[derive(Debug)]
enum Answer {
    /// Nothing was asked yet.
    Unasked,
    Awaited {
        response: ResponseFuture,
        /// Interim heads that are to be read.
        interim: Vec<u8>,
    },
    Coming(Box<Receiver>),
}

impl AnswerStream {
    /// Makes one on a connection that has room for it.
    pub(crate) fn new(requests: SendRequest<Bytes>, scheme: &'static str, lease: Option<Lease>) -> Self {
        Self {
            requests,
            scheme,
            prepared: None,
            sender: None,
            answer: Answer::Unasked,
            is_head: false,
            _lease: lease,
        }
    }

    /// Writes some of the request.
    pub(crate) fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(sender) = &mut self.sender {
            return sender.poll_write(context, bytes);
        }
        ready!(self.requests.poll_ready(context)).map_err(broken)?;
        Poll::Ready(self.send_head())
    }

    /// Takes the head that is written first, before anything is sent: what the target cannot be told is no fault of its.
    ///
    /// # Errors
    /// The head cannot be told by HTTP/2.
    pub(crate) fn prepare(&mut self, head: &[u8]) -> Result<(), Unsendable> {
        self.prepared = Some(Box::new(prepare(head, self.scheme)?));
        Ok(())
    }

    fn send_head(&mut self) -> io::Result<usize> {
        let prepared = self.prepared.take().ok_or_else(|| invalid("no head"))?;
        let Prepared { request, framing, is_head, length } = *prepared;
        self.is_head = is_head;
        let ends = matches!(framing, Framing::None | Framing::Length(0));
        let (response, stream) = self.requests.send_request(request, ends).map_err(broken)?;
        self.sender = Some(Sender::new(stream, framing));
        self.answer = Answer::Awaited { response, interim: Vec::new() };
        Ok(length)
    }

    /// Reads some of the answer; nothing behind its end.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match &mut self.answer {
                // Reading and writing are polled by one task, so that nobody need be woken.
                Answer::Unasked => return Poll::Pending,
                Answer::Awaited { interim, .. } if !interim.is_empty() => {
                    let length = interim.len().min(buffer.remaining());
                    buffer.put_slice(interim.get(..length).unwrap_or_default());
                    interim.drain(..length);
                    return Poll::Ready(Ok(()));
                }
                Answer::Awaited { response, interim } => {
                    if let Poll::Ready(Some(head)) = response.poll_informational(context) {
                        write_response(&head.map_err(broken)?.into_parts().0, (true, false), interim);
                        continue;
                    }
                    let answer = ready!(Pin::new(response).poll(context)).map_err(broken)?;
                    let (parts, body) = answer.into_parts();
                    let mut head = Vec::with_capacity(512);
                    let told = write_response(&parts, (body.is_end_stream(), self.is_head), &mut head);
                    self.answer = Answer::Coming(Box::new(Receiver::new(body, told, head)));
                }
                Answer::Coming(receiver) => {
                    let received = ready!(receiver.poll_read(context, buffer))?;
                    debug_assert!(received == Received::End || !buffer.filled().is_empty());
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

//! A client's stream as a connection of HTTP/1.1.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

use super::invalid;
use super::session::Session;
use crate::http1::body::Body;

/// A client's stream. One request is read from it, and one answer written to it.
#[derive(Debug)]
pub(crate) struct RequestStream {
    session: Rc<RefCell<Session>>,
    id: u32,
    is_head: bool,
    pub(crate) is_encrypted: bool,
    /// The body of the answer, behind its head.
    body: RefCell<Option<Body>>,
}

impl RequestStream {
    /// Makes one of a request that a connection has received.
    pub(super) fn new(session: Rc<RefCell<Session>>, id: u32, (is_head, is_encrypted): (bool, bool)) -> Self {
        Self { session, id, is_head, is_encrypted, body: RefCell::new(None) }
    }

    /// Lets the client know that what it has got is not the whole answer.
    pub(crate) fn abort(&self) {
        self.session.borrow_mut().abort(self.id);
    }

    /// Says whether the client has given up.
    pub(crate) fn is_gone(&self) -> bool {
        self.session.borrow_mut().is_gone(self.id)
    }

    /// Waits for the client to give up.
    pub(crate) fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        self.session.borrow_mut().poll_gone(self.id, context)
    }

    /// Reads the request; behind its end, waits for the client to give up.
    pub(crate) fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.session.borrow_mut().poll_read(self.id, context, buffer)
    }

    /// Writes some of the answer.
    pub(crate) fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut session = self.session.borrow_mut();
        let mut body = self.body.borrow_mut();
        let Some(body) = body.as_mut() else {
            ready!(session.poll_room_for_head(self.id, context))?;
            let answer = session.send_head(self.id, self.is_head, bytes)?;
            if answer.status >= 200 {
                *body = Some(Body::new(answer.framing));
            }
            return Poll::Ready(Ok(answer.length));
        };
        if body.is_done() {
            return Poll::Ready(Err(invalid("bytes behind the end")));
        }
        let control = body.skip_control(bytes).map_err(|_| invalid("framing"))?;
        if body.is_done() {
            session.send_end(self.id, body.trailers())?;
        }
        if control > 0 {
            return Poll::Ready(Ok(control));
        }
        let room = ready!(session.poll_room(self.id, context))?;
        let step = body.step(bytes.get(..room).unwrap_or(bytes)).map_err(|_| invalid("framing"))?;
        // Where nothing but the end follows, the last frame tells of it.
        let rest = bytes.get(step.consumed..).unwrap_or_default();
        let control = body.skip_control(rest).map_err(|_| invalid("framing"))?;
        let ends = body.is_done() && body.trailers().is_empty();
        session.send_data(self.id, bytes.get(step.data).unwrap_or_default(), ends);
        if body.is_done() && !ends {
            session.send_end(self.id, body.trailers())?;
        }
        Poll::Ready(Ok(step.consumed + control))
    }
}

impl Drop for RequestStream {
    fn drop(&mut self) {
        self.session.borrow_mut().forget(self.id);
    }
}

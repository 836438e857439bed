//! One client's connection by HTTP/2: its streams side by side until it ends.
//!
//! Everything runs in the connection's one task: it reads what has come, lets the streams run that have something to do, and
//! sends at once what all of them have written meanwhile.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use freehold_wire::Reason;
use futures_util::Stream as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::{Code, FrameHead, HEAD_BYTES, MAX_PAYLOAD_BYTES, kind};
use super::session::{Arrived, Fault, Request, Session};
use super::stream::RequestStream;
use super::{NAME, PREFACE};
use crate::access::{Peer, Record};
use crate::inlet::Inlet;
use crate::limits::Limits;
use crate::log::field;
use crate::serve::{Connection, refuse_stream, serve_stream};
use crate::stream::ClientStream;
use crate::watch::{Phase, Signal, Watch};
use crate::worker::Worker;

/// What happens on a connection.
#[derive(Debug)]
enum Event {
    /// It is over.
    Closed,
    /// The client has broken the rules.
    Faulty(Fault),
    /// All streams of a connection that ends with them have ended.
    Drained,
}

/// How far the end of a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The client was told that no further request is taken.
    Leaving,
    /// The connection ends with the streams, which were all told to end.
    Cut,
    /// The connection is being closed: what waits is sent.
    Shut,
    /// Our side has ended. What still comes is thrown away, so that no reset overtakes what was sent last.
    Lingering,
}

/// Serves a connection to its end.
pub(crate) async fn serve(connection: Connection) {
    let Connection { client, peer, inlet, worker, watch } = connection;
    let is_encrypted = client.is_encrypted();
    let session = Rc::new(RefCell::new(Session::new(Instant::now())));
    watch.enter(Phase::Idle, 0);
    watch.arm(worker.limits.head);
    let driver = Driver {
        client,
        inlet,
        session,
        streams: FuturesUnordered::new(),
        watch,
        worker,
        peer,
        is_encrypted,
        state: State::Open,
        is_greeted: false,
        is_idle: false,
        head_after: 0,
        needs_flush: false,
    };
    driver.run().await;
}

/// A connection whose frames are read.
struct Driver {
    client: ClientStream,
    inlet: Inlet,
    session: Rc<RefCell<Session>>,
    streams: FuturesUnordered<Pin<Box<dyn Future<Output = ()>>>>,
    watch: Rc<Watch>,
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    is_encrypted: bool,
    state: State,
    /// The preface has come.
    is_greeted: bool,
    /// The deadline is that of a connection that waits.
    is_idle: bool,
    /// The last stream before the head that the deadline is for.
    head_after: u32,
    needs_flush: bool,
}

impl Driver {
    async fn run(mut self) {
        if self.worker.is_quitting() {
            self.leave();
        }
        let watch = Rc::clone(&self.watch);
        loop {
            match watch.guard(poll_fn(|context| self.poll_event(context))).await {
                Ok(Event::Closed) => break,
                Ok(Event::Faulty(fault)) => self.fail(fault),
                Ok(Event::Drained) => self.shut(Code::NoError),
                Err(Signal::Quit) => self.leave(),
                // A second time: the client does not go.
                Err(Signal::Expired) if self.is_ending() => break,
                Err(Signal::Expired) if self.is_in_head() => {
                    self.log(Reason::ClientTimeout, "a head that does not end");
                    self.shut(Code::EnhanceYourCalm);
                }
                Err(Signal::Expired) => self.shut(Code::NoError),
                // Each stream is interrupted by itself and says so to the client.
                Err(Signal::Cut) if self.is_ending() => {}
                Err(Signal::Cut) => self.state = State::Cut,
            }
        }
        // Streams that are left find their client gone.
        self.session.borrow_mut().end();
        let Self { client, mut streams, .. } = self;
        drop(client);
        while poll_fn(|context| Pin::new(&mut streams).poll_next(context)).await.is_some() {}
    }

    fn is_ending(&self) -> bool {
        matches!(self.state, State::Shut | State::Lingering)
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        loop {
            let mut again = false;
            if !self.is_ending() {
                match self.poll_input(context) {
                    Poll::Ready(Ok(true)) => again = true,
                    Poll::Ready(Ok(false)) => {
                        // A client that has nothing more to say is gone.
                        self.session.borrow_mut().end();
                        self.state = State::Shut;
                        self.watch.arm(self.worker.limits.linger);
                    }
                    Poll::Ready(Err(fault)) => return Poll::Ready(Event::Faulty(fault)),
                    Poll::Pending => {}
                }
            }
            // Nothing is read then until some of it was sent.
            let was_clogged = self.session.borrow().is_clogged();
            while let Poll::Ready(Some(())) = Pin::new(&mut self.streams).poll_next(context) {}
            match self.poll_output(context) {
                Poll::Ready(Ok(true)) => again |= was_clogged || self.session.borrow().has_waiting(),
                Poll::Ready(Ok(false)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Event::Closed),
                Poll::Pending => {}
            }
            if !again {
                break;
            }
        }
        if self.session.borrow().is_broken() && !self.is_ending() {
            let cause = "an answer that cannot be sent";
            return Poll::Ready(Event::Faulty(Fault { code: Code::Internal, cause }));
        }
        if self.is_ending() {
            return self.poll_end(context).map(|()| Event::Closed);
        }
        let is_over = match self.state {
            State::Cut => true,
            State::Leaving => self.session.borrow().is_leaving(),
            _ => false,
        };
        if is_over && self.streams.is_empty() {
            return Poll::Ready(Event::Drained);
        }
        self.set_deadline();
        Poll::Pending
    }

    /// Takes what has come; says whether there may be more to take at once, or that nothing more comes.
    fn poll_input(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        loop {
            if self.session.borrow().is_clogged() {
                return Poll::Pending;
            }
            if self.take_frames()? {
                return Poll::Ready(Ok(true));
            }
            match ready!(self.inlet.poll_fill(&mut self.client, context)) {
                Ok(length) if length > 0 => {}
                Ok(_) | Err(_) => return Poll::Ready(Ok(false)),
            }
        }
    }

    /// Takes all whole frames that are there, or as many as until a stream ends: what it held is free then for the next one.
    fn take_frames(&mut self) -> Result<bool, Fault> {
        if !self.is_greeted {
            let length = self.inlet.filled().len().min(PREFACE.len());
            if !PREFACE.starts_with(self.inlet.filled().get(..length).unwrap_or_default()) {
                return Err(Fault { code: Code::Protocol, cause: "no preface" });
            }
            if length < PREFACE.len() {
                return Ok(false);
            }
            self.inlet.consume(length);
            self.is_greeted = true;
        }
        while let Some(head) = FrameHead::parse(self.inlet.filled()) {
            if head.length > MAX_PAYLOAD_BYTES {
                return Err(Fault { code: Code::FrameSize, cause: "a frame that is too large" });
            }
            let end = HEAD_BYTES + head.length;
            let Some(payload) = self.inlet.filled().get(HEAD_BYTES..end) else { break };
            let arrived = self.session.borrow_mut().receive(head, payload)?;
            self.inlet.consume(end);
            match arrived {
                Arrived::Nothing => {}
                Arrived::Request(request) => self.begin(request),
                Arrived::Reset(violation) => {
                    if let Some(cause) = violation {
                        self.log(Reason::InvalidRequest, cause);
                    }
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Sends what has gathered; says whether that was anything.
    fn poll_output(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut session = self.session.borrow_mut();
        let is_some = !session.unsent().is_empty();
        while !session.unsent().is_empty() {
            let length = ready!(Pin::new(&mut self.client).poll_write(context, session.unsent()))?;
            if length == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            session.sent(length);
            self.needs_flush = true;
        }
        if self.needs_flush {
            ready!(Pin::new(&mut self.client).poll_flush(context))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(is_some))
    }

    /// Ends our side once everything is sent, and waits for the client to end its own.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.state == State::Shut {
            if self.needs_flush || !self.session.borrow().unsent().is_empty() {
                return Poll::Pending;
            }
            // The connection is closed in any case.
            ready!(Pin::new(&mut self.client).poll_shutdown(context)).ok();
            self.state = State::Lingering;
        }
        let mut scrap = [0; 2048];
        loop {
            let mut buffer = ReadBuf::new(&mut scrap);
            match ready!(Pin::new(&mut self.client).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    }

    /// Says whether the head of a request has begun and not ended.
    fn is_in_head(&self) -> bool {
        let is_head = |head: FrameHead| matches!(head.kind, kind::HEADERS | kind::CONTINUATION);
        !self.is_greeted
            || self.session.borrow().is_in_head()
            || FrameHead::parse(self.inlet.filled()).is_some_and(is_head)
    }

    /// Gives to a connection that waits the deadline of one, and its own to a head that has begun.
    fn set_deadline(&mut self) {
        if self.is_in_head() {
            let last = self.session.borrow().last();
            if self.is_idle || !self.watch.is_armed() || self.head_after != last {
                self.watch.arm(self.worker.limits.head);
            }
            self.head_after = last;
            self.is_idle = false;
        } else if !self.streams.is_empty() {
            self.watch.disarm();
            self.is_idle = false;
        } else if !self.is_idle {
            let Limits { idle, linger, .. } = self.worker.limits;
            self.watch.arm(if self.state == State::Open { idle } else { linger });
            self.is_idle = true;
        }
    }

    fn begin(&mut self, request: Request) {
        let Request { stream, head, is_head } = request;
        let stream = RequestStream::new(Rc::clone(&self.session), stream, (is_head, self.is_encrypted));
        let registered = self.worker.watches.register();
        let is_whole = head.is_some();
        let connection = Connection {
            client: ClientStream::Http2(stream),
            peer: Rc::clone(&self.peer),
            inlet: Inlet::holding(&self.worker.buffers, head.unwrap_or_default()),
            worker: Rc::clone(&self.worker),
            watch: Rc::clone(&registered.watch),
        };
        if is_whole {
            self.streams.push(Box::pin(serve_stream(connection, registered)));
        } else {
            self.streams.push(Box::pin(refuse_stream(connection, registered, 431)));
        }
    }

    /// Takes no further request; those that have begun go on.
    fn leave(&mut self) {
        if self.state == State::Open {
            self.state = State::Leaving;
            self.is_idle = false;
            self.session.borrow_mut().leave();
        }
    }

    /// Ends the connection for what the client has sent.
    fn fail(&mut self, fault: Fault) {
        let reason = match fault.code {
            Code::EnhanceYourCalm => Reason::ClientFlood,
            _ => Reason::ProtocolError,
        };
        self.log(reason, fault.cause);
        self.shut(fault.code);
    }

    /// Ends the connection at once, but for the time that it takes to say so.
    fn shut(&mut self, code: Code) {
        self.state = State::Shut;
        self.watch.arm(self.worker.limits.linger);
        self.session.borrow_mut().shut(code);
    }

    /// Writes a line about what cannot be read as a request, as HTTP/1 does for what it refuses.
    fn log(&self, reason: Reason, cause: &str) {
        let mut record = Record::unread(&self.peer, Some(NAME));
        record.status = if reason == Reason::ClientTimeout { 408 } else { 400 };
        record.reason = Some(reason);
        field(&mut record.further, "cause", cause.as_bytes());
        self.worker.log_request(record);
    }
}

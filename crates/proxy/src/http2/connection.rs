//! One client's connection by HTTP/2: its streams side by side until it ends.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use tokio::task::{JoinError, JoinSet};

use super::meter::{Closing, Meter, Metered};
use super::stream::RequestStream;
use super::{CONNECTION_WINDOW, MAX_STREAMS, SEND_BUFFER_BYTES, STREAM_WINDOW};
use crate::access::Peer;
use crate::http1::MAX_HEAD_BYTES;
use crate::inlet::Inlet;
use crate::limits::Limits;
use crate::serve::{Connection, serve_stream};
use crate::stream::ClientStream;
use crate::watch::{Phase, Signal, Watch};
use crate::worker::Worker;

/// What a client has sent.
type Incoming = (http::Request<RecvStream>, SendResponse<Bytes>);

/// What happens on a connection.
enum Event {
    Request(Box<Incoming>),
    Ended(Result<(), JoinError>),
    Closed,
    /// The client has sent too much that brings nothing.
    Exhausted,
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
    /// The connection is being closed.
    Shut,
}

/// Serves a connection to its end.
pub(crate) async fn serve(connection: Connection) {
    let Connection { client, peer, inlet, worker, watch } = connection;
    let is_encrypted = client.is_encrypted();
    let meter = Rc::new(Meter::new(Instant::now()));
    let metered = Metered {
        first: inlet.filled().to_vec(),
        client,
        meter: Rc::clone(&meter),
        watch: Rc::clone(&watch),
        limits: worker.limits,
        closing: Closing::Open,
    };
    drop(inlet);
    watch.enter(Phase::Idle, 0);
    watch.arm(worker.limits.head);
    let limit = u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX);
    let agreed = Builder::new()
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(limit)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .handshake(metered);
    let Ok(Ok(frames)) = watch.guard(agreed).await else { return };
    let streams = JoinSet::new();
    Frames { frames, streams, meter, watch, worker, peer, is_encrypted, state: State::Open, is_idle: false }
        .run()
        .await;
}

/// A connection whose frames are read.
struct Frames {
    frames: h2::server::Connection<Metered, Bytes>,
    streams: JoinSet<()>,
    meter: Rc<Meter>,
    watch: Rc<Watch>,
    worker: Rc<Worker>,
    peer: Peer,
    is_encrypted: bool,
    state: State,
    /// The deadline is that of a connection that waits.
    is_idle: bool,
}

impl Frames {
    async fn run(mut self) {
        if self.worker.is_quitting() {
            self.leave();
        }
        self.watch.disarm();
        loop {
            let watch = Rc::clone(&self.watch);
            match watch.guard(poll_fn(|context| self.poll_event(context))).await {
                Ok(Event::Request(incoming)) => self.begin(*incoming),
                Ok(Event::Ended(ended)) => self.report(ended),
                Ok(Event::Closed) => break,
                Ok(Event::Exhausted) => self.shut(Reason::ENHANCE_YOUR_CALM),
                Ok(Event::Drained) => self.shut(Reason::NO_ERROR),
                Err(Signal::Quit) => self.leave(),
                // A second time: the client does not go.
                Err(Signal::Expired) if self.state == State::Shut => break,
                Err(Signal::Expired) if self.meter.is_in_head() => self.shut(Reason::ENHANCE_YOUR_CALM),
                Err(Signal::Expired) => self.shut(Reason::NO_ERROR),
                // Each stream is interrupted by itself and says so to the client.
                Err(Signal::Cut) => self.state = State::Cut,
            }
        }
        let Self { frames, mut streams, worker, .. } = self;
        // Streams that are left find their client gone.
        drop(frames);
        while let Some(ended) = streams.join_next().await {
            report(&worker, ended);
        }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        if let Poll::Ready(Some(ended)) = self.streams.poll_join_next(context) {
            return Poll::Ready(Event::Ended(ended));
        }
        match self.frames.poll_accept(context) {
            Poll::Ready(Some(Ok(incoming))) => return Poll::Ready(Event::Request(Box::new(incoming))),
            Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Event::Closed),
            Poll::Pending => {}
        }
        match self.state {
            State::Shut => return Poll::Pending,
            _ if self.meter.is_exhausted() => return Poll::Ready(Event::Exhausted),
            State::Cut if self.streams.is_empty() => return Poll::Ready(Event::Drained),
            _ => {}
        }
        self.set_deadline();
        Poll::Pending
    }

    /// Gives to a connection that waits the deadline of one, and its own to a head that has begun.
    fn set_deadline(&mut self) {
        if self.meter.is_in_head() {
            if self.is_idle || !self.watch.is_armed() {
                self.watch.arm(self.worker.limits.head);
            }
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

    fn begin(&mut self, incoming: Incoming) {
        let Some(stream) = RequestStream::new(incoming, self.is_encrypted, Rc::clone(&self.meter)) else {
            return;
        };
        let registered = self.worker.watches.register();
        let connection = Connection {
            client: ClientStream::Http2(Box::new(stream)),
            peer: self.peer.clone(),
            inlet: Inlet::new(&self.worker.buffers),
            worker: Rc::clone(&self.worker),
            watch: Rc::clone(&registered.watch),
        };
        self.streams.spawn_local(serve_stream(connection, registered));
    }

    fn report(&self, ended: Result<(), JoinError>) {
        report(&self.worker, ended);
    }

    /// Takes no further request; those that have begun go on.
    fn leave(&mut self) {
        self.state = State::Leaving;
        self.is_idle = false;
        self.frames.graceful_shutdown();
    }

    /// Ends the connection at once, but for the time that it takes to say so.
    fn shut(&mut self, reason: Reason) {
        self.state = State::Shut;
        self.watch.arm(self.worker.limits.linger);
        self.frames.abrupt_shutdown(reason);
    }
}

fn report(worker: &Worker, ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        worker.log_panic(&error.to_string());
    }
}

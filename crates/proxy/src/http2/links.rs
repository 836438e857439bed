//! Connections to targets that speak HTTP/2, each for many requests at a time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use tokio::task::JoinSet;

use super::target::AnswerStream;
use super::{CONNECTION_WINDOW, MAX_STREAMS, SEND_BUFFER_BYTES, STREAM_WINDOW, broken};
use crate::http1::MAX_HEAD_BYTES;
use crate::link::TargetSocket;

/// How long a connection without requests is kept.
const MAX_IDLE_TIME: Duration = Duration::from_secs(60);

/// A connection to a target.
#[derive(Debug)]
struct Held {
    requests: SendRequest<Bytes>,
    /// The scheme of what is asked for over it.
    scheme: &'static str,
    state: Rc<State>,
}

/// What is known of a connection by everyone who uses it.
#[derive(Debug)]
struct State {
    open: Cell<usize>,
    last_used: Cell<Instant>,
    is_over: Cell<bool>,
}

/// Counts a request on a connection for as long as it takes.
#[derive(Debug)]
pub(crate) struct Lease(Rc<State>);

impl Lease {
    fn new(state: &Rc<State>) -> Self {
        state.open.update(|open| open + 1);
        Self(Rc::clone(state))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.open.update(|open| open.saturating_sub(1));
        self.0.last_used.set(Instant::now());
    }
}

/// One thread's connections, by target.
#[derive(Debug, Default)]
pub(crate) struct Links {
    held: RefCell<BTreeMap<u64, Vec<Held>>>,
    drivers: RefCell<JoinSet<()>>,
}

/// Makes a connection's settings.
pub(crate) fn settings() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER_BYTES);
    builder
}

impl Links {
    /// Takes a stream on a connection that is alive and has room.
    pub(crate) fn take(&self, target: u64) -> Option<AnswerStream> {
        let mut held = self.held.borrow_mut();
        let held = held.get_mut(&target)?;
        held.retain(|held| !held.state.is_over.get());
        let limit = usize::try_from(MAX_STREAMS).unwrap_or(usize::MAX);
        let found = held
            .iter()
            .find(|held| held.state.open.get() < limit.min(held.requests.current_max_send_streams()))?;
        Some(AnswerStream::new(found.requests.clone(), found.scheme, Some(Lease::new(&found.state))))
    }

    /// Begins HTTP/2 on a new connection, keeps it, and takes a stream on it.
    pub(crate) async fn begin(&self, target: u64, stream: TargetSocket) -> io::Result<AnswerStream> {
        let scheme = stream.scheme();
        let (requests, driver) = settings().handshake(stream).await.map_err(broken)?;
        let state = Rc::new(State {
            open: Cell::new(0),
            last_used: Cell::new(Instant::now()),
            is_over: Cell::new(false),
        });
        let watched = Rc::clone(&state);
        self.drivers.borrow_mut().spawn_local(async move {
            // Each stream of it is told by itself what was wrong.
            driver.await.ok();
            watched.is_over.set(true);
        });
        let lease = Lease::new(&state);
        let stream = AnswerStream::new(requests.clone(), scheme, Some(lease));
        self.held.borrow_mut().entry(target).or_default().push(Held { requests, scheme, state });
        Ok(stream)
    }

    /// Lets go of the connections to targets that are not used any more; they end with their last request.
    pub(crate) fn keep_only(&self, is_used: impl Fn(u64) -> bool) {
        self.held.borrow_mut().retain(|target, _| is_used(*target));
    }

    /// Closes connections that have ended or were not used for long.
    pub(crate) fn sweep(&self) {
        while self.drivers.borrow_mut().try_join_next().is_some() {}
        self.held.borrow_mut().retain(|_, held| {
            held.retain(|Held { state, .. }| {
                let is_fresh = state.open.get() > 0 || state.last_used.get().elapsed() <= MAX_IDLE_TIME;
                is_fresh && !state.is_over.get()
            });
            !held.is_empty()
        });
    }
}

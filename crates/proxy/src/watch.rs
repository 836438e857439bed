//! Deadlines and interruptions of connections, without a timer or a channel for each.
//!
//! Every connection has a [`Watch`], which a sweep looks at a few times a second. To interrupt a connection is to leave a
//! signal in its watch and wake it; one place in the connection looks for signals before it goes on.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// How often deadlines are looked at.
pub(crate) const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waiting for a request.
    Idle,
    /// Doing one.
    Request,
    /// Carrying an upgraded connection.
    Tunnel,
}

/// Why a connection is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Its deadline has passed.
    Expired,
    /// The time to drain its target is over.
    Cut,
    /// The proxy stops.
    Quit,
}

/// One connection's deadline and signal.
#[derive(Debug)]
pub(crate) struct Watch {
    deadline: Cell<Option<Instant>>,
    signal: Cell<Option<Signal>>,
    phase: Cell<Phase>,
    generation: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

impl Watch {
    /// Sets the deadline anew.
    pub(crate) fn arm(&self, limit: Duration) {
        self.deadline.set(Instant::now().checked_add(limit));
    }

    /// Takes the deadline away.
    pub(crate) fn disarm(&self) {
        self.deadline.set(None);
    }

    /// Says whether there is a deadline.
    pub(crate) fn is_armed(&self) -> bool {
        self.deadline.get().is_some()
    }

    /// Says what the connection is doing now, and for which generation of targets.
    pub(crate) fn enter(&self, phase: Phase, generation: u64) {
        self.phase.set(phase);
        self.generation.set(generation);
    }

    fn interrupt(&self, signal: Signal) {
        self.signal.set(Some(signal));
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Runs a future until it is done or a signal comes.
    ///
    /// It looks for signals before it polls, so that a connection with data to move all the time is interrupted too.
    pub(crate) async fn guard<F: Future>(&self, future: F) -> Result<F::Output, Signal> {
        let mut future = pin!(future);
        poll_fn(|context| {
            if let Some(signal) = self.signal.take() {
                return Poll::Ready(Err(signal));
            }
            let mut waker = self.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
            drop(waker);
            future.as_mut().poll(context).map(Ok)
        })
        .await
    }
}

/// All watches of one thread.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    next: Cell<u64>,
    all: RefCell<BTreeMap<u64, Rc<Watch>>>,
}

impl Watches {
    /// Makes a watch for a new connection; it is forgotten when the guard is dropped.
    pub(crate) fn register(self: &Rc<Self>) -> Registered {
        let watch = Rc::new(Watch {
            deadline: Cell::new(None),
            signal: Cell::new(None),
            phase: Cell::new(Phase::Idle),
            generation: Cell::new(0),
            waker: RefCell::new(None),
        });
        let number = self.next.replace(self.next.get() + 1);
        self.all.borrow_mut().insert(number, Rc::clone(&watch));
        Registered { watch, number, watches: Rc::clone(self) }
    }

    /// Interrupts every connection whose deadline has passed.
    pub(crate) fn sweep(&self, now: Instant) {
        for watch in self.all.borrow().values() {
            if watch.deadline.get().is_some_and(|deadline| deadline <= now) {
                watch.disarm();
                watch.interrupt(Signal::Expired);
            }
        }
    }

    /// Interrupts what goes on in a phase at a generation of targets.
    pub(crate) fn cut(&self, phase: Phase, generation: u64) {
        for watch in self.all.borrow().values() {
            if watch.phase.get() == phase && watch.generation.get() == generation {
                watch.interrupt(Signal::Cut);
            }
        }
    }

    /// Interrupts everything.
    pub(crate) fn cut_all(&self) {
        for watch in self.all.borrow().values() {
            watch.interrupt(Signal::Cut);
        }
    }

    /// Tells every waiting connection that the proxy stops.
    pub(crate) fn quit(&self) {
        for watch in self.all.borrow().values().filter(|watch| watch.phase.get() == Phase::Idle) {
            watch.interrupt(Signal::Quit);
        }
    }
}

/// Keeps a watch registered.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) watch: Rc<Watch>,
    number: u64,
    watches: Rc<Watches>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.watches.all.borrow_mut().remove(&self.number);
    }
}

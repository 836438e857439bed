//! What one thread owns; nothing of it is shared with another.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use freehold_wire::{Reason, TargetAddress};

use crate::access::Record;
use crate::acme::Challenges;
use crate::buffer::BufferPool;
use crate::clock::Clock;
use crate::digits::hexadecimal;
use crate::dropped::Dropped;
use crate::edge::Edge;
use crate::generation::Target;
use crate::limits::Limits;
use crate::log::{Level, Log};
use crate::metrics::ServiceCounts;
use crate::pool::TargetPool;
use crate::resolve::Resolver;
use crate::spool::SpillBudget;
use crate::table::{Shared, Table};
use crate::trace::{Dice, Tracer};
use crate::watch::Watches;

/// How full the log buffer may be before it is handed to the writing thread.
const LOG_BLOCK_BYTES: usize = 16 * 1024;

/// The room of a text for a head or the fields of a log line.
const TEXT_BYTES: usize = 1024;

/// How many texts are kept to be used again.
const MAX_TEXTS: usize = 256;

/// What a thread starts with.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) lane: usize,
    pub(crate) port: u16,
    pub(crate) https_port: u16,
    pub(crate) limits: Limits,
    pub(crate) edge: Arc<Edge>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) resolver: Arc<Resolver>,
    /// Where bodies are kept that are held back.
    pub(crate) spill_folder: Arc<Path>,
    /// How much of the disk they may take together.
    pub(crate) spill_budget: Arc<SpillBudget>,
    pub(crate) log: Log,
    /// The proofs that certificate authorities ask for.
    pub(crate) challenges: Arc<Challenges>,
    /// Where requests are counted that no service has, if any are counted.
    pub(crate) unrouted: Option<Arc<ServiceCounts>>,
    /// Who decides which requests are traced, if any are.
    pub(crate) tracer: Option<Arc<Tracer>>,
}

/// Whether the proxy stops, and what that means for a connection that waits for its next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// It does not.
    No,
    /// It may wait for a moment; the next request is its last.
    Soon,
    /// It ends.
    Now,
}

/// One thread's state.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) lane: usize,
    pub(crate) port: u16,
    pub(crate) https_port: u16,
    pub(crate) limits: Limits,
    pub(crate) edge: Arc<Edge>,
    pub(crate) buffers: Rc<BufferPool>,
    pub(crate) targets: TargetPool,
    pub(crate) watches: Rc<Watches>,
    pub(crate) clock: Clock,
    pub(crate) shared: Arc<Shared>,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) spill_folder: Arc<Path>,
    pub(crate) spill_budget: Arc<SpillBudget>,
    pub(crate) challenges: Arc<Challenges>,
    unrouted: Option<Arc<ServiceCounts>>,
    pub(crate) tracer: Option<Arc<Tracer>>,
    table: RefCell<(u64, Arc<Table>)>,
    log: Log,
    lines: RefCell<Vec<u8>>,
    texts: RefCell<Vec<Vec<u8>>>,
    leaving: Cell<Leaving>,
    handed_over: Cell<bool>,
    random: Cell<u64>,
}

impl Worker {
    /// Makes the state of a thread.
    pub(crate) fn new(start: Start) -> Self {
        let Start {
            lane,
            port,
            https_port,
            limits,
            edge,
            shared,
            resolver,
            spill_folder,
            spill_budget,
            log,
            challenges,
            unrouted,
            tracer,
        } = start;
        Self {
            lane,
            port,
            https_port,
            limits,
            edge,
            buffers: Rc::default(),
            targets: TargetPool::default(),
            watches: Rc::default(),
            clock: Clock::new(),
            table: RefCell::new(shared.load()),
            shared,
            resolver,
            spill_folder,
            spill_budget,
            log,
            challenges,
            unrouted,
            tracer,
            lines: RefCell::default(),
            texts: RefCell::default(),
            leaving: Cell::new(Leaving::No),
            handed_over: Cell::new(false),
            random: Cell::new(RandomState::new().build_hasher().finish()),
        }
    }

    /// Returns the current table and its version.
    pub(crate) fn table(&self) -> (u64, Arc<Table>) {
        let mut known = self.table.borrow_mut();
        if !self.shared.is_current(known.0) {
            *known = self.shared.load();
            let targets = known.1.services().flat_map(|service| service.targets());
            let used: BTreeSet<u64> = targets.map(|target| target.id).collect();
            self.targets.keep_only(|target| used.contains(&target));
        }
        (known.0, Arc::clone(&known.1))
    }

    /// Says whether the proxy stops, so that no connection takes a further request.
    pub(crate) fn is_quitting(&self) -> bool {
        self.leaving.get() != Leaving::No
    }

    /// Says how the proxy stops.
    pub(crate) fn leaving(&self) -> Leaving {
        self.leaving.get()
    }

    /// Says whether another process has taken over.
    pub(crate) fn has_handed_over(&self) -> bool {
        self.handed_over.get()
    }

    /// Lets every connection end after what it is doing, or after its next request.
    pub(crate) fn quit(&self, leaving: Leaving) {
        self.leaving.set(leaving);
        if leaving == Leaving::Soon {
            self.handed_over.set(true);
        }
        if leaving == Leaving::Now {
            self.watches.quit();
        }
    }

    /// Makes a request id: a version 4 UUID. It tells requests apart and is no secret.
    pub(crate) fn request_id(&self) -> [u8; 36] {
        let high = (self.random() & 0xffff_ffff_ffff_0fff) | 0x4000;
        let low = (self.random() & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
        let (mut bits, mut id) = (u128::from(high) << 64 | u128::from(low), [b'-'; 36]);
        for (at, place) in id.iter_mut().enumerate() {
            if !matches!(at, 8 | 13 | 18 | 23) {
                bits = bits.rotate_left(4);
                *place = hexadecimal(u64::try_from(bits & 0xf).unwrap_or_default());
            }
        }
        id
    }

    /// Takes an empty text with some room out of those that were given back.
    pub(crate) fn text(&self) -> Vec<u8> {
        self.texts.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(TEXT_BYTES))
    }

    /// Gives a text back to be used again, unless it has grown large.
    pub(crate) fn recycle(&self, mut text: Vec<u8>) {
        let mut texts = self.texts.borrow_mut();
        if texts.len() < MAX_TEXTS && (TEXT_BYTES..=TEXT_BYTES * 8).contains(&text.capacity()) {
            text.clear();
            texts.push(text);
        }
    }

    /// Returns random numbers for ids; they tell apart and are no secret.
    pub(crate) fn dice(&self) -> Dice {
        std::array::from_fn(|_| self.random())
    }

    /// <https://prng.di.unimi.it/splitmix64.c>
    pub(crate) fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Writes a request's line.
    pub(crate) fn log_request(&self, mut record: Record) {
        if let Some((tracer, span)) = self.tracer.as_ref().zip(record.span.take()) {
            tracer.end(span, &record);
        }
        let counts = match &record.service {
            Some(service) => service.counts.as_ref(),
            None => self.unrouted.as_ref(),
        };
        if let Some(counts) = counts.filter(|_| !record.is_left_out) {
            counts.add(self.lane, &record);
        }
        if let Some((service, side, is_error)) = record.compared() {
            service.compare(self.lane, side, is_error, record.elapsed());
        }
        let mut lines = self.lines.borrow_mut();
        record.write(&self.clock, &mut lines);
        self.recycle(record.text);
        if lines.len() >= LOG_BLOCK_BYTES {
            // Room at once: a buffer that grows line by line is copied again and again.
            let fresh = Vec::with_capacity(LOG_BLOCK_BYTES * 5 / 4);
            self.log.block(std::mem::replace(&mut lines, fresh));
        }
    }

    /// Writes a line about a bug that ended a connection.
    pub(crate) fn log_panic(&self, what: &str) {
        self.log.error("Connection panicked", &[("error", &what)]);
    }

    /// Writes a line about a target that is left out for a while because its requests failed.
    pub(crate) fn log_left_out(&self, target: &Target, pause: Duration, reason: Option<Reason>) {
        let reason = reason.map_or("", Reason::as_str);
        let fields: [(&str, &dyn Display); 3] =
            [("target", &target.address), ("pause_ms", &pause.as_millis()), ("reason", &reason)];
        self.log.line(Level::Warn, "Target left out", &fields);
    }

    /// Writes a line about a target that there is no encrypted connection with.
    pub(crate) fn log_not_trusted(&self, target: &TargetAddress, error: &dyn Display) {
        let fields: [(&str, &dyn Display); 2] = [("target", target), ("error", error)];
        self.log.line(Level::Warn, "Target not trusted", &fields);
    }

    /// Counts a connection that is not served, and writes a line about it, with what else is known.
    pub(crate) fn drop_connection(
        &self,
        client: &SocketAddr,
        dropped: Dropped,
        more: &[(&str, &dyn Display)],
    ) {
        self.edge.drops.add(dropped);
        let (ip, reason) = (client.ip(), dropped.as_str());
        let fields: [(&str, &dyn Display); 2] = [("client_addr", &ip), ("reason", &reason)];
        self.log.line(dropped.level(), "Connection dropped", &[&fields, more].concat());
    }

    /// Hands the log lines so far to the writing thread.
    pub(crate) fn flush_log(&self) {
        let mut lines = self.lines.borrow_mut();
        if !lines.is_empty() {
            self.log.block(std::mem::take(&mut lines));
        }
    }
}

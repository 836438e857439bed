//! The decision about one request head: forward it, and to which target, or answer it here.

use std::net::SocketAddr;
use std::sync::Arc;

use freehold_wire::Reason;

use crate::access::Record;
use crate::clock::Clock;
use crate::generation::{Flight, Target};
use crate::http1::header::Kind;
use crate::http1::request::{Form, Forwarding, Refusal, Request, parse};
use crate::http1::response::Asked;
use crate::http1::{Framing, Version, slots};
use crate::table::Service;
use crate::worker::Worker;

/// What becomes of the bytes at the front of a connection.
#[derive(Debug)]
pub(crate) enum Admission {
    /// The head is not complete.
    Incomplete,
    /// The head is unsound.
    Refused(Refusal),
    /// The proxy answers itself.
    Local(Admitted, Local),
    /// A target gets it.
    Forward(Admitted, Passage),
}

/// What is known of a request once its head was read.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) record: Record,
    pub(crate) version: Version,
    pub(crate) framing: Framing,
    pub(crate) head_len: usize,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
    pub(crate) asked: Asked,
}

/// An answer of the proxy itself.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) status: u16,
    pub(crate) reason: Option<Reason>,
    /// The service that it counts for.
    pub(crate) flight: Option<Flight>,
}

/// The way to a target.
#[derive(Debug)]
pub(crate) struct Passage {
    pub(crate) flight: Flight,
    pub(crate) target: Arc<Target>,
    /// The head as the target gets it.
    pub(crate) head: Vec<u8>,
    /// Whether the request may be sent a second time: it has no body and a method that changes nothing.
    pub(crate) repeatable: bool,
    /// How many bytes of the path are cut off.
    pub(crate) strip: usize,
    request_id: String,
}

/// Decides about the head at the front of the buffer.
pub(crate) fn admit(worker: &Worker, peer: SocketAddr, buffer: &[u8]) -> Admission {
    let mut slots = slots();
    let request = match parse(buffer, &mut slots) {
        Ok(Some(request)) => request,
        Ok(None) => return Admission::Incomplete,
        Err(refusal) => return Admission::Refused(refusal),
    };
    let request_id = match request.view.first(Kind::RequestId) {
        Some(id) => String::from_utf8_lossy(id).into_owned(),
        None => worker.request_id(),
    };
    let mut admitted = Admitted {
        record: Record::of(&request, request_id.as_bytes(), peer, worker.port),
        version: request.version,
        framing: request.framing,
        head_len: request.head_len,
        keep_alive: request.keep_alive,
        expects_continue: request.expects_continue,
        asked: Asked { head: request.view.method == "HEAD", websocket: request.view.upgrades_to_websocket },
    };
    match request.form {
        Form::Asterisk => {
            return Admission::Local(admitted, Local { status: 200, reason: None, flight: None });
        }
        Form::Authority => {
            let local = Local { status: 502, reason: Some(Reason::InvalidRequest), flight: None };
            return Admission::Local(admitted, local);
        }
        Form::Origin | Form::Absolute => {}
    }
    loop {
        let (version, table) = worker.table();
        let Some(route) = table.route(request.view.host, request.view.path) else {
            let local = Local { status: 404, reason: Some(Reason::NoService), flight: None };
            return Admission::Local(admitted, local);
        };
        let flight = route.service.generation.enter(worker.lane);
        if !worker.shared.is_current(version) {
            continue;
        }
        admitted.record.service = Some(Arc::clone(route.service));
        let Some((flight, target)) = choose(worker, route.service, flight) else { continue };
        let Some(target) = target else {
            let local = Local { status: 503, reason: Some(Reason::NoHealthyTarget), flight: Some(flight) };
            return Admission::Local(admitted, local);
        };
        let mut passage = Passage {
            flight,
            target,
            head: Vec::with_capacity(request.head_len + 384),
            repeatable: is_repeatable(&request),
            strip: route.strip,
            request_id,
        };
        passage.write_head(&request, &mut admitted.record);
        return Admission::Forward(admitted, passage);
    }
}

fn is_repeatable(request: &Request<'_, '_>) -> bool {
    request.framing == Framing::None && matches!(request.view.method, "GET" | "HEAD" | "OPTIONS" | "TRACE")
}

impl Passage {
    fn write_head(&mut self, request: &Request<'_, '_>, record: &mut Record) {
        let trusted = record.service.as_ref().is_some_and(|service| service.settings.forward_headers);
        let forwarding = Forwarding {
            peer: record.peer.ip().to_canonical(),
            trusted,
            scheme: "http",
            strip: self.strip,
            target: self.target.address.as_str(),
            request_id: &self.request_id,
            started_unix_ms: Clock::unix().as_millis(),
        };
        self.head.clear();
        request.write(&forwarding, &mut self.head);
        record.target = Some(Arc::clone(&self.target));
    }

    /// Turns to another healthy target after a failure, as long as nothing was sent; says whether there is one.
    pub(crate) fn turn(
        &mut self,
        worker: &Worker,
        tried: &Tried,
        buffer: &[u8],
        record: &mut Record,
    ) -> bool {
        let other = self.flight.generation.choose(worker.lane, &tried.targets).cloned();
        match other {
            Some(target) => self.go_to(target, buffer, record),
            None => self.step_aside(worker, tried, buffer, record),
        }
    }

    /// Turns to a target of another generation: of the one that has been installed meanwhile, else of the one that stands
    /// by. Says whether there is one.
    pub(crate) fn step_aside(
        &mut self,
        worker: &Worker,
        tried: &Tried,
        buffer: &[u8],
        record: &mut Record,
    ) -> bool {
        let (version, table) = worker.table();
        let Some(service) = record.service.as_ref().and_then(|service| table.service(&service.name)) else {
            return false;
        };
        let failed = Arc::clone(self.flight.counts_for());
        let stands_by = Arc::ptr_eq(&failed, &service.generation);
        let is_same = record.service.as_ref().is_some_and(|before| before.settings == service.settings);
        let generation = if stands_by { service.standby.as_ref() } else { Some(&service.generation) };
        let Some(generation) = generation.filter(|_| is_same) else { return false };
        let Some(target) = generation.choose(worker.lane, &tried.targets).cloned() else { return false };
        let mut flight = generation.enter(worker.lane);
        if !worker.shared.is_current(version) {
            return false;
        }
        if stands_by {
            flight.stand_in_for(&failed, tried.reason);
            record.stands_in = Some(tried.reason);
        }
        self.flight = flight;
        record.service = Some(Arc::clone(service));
        self.go_to(target, buffer, record)
    }

    fn go_to(&mut self, target: Arc<Target>, buffer: &[u8], record: &mut Record) -> bool {
        let mut slots = slots();
        let Ok(Some(request)) = parse(buffer, &mut slots) else { return false };
        self.target = target;
        self.write_head(&request, record);
        true
    }
}

/// Which targets a request was tried at in vain.
#[derive(Debug)]
pub(crate) struct Tried {
    pub(crate) targets: Vec<u64>,
    /// What was wrong at the last one.
    pub(crate) reason: Reason,
}

/// Chooses a target for a request that was counted in: a current one, else one that stands by; there may be none. Nothing
/// at all is returned where the table has changed meanwhile.
fn choose(worker: &Worker, service: &Arc<Service>, flight: Flight) -> Option<(Flight, Option<Arc<Target>>)> {
    if let Some(target) = service.generation.choose(worker.lane, &[]) {
        return Some((flight, Some(Arc::clone(target))));
    }
    let Some(standby) = &service.standby else { return Some((flight, None)) };
    let Some(target) = standby.choose(worker.lane, &[]) else { return Some((flight, None)) };
    let (version, table) = worker.table();
    let mut stand_in = standby.enter(worker.lane);
    stand_in.stand_in_for(&service.generation, Reason::NoHealthyTarget);
    let still = table.service(&service.name).is_some_and(|now| Arc::ptr_eq(now, service));
    (still && worker.shared.is_current(version)).then(|| (stand_in, Some(Arc::clone(target))))
}

//! The way to a target, and to another one where it fails.

use std::sync::Arc;

use freehold_wire::Reason;

use super::{Again, Tried};
use crate::access::{Peer, Record};
use crate::canary::contest::Side;
use crate::duty::Duty;
use crate::generation::{Flight, Seat, Target};
use crate::http1::request::{Forwarding, Request, parse};
use crate::http1::slots;
use crate::rules::contains;
use crate::table::Service;
use crate::worker::Worker;

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
    pub(super) duty: Duty,
    pub(super) request_id: [u8; 36],
    pub(super) started_unix_ms: u64,
    pub(super) scheme: &'static str,
    /// Its place at the target, where places are counted.
    pub(super) seat: Option<Seat>,
    pub(super) door: Door,
}

/// Whether a service has its clients known by certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    Known,
}

impl Passage {
    pub(super) fn write_head(
        &mut self,
        worker: &Worker,
        (request, peer): (&Request<'_, '_>, &Peer),
        record: &mut Record,
    ) {
        let settings = record.service.as_ref().map(|service| &service.settings);
        let client_ip_header = settings.and_then(|settings| settings.client_ip_header.as_deref());
        let rules = record.service.as_ref().and_then(|service| service.rules.as_ref());
        let trusted = worker.edge.trusted();
        let believed = match rules {
            Some(rules) => rules.believes(&peer.ip, trusted),
            None if trusted.is_empty() => None,
            None => peer.ip.parse().ok().map(|peer| contains(trusted, peer)),
        };
        let forwarding = Forwarding {
            peer: &peer.ip,
            trusted: believed.unwrap_or_else(|| settings.is_some_and(|settings| settings.forward_headers)),
            client_ip: client_ip_header.and_then(|name| request.view.named(name)),
            scheme: self.scheme,
            strip: self.strip,
            target: self.target.address.as_str(),
            request_id: &self.request_id,
            started_unix_ms: self.started_unix_ms,
            client: peer
                .identity
                .as_ref()
                .filter(|_| self.door == Door::Known)
                .and_then(|known| known.shown.as_ref()),
            upgrade: settings.and_then(|settings| request.view.upgrade_of(settings)),
        };
        self.head.clear();
        request.write(&forwarding, &mut self.head);
        if let Some(span) = &record.span {
            span.mark(&mut self.head);
        }
        if let Some(edits) = rules.and_then(|rules| rules.request.as_ref()) {
            edits.apply(&mut self.head, 0, false);
        }
        record.target = Some(Arc::clone(&self.target));
    }

    /// Turns to another healthy target after a failure, as long as nothing was sent; says whether there is one.
    pub(crate) fn turn(
        &mut self,
        worker: &Worker,
        tried: &Tried,
        again: &Again<'_>,
        record: &mut Record,
    ) -> bool {
        let other = self.flight.generation.choose(worker.lane, &tried.targets, self.duty).cloned();
        match other {
            Some(target) => self.go_to(worker, target, again, record),
            None => self.step_aside(worker, tried, again, record),
        }
    }

    /// Turns to a target of another generation: of the one that has been installed meanwhile, else of the one that stands
    /// by. Says whether there is one.
    pub(crate) fn step_aside(
        &mut self,
        worker: &Worker,
        tried: &Tried,
        again: &Again<'_>,
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
        let Some(target) = generation.choose(worker.lane, &tried.targets, self.duty).cloned() else {
            return false;
        };
        let mut flight = generation.enter(worker.lane);
        if record.is_left_out {
            flight.leave_out();
        }
        if !worker.shared.is_current(version) {
            return false;
        }
        if stands_by {
            flight.stand_in_for(&failed, tried.reason);
            record.stands_in = Some(tried.reason);
        }
        // Whoever tries targets in vain gets an answer elsewhere; for the comparison they have failed.
        record.has_missed |= record.side == Some(Side::Tried);
        self.flight = flight;
        record.service = Some(Arc::clone(service));
        self.go_to(worker, target, again, record)
    }

    fn go_to(
        &mut self,
        worker: &Worker,
        target: Arc<Target>,
        again: &Again<'_>,
        record: &mut Record,
    ) -> bool {
        let mut slots = slots();
        let Ok(Some(request)) = parse(again.head, &mut slots) else { return false };
        self.seat = self.flight.generation.seat(&target);
        self.target = target;
        self.write_head(worker, (&request, again.peer), record);
        true
    }

    /// Takes note of what became of the request at a target that was asked.
    pub(crate) fn judge(&self, worker: &Worker, target: &Target, reason: Option<Reason>) {
        if let Some(pause) = self.flight.generation.judge(target, reason) {
            worker.log_left_out(target, pause, reason);
        }
    }
}

/// Chooses a target for a request that was counted in: a current one, else one that stands by; there may be none. Nothing
/// at all is returned where the table has changed meanwhile.
pub(super) fn choose(
    worker: &Worker,
    service: &Arc<Service>,
    flight: Flight,
    duty: Duty,
) -> Option<(Flight, Option<Arc<Target>>)> {
    if let Some(target) = flight.generation.choose(worker.lane, &[], duty) {
        let target = Arc::clone(target);
        return Some((flight, Some(target)));
    }
    let is_current = Arc::ptr_eq(&flight.generation, &service.generation);
    let standby = service.standby.as_ref().filter(|_| is_current);
    let Some(standby) = standby else { return Some((flight, None)) };
    let Some(target) = standby.choose(worker.lane, &[], duty) else { return Some((flight, None)) };
    let (version, table) = worker.table();
    let mut stand_in = standby.enter(worker.lane);
    stand_in.stand_in_for(&service.generation, Reason::NoHealthyTarget);
    if flight.is_left_out() {
        stand_in.leave_out();
    }
    let still = table.service(&service.name).is_some_and(|now| Arc::ptr_eq(now, service));
    (still && worker.shared.is_current(version)).then(|| (stand_in, Some(Arc::clone(target))))
}

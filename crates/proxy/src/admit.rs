//! The decision about one request head: forward it, and to which target, or answer it here.

mod held;
mod passage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_wire::{Gate, HostPattern, Reason, ServiceSettings, TargetProtocol};

use crate::access::{Peer, Record, decode};
use crate::acme::HTTP_PATH;
use crate::canary::{Visitor, VisitorCookie};
use crate::client_auth::ClientAuth;
use crate::clock::Clock;
use crate::compress::Wish;
use crate::cookie::{CookieRules, CookieScope};
use crate::duty::{self, Duty};
use crate::generation::{Flight, Target};
use crate::http1::header::Kind;
use crate::http1::request::{Form, Refusal, Request, parse};
use crate::http1::response::Asked;
use crate::http1::{Framing, Version, slots};
use crate::rules::{Edits, Ruling, Visit};
use crate::table::{Route, Security, Service, Table};
use crate::view::RequestView;
use crate::worker::Worker;

pub(crate) use held::{Again, Held, Tried};
use passage::choose;
pub(crate) use passage::{Door, Passage};

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
    /// It waits.
    Held(Held),
    /// It is no request, but the beginning of a connection by HTTP/2.
    Http2,
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
    /// The protocol to which the service lets its connection be upgraded.
    pub(crate) upgrade: Option<Box<str>>,
    /// What is done to the answer's cookies.
    pub(crate) cookies: Option<Box<CookieRules>>,
    /// Whether the client came by HTTPS.
    pub(crate) is_secure: bool,
    /// Further lines of an answer of the proxy's own.
    pub(crate) lines: Vec<u8>,
    /// Whether and how the answer is compressed.
    pub(crate) wish: Wish,
}

impl Admitted {
    /// Returns what is changed in the head of the answer, if anything is.
    pub(crate) fn edits(&self) -> Option<&Edits> {
        self.record.service.as_ref()?.rules.as_ref()?.response.as_ref()
    }

    /// How long the head of the answer may take, from the end of the request.
    pub(crate) fn response_limit(&self) -> Option<Duration> {
        let milliseconds =
            self.record.service.as_ref().map_or(0, |service| service.settings.response_timeout_ms);
        (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
    }

    /// Says what the service's targets speak.
    pub(crate) fn target_protocol(&self) -> TargetProtocol {
        self.record.service.as_ref().map(|service| service.settings.target_protocol).unwrap_or_default()
    }
}

/// An answer of the proxy itself.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) status: u16,
    pub(crate) reason: Option<Reason>,
    /// The service that it counts for.
    pub(crate) flight: Option<Flight>,
    pub(crate) body: LocalBody,
    /// Further lines of its head, each with its end.
    pub(crate) lines: Vec<u8>,
}

/// What an answer of the proxy itself says.
#[derive(Debug)]
pub(crate) enum LocalBody {
    /// What stands for the status.
    Page,
    /// Where the client is sent.
    Redirect(String),
    /// Plain text, for a program.
    Text(String),
}

impl Local {
    /// Makes a page about a status.
    pub(crate) fn new(status: u16, reason: impl Into<Option<Reason>>) -> Self {
        Self { status, reason: reason.into(), flight: None, body: LocalBody::Page, lines: Vec::new() }
    }

    /// Makes an answer to a certificate authority.
    fn proof(text: Option<String>) -> Self {
        match text {
            Some(text) => Self { body: LocalBody::Text(text), ..Self::new(200, None) },
            None => Self {
                body: LocalBody::Text("not found\n".to_owned()),
                ..Self::new(404, Reason::UnknownProof)
            },
        }
    }
}

/// How a request came.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    pub(crate) peer: &'a Peer,
    pub(crate) at: Instant,
    pub(crate) port: u16,
    pub(crate) scheme: &'static str,
    /// What the log says is spoken, where the first line does not tell.
    pub(crate) protocol: Option<&'static str>,
    /// Whether the request was here before, and only waited.
    pub(crate) is_again: bool,
}

/// Decides about the head at the front of the buffer.
pub(crate) fn admit(worker: &Worker, arrival: &Arrival<'_>, buffer: &[u8]) -> Admission {
    let mut slots = slots();
    let request = match parse(buffer, &mut slots) {
        Ok(Some(request)) => request,
        Ok(None) => return Admission::Incomplete,
        Err(refusal) => return Admission::Refused(refusal),
    };
    let made = worker.request_id();
    let request_id = request.view.first(Kind::RequestId).unwrap_or(&made);
    let mut admitted = Admitted {
        record: Record::of(&request, request_id, arrival, worker.text()),
        version: request.version,
        framing: request.framing,
        head_len: request.head_len,
        keep_alive: request.keep_alive,
        expects_continue: request.expects_continue,
        asked: Asked {
            head: request.view.method == "HEAD",
            get: request.view.method == "GET",
            websocket: false,
        },
        upgrade: None,
        cookies: None,
        is_secure: arrival.scheme == "https",
        lines: Vec::new(),
        wish: Wish::Off,
    };
    if let Some(tracer) = &worker.tracer {
        admitted.record.span = tracer.begin(&request.view, arrival.scheme, worker.dice());
    }
    match request.form {
        Form::Asterisk => Admission::Local(admitted, Local::new(200, None)),
        Form::Authority => {
            // What comes next is meant for a tunnel.
            admitted.keep_alive = false;
            Admission::Local(admitted, Local::new(502, Reason::InvalidRequest))
        }
        Form::Origin | Form::Absolute => Judge { worker, arrival, request: &request, made }.judge(admitted),
    }
}

/// Everything that a decision is made on.
struct Judge<'j, 'h, 'b> {
    worker: &'j Worker,
    arrival: &'j Arrival<'j>,
    request: &'j Request<'h, 'b>,
    /// The id that the request gets if it has none.
    made: [u8; 36],
}

impl Judge<'_, '_, '_> {
    fn judge(&self, mut admitted: Admitted) -> Admission {
        let Self { worker, request, .. } = self;
        let is_proof = request.view.path.starts_with(HTTP_PATH);
        if is_proof && let Some(text) = worker.challenges.answer(request.view.path, request.view.query) {
            return Admission::Local(admitted, Local::proof(Some(text)));
        }
        // A route that changes meanwhile is decided about again, and the request counted once.
        let mut is_repeat = false;
        loop {
            let (version, table) = worker.table();
            let Some(route) = table.route(request.view.host, request.view.path) else {
                return Admission::Local(admitted, Local::new(404, Reason::NoService));
            };
            let service = route.service;
            admitted.record.service = Some(Arc::clone(service));
            admitted.upgrade = request.view.upgrade_of(&service.settings).map(Box::from);
            admitted.asked.websocket = admitted.upgrade.is_some();
            self.note(&mut admitted.record, &route);
            if is_proof
                && table.route(request.view.host, "/").is_some_and(|root| root.service.orders_certificates())
            {
                return Admission::Local(admitted, Local::proof(None));
            }
            let door = match self.door(&table, &route) {
                Ok(door) => door,
                Err((status, reason)) => return Admission::Local(admitted, Local::new(status, reason)),
            };
            let is_again = self.arrival.is_again || std::mem::replace(&mut is_repeat, true);
            match self.stops_early(&route, is_again, &mut admitted.record) {
                None | Some(Ruling::Pass) => {}
                Some(Ruling::Answer(local)) => return Admission::Local(admitted, local),
                Some(Ruling::Wait(ticket)) => {
                    let limit = worker.limits.password;
                    return Admission::Held(Held::at_the_desk(admitted, (version, limit), ticket));
                }
            }
            match &service.gate {
                Gate::Open => {}
                _ if is_health_check(&request.view, service, route.strip) => {
                    return Admission::Local(admitted, Local::new(200, None));
                }
                Gate::Stopped { .. } => {
                    return Admission::Local(admitted, Local::new(503, Reason::ServiceStopped));
                }
                Gate::Paused { max_pause_ms } => {
                    let limit = Duration::from_millis(*max_pause_ms);
                    let gate_moved = Arc::clone(&service.gate_moved);
                    let too_long = (504, Reason::PauseTimeout);
                    return Admission::Held(Held { admitted, version, limit, gate_moved, too_long });
                }
            }
            let (generation, place) = service.generation_for(&request.view, || worker.random());
            admitted.record.side = place.side;
            let (duty, affinity) = match generation.has_readers() {
                true => duty::of(&request.view, &service.settings),
                false => (Duty::Write, None),
            };
            let mut flight = generation.enter(worker.lane);
            if !worker.shared.is_current(version) {
                continue;
            }
            if admitted.record.is_left_out {
                flight.leave_out();
            }
            let Some((flight, target)) = choose(worker, service, flight, duty) else { continue };
            let Some(target) = target else {
                let local = Local { flight: Some(flight), ..Local::new(503, Reason::NoHealthyTarget) };
                return Admission::Local(admitted, local);
            };
            admitted.record.note_headers(&request.view.headers, &service.settings.log_request_headers);
            admitted.cookies = self.cookies(&route, affinity, place.visitor);
            admitted.wish = Wish::of(&request.view, &service.settings.compression, request.version);
            let mut passage = self.passage(flight, target, (route.strip, duty));
            passage.door = door;
            passage.write_head(worker, (request, self.arrival.peer), &mut admitted.record);
            return Admission::Forward(admitted, passage);
        }
    }

    /// Asks the service's rules, and whether the request belongs elsewhere.
    fn stops_early(&self, route: &Route<'_>, is_again: bool, record: &mut Record) -> Option<Ruling> {
        let rules = route.service.rules.as_ref();
        let visit = self.visit(is_again);
        if let Some(local) = rules.and_then(|rules| rules.screen(&visit, record)) {
            return Some(Ruling::Answer(local));
        }
        if let Some(location) = self.redirect(&route.service.settings, route.security) {
            let body = LocalBody::Redirect(location);
            return Some(Ruling::Answer(Local { body, ..Local::new(301, None) }));
        }
        rules.map(|rules| rules.greet(&visit))
    }

    /// Says what is done to the answer's cookies.
    fn cookies(
        &self,
        route: &Route<'_>,
        affinity: Option<Duration>,
        visitor: Option<Visitor>,
    ) -> Option<Box<CookieRules>> {
        let is_secure = self.arrival.scheme == "https";
        let visitor =
            visitor.map(|visitor| VisitorCookie::new(route.service.canary.as_ref(), visitor, is_secure));
        CookieRules { scope: cookie_scope(&self.request.view, route), affinity, visitor }.if_any()
    }

    fn visit(&self, is_again: bool) -> Visit<'_, '_, '_> {
        Visit {
            view: &self.request.view,
            peer: &self.arrival.peer.ip,
            scheme: self.arrival.scheme,
            is_again,
            trusted: self.worker.edge.trusted(),
        }
    }

    /// Looks at the connection by which a request came: status and reason of a refusal where it is the wrong one.
    fn door(&self, table: &Table, route: &Route<'_>) -> Result<Door, (u16, Reason)> {
        let is_encrypted = self.arrival.scheme == "https";
        match route.security {
            Security::Off if is_encrypted => return Err((503, Reason::TlsOff)),
            // There would be nobody to talk to where a redirect leads.
            Security::Required
                if !is_encrypted && self.root(table).is_some_and(Service::lacks_certificate) =>
            {
                return Err((503, Reason::NoCertificate));
            }
            _ => {}
        }
        if !table.knows_clients() {
            return Ok(Door::Open);
        }
        let Some(root) = self.root(table).filter(|root| root.wants_clients_known()) else {
            return Ok(Door::Open);
        };
        if !is_encrypted {
            // Where a redirect leads, a certificate is asked for. Below a path that is served without, nobody would ask.
            let is_redirected = route.security == Security::Required;
            return if is_redirected { Ok(Door::Open) } else { Err((421, Reason::Misdirected)) };
        }
        let accepts = |auth: &Arc<ClientAuth>| auth.accepts(self.arrival.peer.identity.as_deref());
        match root.client_auth.as_ref().is_some_and(accepts) {
            true => Ok(Door::Known),
            false => Err((421, Reason::Misdirected)),
        }
    }

    /// Returns the service that has the root path of the host, by which connections are agreed on.
    fn root<'t>(&self, table: &'t Table) -> Option<&'t Service> {
        table.route(self.request.view.host, "/").map(|root| &**root.service)
    }

    /// Says where a request belongs that came to another host than the canonical one, or not by HTTPS.
    fn redirect(&self, settings: &ServiceSettings, security: Security) -> Option<String> {
        let view = &self.request.view;
        let host = view.host.strip_suffix('.').unwrap_or(view.host);
        let canonical = settings.canonical_host.as_ref().map_or(host, HostPattern::as_str);
        let secures = security == Security::Required && self.arrival.scheme == "http";
        if !secures && host.eq_ignore_ascii_case(canonical) {
            return None;
        }
        let scheme = if secures { "https" } else { self.arrival.scheme };
        let query = view.query.map(|query| format!("?{query}")).unwrap_or_default();
        Some(format!("{scheme}://{canonical}{}{query}", view.path))
    }

    /// Notes what a service wants to be known of its requests.
    fn note(&self, record: &mut Record, route: &Route<'_>) {
        let (view, settings) = (&self.request.view, &route.service.settings);
        if let Some(address) = settings.client_ip_header.as_deref().and_then(|name| view.named(name)) {
            record.note_client(address);
        }
        if !settings.exclude_metrics_paths.is_empty() {
            let path = decode(view.path.get(route.strip..).unwrap_or_default());
            let path: &[u8] = if path.is_empty() { b"/" } else { &path };
            record.is_left_out =
                settings.exclude_metrics_paths.iter().any(|left_out| left_out.as_bytes() == path);
        }
    }

    fn passage(&self, flight: Flight, target: Arc<Target>, (strip, duty): (usize, Duty)) -> Passage {
        let waited = u64::try_from(self.arrival.at.elapsed().as_millis()).unwrap_or_default();
        let now = u64::try_from(Clock::unix().as_millis()).unwrap_or_default();
        Passage {
            seat: flight.generation.seat(&target),
            flight,
            target,
            head: self.worker.text(),
            repeatable: is_repeatable(self.request),
            strip,
            duty,
            request_id: self.made,
            started_unix_ms: now.saturating_sub(waited),
            scheme: self.arrival.scheme,
            door: Door::Open,
        }
    }
}

fn cookie_scope(view: &RequestView<'_, '_>, route: &Route<'_>) -> Option<CookieScope> {
    if route.strip == 0 || !route.service.settings.scope_cookie_paths {
        return None;
    }
    Some(CookieScope { prefix: route.prefix.to_owned(), host: view.host.to_ascii_lowercase() })
}

/// Says whether this asks for what the health check asks for, as the target would see it.
fn is_health_check(view: &RequestView<'_, '_>, service: &Service, strip: usize) -> bool {
    let path = view.path.get(strip..).unwrap_or_default().trim_start_matches('/');
    matches!(view.method, "GET" | "HEAD")
        && path == service.settings.health_check.path.trim_start_matches('/')
}

fn is_repeatable(request: &Request<'_, '_>) -> bool {
    request.framing == Framing::None && matches!(request.view.method, "GET" | "HEAD" | "OPTIONS" | "TRACE")
}

//! What a service wants done with its requests before a target gets them: who may come, how often, and what is changed.
//!
//! A service that wants nothing has no [`Rules`], so that its requests pay one comparison.

mod auth;
mod client;
mod edit;
mod limit;
mod redirect;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use freehold_model::Traffic;
use freehold_wire::{Reason, ServiceSettings};
use serde::{Deserialize, Serialize};

use crate::access::Record;
use crate::admit::{Local, LocalBody};
use crate::view::RequestView;

pub(crate) use auth::{AuthError, Ticket};
use auth::{Gatekeeper, Identity, Known};
pub(crate) use client::contains;
pub(crate) use edit::Edits;
pub(crate) use limit::key;
use limit::{Asked, Limiter};

/// A service's rules, made ready.
#[derive(Debug)]
pub(crate) struct Rules {
    traffic: Traffic,
    client_ip_header: Option<String>,
    limiter: Option<Arc<Limiter>>,
    gatekeeper: Option<Arc<Gatekeeper>>,
    /// What is changed in the heads of requests.
    pub(crate) request: Option<Edits>,
    /// What is changed in the heads of answers.
    pub(crate) response: Option<Edits>,
}

/// What a service's rules have found out, for a process that takes over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Memory {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rates: Option<Asked>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passwords: Option<Known>,
}

/// What was known of a service before: what is still for the same settings is kept.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Past<'p> {
    /// In this process.
    pub(crate) rules: Option<&'p Arc<Rules>>,
    /// In the process before.
    pub(crate) memory: Option<&'p Memory>,
}

/// A request as rules see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visit<'v, 'h, 'b> {
    pub(crate) view: &'v RequestView<'h, 'b>,
    /// The address that the connection comes from.
    pub(crate) peer: &'v str,
    /// The scheme by which the client came.
    pub(crate) scheme: &'static str,
    /// Whether it was here before, and only waited.
    pub(crate) is_again: bool,
    /// The proxies in front of this one that every service trusts.
    pub(crate) trusted: &'v [freehold_model::Network],
}

/// What rules say.
#[derive(Debug)]
pub(crate) enum Ruling {
    /// It may go on.
    Pass,
    /// It is answered here.
    Answer(Local),
    /// It waits until the password was looked at.
    Wait(Ticket),
}

impl Rules {
    /// Makes a service's rules ready; none where it wants nothing. Where its file of passwords cannot be used, nobody gets in.
    /// What clients have asked, and whose passwords were looked at, is not forgotten where the settings about it are the same.
    pub(crate) fn of(settings: &ServiceSettings, past: Past<'_>) -> (Option<Arc<Self>>, Option<AuthError>) {
        let traffic = settings.traffic.as_deref();
        if traffic.is_none() && settings.basic_auth_file.is_none() {
            return (None, None);
        }
        let traffic = traffic.cloned().unwrap_or_default();
        let (gatekeeper, error) = match settings.basic_auth_file.as_deref().map(Path::new) {
            None => (None, None),
            Some(path) => {
                let former = past.rules.and_then(|rules| rules.gatekeeper.as_ref());
                let known = past.memory.and_then(|memory| memory.passwords.as_ref());
                match Gatekeeper::load(path, former, known) {
                    Ok(gatekeeper) => (Some(gatekeeper), None),
                    Err(error) => (Some(Gatekeeper::closed()), Some(error)),
                }
            }
        };
        let rules = Self {
            client_ip_header: settings.client_ip_header.clone(),
            limiter: limiter(&traffic, past),
            gatekeeper,
            request: Edits::of_requests(&traffic),
            response: Edits::of_answers(&traffic),
            traffic,
        };
        (Some(Arc::new(rules)), error)
    }

    /// Returns what a process that takes over needs to know.
    pub(crate) fn memory(&self) -> Memory {
        Memory {
            rates: self.limiter.as_ref().map(|limiter| limiter.asked()),
            passwords: self.gatekeeper.as_ref().and_then(|gatekeeper| gatekeeper.known()),
        }
    }

    /// Says whether the lines `X-Forwarded-*` of a peer are believed, where this is for the rules to say.
    pub(crate) fn believes(&self, peer: &str, trusted: &[freehold_model::Network]) -> Option<bool> {
        if self.traffic.trusted_proxies.is_empty() && trusted.is_empty() {
            return None;
        }
        let peer = peer.parse().ok()?;
        Some(contains(&self.traffic.trusted_proxies, peer) || contains(trusted, peer))
    }

    /// Finds out who asks, and whether they may come at all and this often.
    pub(crate) fn screen(&self, visit: &Visit<'_, '_, '_>, record: &mut Record) -> Option<Local> {
        let client = self.client(visit, record)?;
        let Traffic { allow, block, .. } = &self.traffic;
        if contains(block, client) || (!allow.is_empty() && !contains(allow, client)) {
            return Some(Local::new(403, Reason::ClientBlocked));
        }
        let limiter = self.limiter.as_ref().filter(|_| !visit.is_again)?;
        let wait = limiter.take(client, Instant::now()).err()?;
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        let lines = format!("Retry-After: {seconds}\r\n").into_bytes();
        Some(Local { lines, ..Local::new(429, Reason::RateLimited) })
    }

    /// Returns the client's address, and notes it where it is another than the peer's.
    fn client(&self, visit: &Visit<'_, '_, '_>, record: &mut Record) -> Option<IpAddr> {
        let client = self.find_client(visit)?;
        if !self.trusted(visit).is_empty() {
            record.note_client(client.to_string().as_bytes());
        }
        Some(client)
    }

    fn trusted<'t>(&'t self, visit: &Visit<'t, '_, '_>) -> client::Trusted<'t> {
        client::Trusted { own: &self.traffic.trusted_proxies, all: visit.trusted }
    }

    fn find_client(&self, visit: &Visit<'_, '_, '_>) -> Option<IpAddr> {
        let peer: IpAddr = visit.peer.parse().ok()?;
        let trusted = self.trusted(visit);
        Some(client::find(visit.view, peer, self.client_ip_header.as_deref(), &trusted))
    }

    /// Sends a request elsewhere, or asks who it is from.
    pub(crate) fn greet(&self, visit: &Visit<'_, '_, '_>) -> Ruling {
        if let Some((status, location)) = redirect::find(&self.traffic.redirects, visit) {
            let body = LocalBody::Redirect(location);
            return Ruling::Answer(Local { body, ..Local::new(status, None) });
        }
        let client = |visit| self.find_client(visit).map_or(0, key);
        match self.gatekeeper.as_ref().map(|gatekeeper| gatekeeper.identify(visit.view, client(visit))) {
            None | Some(Identity::Known) => Ruling::Pass,
            Some(Identity::Stranger) => {
                let lines = b"WWW-Authenticate: Basic realm=\"Restricted\", charset=\"UTF-8\"\r\n".to_vec();
                Ruling::Answer(Local { lines, ..Local::new(401, Reason::Unauthorized) })
            }
            Some(Identity::Unsure(ticket)) => Ruling::Wait(ticket),
            Some(Identity::Untold) => Ruling::Answer(Local::new(503, Reason::AuthUnavailable)),
            Some(Identity::Busy(wait)) => {
                let lines = format!("Retry-After: {}\r\n", wait.as_secs().max(1)).into_bytes();
                Ruling::Answer(Local { lines, ..Local::new(503, Reason::AuthBusy) })
            }
        }
    }
}

/// Returns what counts a service's requests: what did so before where the rates are the same.
fn limiter(traffic: &Traffic, past: Past<'_>) -> Option<Arc<Limiter>> {
    let (client, service) = (traffic.client_rate, traffic.service_rate);
    let former = past.rules.and_then(|rules| rules.limiter.as_ref());
    if let Some(former) = former.filter(|former| former.is_for(client, service)) {
        return Some(Arc::clone(former));
    }
    let mut limiter = Limiter::of(client, service)?;
    if let Some(asked) = past.memory.and_then(|memory| memory.rates.as_ref()) {
        limiter.resume(asked);
    }
    Some(Arc::new(limiter))
}

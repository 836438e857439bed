//! Which service gets a request: hosts, path prefixes, and the table that is swapped as a whole.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use freehold_model::ProxyServiceName;
use freehold_wire::{Gate, HostPattern, PathPrefix, ServiceSettings, ServiceSnapshot};
use parking_lot::RwLock;
use rustls::sign::CertifiedKey;
use tokio::sync::Notify;

use crate::acme::Automatic;
use crate::canary::contest::Side;
use crate::canary::{Place, Trial};
use crate::certificate::Certificate;
use crate::client_auth::ClientAuth;
use crate::generation::{Generation, Target};
use crate::metrics::ServiceCounts;
use crate::rules::Rules;
use crate::target_tls::TargetAuthorities;
use crate::template::ErrorPages;
use crate::view::RequestView;

/// A service with the targets that serve it now.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) name: ProxyServiceName,
    pub(crate) settings: ServiceSettings,
    pub(crate) generation: Arc<Generation>,
    /// The targets of the release before, as long as the switch away from them is not final.
    pub(crate) standby: Option<Arc<Generation>>,
    /// The targets that are tried with a part of the visitors.
    pub(crate) canary: Option<Trial>,
    pub(crate) gate: Gate,
    /// Told when the gate may have been opened; the same for as long as the service exists.
    pub(crate) gate_moved: Arc<Notify>,
    /// The pages that stand for the proxy's own.
    pub(crate) pages: Option<Arc<ErrorPages>>,
    pub(crate) certificate: Option<ServiceCertificate>,
    /// What is done with its requests before a target gets them.
    pub(crate) rules: Option<Arc<Rules>>,
    /// How its clients are known, where they show certificates.
    pub(crate) client_auth: Option<Arc<ClientAuth>>,
    /// By whom its targets are trusted, where they speak TLS.
    pub(crate) target_authorities: Option<Arc<TargetAuthorities>>,
    /// Where its requests are counted, if they are.
    pub(crate) counts: Option<Arc<ServiceCounts>>,
}

/// Where a service's certificate comes from.
#[derive(Debug, Clone)]
pub(crate) enum ServiceCertificate {
    /// Files, for every name by which the service is found.
    Files(Arc<Certificate>),
    /// The proxy orders one for each host.
    Automatic(Automatic),
}

impl ServiceCertificate {
    /// Returns the certificate of a name, if there is one yet.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        match self {
            Self::Files(certificate) => Some(certificate.current()),
            Self::Automatic(automatic) => automatic.find(name),
        }
    }

    /// Returns the certificate for a client that names no host.
    pub(crate) fn any(&self) -> Option<Arc<CertifiedKey>> {
        match self {
            Self::Files(certificate) => Some(certificate.current()),
            Self::Automatic(automatic) => automatic.any(),
        }
    }
}

impl Service {
    /// Makes the same service with another gate.
    pub(crate) fn with_gate(&self, gate: Gate) -> Self {
        Self { gate, ..self.clone() }
    }

    /// Makes the same service with other targets to try.
    pub(crate) fn with_canary(&self, canary: Option<Trial>) -> Self {
        Self { canary, ..self.clone() }
    }

    /// Returns the generation that a request goes to, and how that was found.
    pub(crate) fn generation_for(
        &self,
        view: &RequestView<'_, '_>,
        random: impl FnOnce() -> u64,
    ) -> (&Arc<Generation>, Place) {
        let Some(canary) = &self.canary else { return (&self.generation, Place::OWN) };
        let place = canary.place(view, random);
        (if place.is_tried { &canary.generation } else { &self.generation }, place)
    }

    /// Counts a request that has ended for the comparison with targets that are tried.
    pub(crate) fn compare(&self, lane: usize, side: Side, is_error: bool, duration: Duration) {
        if let Some(contest) = self.canary.as_ref().and_then(|canary| canary.contest.as_ref()) {
            contest.note(lane, side, is_error, duration);
        }
    }

    /// Returns every generation that a request may go to.
    pub(crate) fn generations(&self) -> impl Iterator<Item = &Arc<Generation>> {
        let canary = self.canary.as_ref().map(|canary| &canary.generation);
        [Some(&self.generation), self.standby.as_ref(), canary].into_iter().flatten()
    }

    /// Returns every target that a request may go to.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.generations().flat_map(|generation| &generation.targets)
    }

    /// Says whether it is to be served over HTTPS and cannot, because its certificate is not there.
    pub(crate) fn lacks_certificate(&self) -> bool {
        self.certificate.is_none() && self.settings.tls.is_some()
    }

    /// Says whether clients have to show certificates, or may.
    pub(crate) fn wants_clients_known(&self) -> bool {
        self.settings.tls.as_ref().is_some_and(|tls| tls.clients.is_some())
    }

    /// Says whether its certificates are ordered, so that proofs for the authority are never its own business.
    pub(crate) fn orders_certificates(&self) -> bool {
        matches!(self.certificate, Some(ServiceCertificate::Automatic(_)))
    }

    /// Returns what is needed to install it again.
    pub(crate) fn snapshot(&self) -> ServiceSnapshot {
        ServiceSnapshot {
            name: self.name.clone(),
            targets: self.generation.addresses(),
            read_targets: self.generation.read_addresses(),
            settings: self.settings.clone(),
            generation: self.generation.number(),
            gate: self.gate.clone(),
            canary: self.canary.as_ref().map(Trial::snapshot),
        }
    }
}

#[derive(Debug)]
struct Binding {
    prefix: PathPrefix,
    service: Arc<Service>,
    security: Security,
}

/// Whether a service is served over HTTPS, and what happens to plain HTTP then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    Off,
    /// Both are served.
    Optional,
    /// Plain HTTP is redirected.
    Required,
}

impl Security {
    fn of(settings: &ServiceSettings) -> Self {
        match &settings.tls {
            None => Self::Off,
            Some(tls) if tls.redirect => Self::Required,
            Some(_) => Self::Optional,
        }
    }
}

fn has_root(settings: &ServiceSettings) -> bool {
    settings.path_prefixes.is_empty() || settings.path_prefixes.iter().any(PathPrefix::is_root)
}

/// Where a request goes.
#[derive(Debug)]
pub(crate) struct Route<'t> {
    pub(crate) service: &'t Arc<Service>,
    /// How many bytes of the path as it was sent are cut off.
    pub(crate) strip: usize,
    /// The prefix that it was found by.
    pub(crate) prefix: &'t str,
    pub(crate) security: Security,
}

/// All services and how they are reached; never changed, only replaced.
#[derive(Debug, Default)]
pub(crate) struct Table {
    services: BTreeMap<ProxyServiceName, Arc<Service>>,
    /// By host; a pattern `*.suffix` stands under `.suffix`, any host under nothing.
    hosts: BTreeMap<String, Vec<Binding>>,
    knows_clients: bool,
}

impl Table {
    /// Makes the table of these services.
    pub(crate) fn new(services: impl IntoIterator<Item = Arc<Service>>) -> Self {
        let mut table = Self::default();
        for service in services {
            for (host, prefix) in service.settings.bindings() {
                let key = host.as_str().strip_prefix('*').unwrap_or(host.as_str()).to_owned();
                table.hosts.entry(key).or_default().push(Binding {
                    prefix,
                    service: Arc::clone(&service),
                    security: Security::of(&service.settings),
                });
            }
            table.knows_clients |= service.wants_clients_known();
            table.services.insert(service.name.clone(), service);
        }
        for bindings in table.hosts.values_mut() {
            bindings.sort_by_key(|binding| std::cmp::Reverse(binding.prefix.as_str().len()));
        }
        table.inherit_security();
        table
    }

    /// Makes the table with a service added or replaced.
    pub(crate) fn with(&self, service: Arc<Service>) -> Self {
        let others = self.services.values().filter(|other| other.name != service.name).cloned();
        Self::new(others.chain([Arc::clone(&service)]).collect::<Vec<_>>())
    }

    /// Makes the table without a service.
    pub(crate) fn without(&self, name: &ProxyServiceName) -> Self {
        Self::new(self.services.values().filter(|other| other.name != *name).cloned().collect::<Vec<_>>())
    }

    /// Gives to services without the root path what the service has that serves it for their first host. Rule of
    /// kamal-proxy.
    fn inherit_security(&mut self) {
        let inherited: BTreeMap<ProxyServiceName, Security> = self
            .services
            .values()
            .filter(|service| !has_root(&service.settings))
            .map(|service| {
                let host = service.settings.hosts.first().map_or("", HostPattern::as_str);
                let root = self.route(host, "/").map(|route| Security::of(&route.service.settings));
                (service.name.clone(), root.unwrap_or(Security::Off))
            })
            .collect();
        for binding in self.hosts.values_mut().flatten() {
            if let Some(security) = inherited.get(&binding.service.name) {
                binding.security = *security;
            }
        }
    }

    /// Says whether any service wants its clients to show certificates.
    pub(crate) fn knows_clients(&self) -> bool {
        self.knows_clients
    }

    /// Returns a service by its name.
    pub(crate) fn service(&self, name: &ProxyServiceName) -> Option<&Arc<Service>> {
        self.services.get(name)
    }

    /// Returns all services, ordered by name.
    pub(crate) fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// Returns another service that has one of the pairs of host and prefix which settings ask for.
    pub(crate) fn holder(
        &self,
        name: &ProxyServiceName,
        settings: &ServiceSettings,
    ) -> Option<&Arc<Service>> {
        self.services.values().find(|other| other.name != *name && other.settings.collides_with(settings))
    }

    /// Finds the service of a host (without port) and a path as it was sent.
    ///
    /// The exact name goes before `*.suffix`, and that before any host. The level that has a service at all decides: a
    /// path that none of its services has is not looked for on the next level. Rule of kamal-proxy.
    pub(crate) fn route(&self, host: &str, path: &str) -> Option<Route<'_>> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let host = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(host.to_ascii_lowercase())
        } else {
            Cow::Borrowed(host)
        };
        // A key with a leading dot stands for a pattern; no host that a client sends may find it by name.
        let exact = if host.starts_with('.') || host.is_empty() { None } else { self.hosts.get(&*host) };
        let wildcard =
            || host.find('.').filter(|dot| *dot > 0).and_then(|dot| self.hosts.get(host.get(dot..)?));
        let level = exact.or_else(wildcard).or_else(|| self.hosts.get(""))?;
        level.iter().find_map(|binding| {
            let length = match_prefix(binding.prefix.as_str(), path)?;
            let strips = binding.service.settings.strip_path_prefix && !binding.prefix.is_root();
            let prefix = binding.prefix.as_str();
            Some(Route {
                service: &binding.service,
                strip: if strips { length } else { 0 },
                prefix,
                security: binding.security,
            })
        })
    }
}

/// Says how many bytes of a path, as it was sent, a prefix covers; none where it does not match.
///
/// A prefix matches whole segments of the decoded path.
pub(crate) fn match_prefix(prefix: &str, path: &str) -> Option<usize> {
    if prefix == "/" {
        return path.starts_with('/').then_some(0);
    }
    let mut at = 0;
    for wanted in prefix.bytes() {
        let (byte, length) = decoded(path.as_bytes(), at)?;
        if byte != wanted {
            return None;
        }
        at += length;
    }
    match decoded(path.as_bytes(), at) {
        None | Some((b'/', _)) => Some(at),
        Some(_) => None,
    }
}

fn decoded(path: &[u8], at: usize) -> Option<(u8, usize)> {
    let first = *path.get(at)?;
    let digit = |at: usize| char::from(*path.get(at)?).to_digit(16);
    match (first, digit(at + 1), digit(at + 2)) {
        (b'%', Some(high), Some(low)) => Some((u8::try_from(high * 16 + low).ok()?, 3)),
        _ => Some((first, 1)),
    }
}

/// The current table, which threads look at before each request.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    version: AtomicU64,
    table: RwLock<Arc<Table>>,
}

impl Shared {
    /// Returns the table and its version.
    pub(crate) fn load(&self) -> (u64, Arc<Table>) {
        let table = self.table.read();
        (self.version.load(Ordering::SeqCst), Arc::clone(&table))
    }

    /// Replaces the table.
    pub(crate) fn store(&self, table: Table) {
        let mut current = self.table.write();
        *current = Arc::new(table);
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// Says whether a version is the current one.
    ///
    /// A thread counts a request in and then asks this; the one who replaces the table does so and then reads the count.
    /// As both orders are total, one of the two sees the other: no request is missed by a drain.
    pub(crate) fn is_current(&self, version: u64) -> bool {
        self.version.load(Ordering::SeqCst) == version
    }
}

#[cfg(test)]
mod tests;

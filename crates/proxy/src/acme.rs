//! Certificates that the proxy orders by itself (ACME, RFC 8555): when a service is deployed, and again before they end.
//!
//! A certificate authority wants a proof that a name leads here. The threads that serve show it, by HTTP or TLS, before
//! anything else is looked at, so that neither redirects nor stopped services are in its way.

mod account;
mod challenge;
mod client;
mod demand;
mod dns;
mod fleet;
mod issue;
mod managed;
mod order;
mod permission;
mod question;
mod reach;
mod schedule;
mod store;
mod trust;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::ring::rand::{SecureRandom, SystemRandom};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use freehold_model::ProxyServiceName;
use freehold_wire::{Acme, FleetKey, FleetStore, HostPattern};
use instant_acme::ExternalAccountKey;
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::control::chain;
use crate::limits::Limits;
use crate::log::Log;
use crate::resolve::Resolver;
use crate::table::{ServiceCertificate, Shared};

pub(crate) use challenge::{Challenges, HTTP_PATH, LentProof, TLS_PROTOCOL};
pub(crate) use demand::OnDemand;
pub use dns::DnsConfig;
pub(crate) use managed::{Automatic, Managed, time_text};
pub(crate) use question::Question;
pub use reach::ProofPorts;
pub(crate) use store::StoreError;
pub(crate) use trust::public_connector;

use account::{Authority, Place};
use demand::Ask;
use dns::{NameServer, TextRecords};
use fleet::{Fleet, Key, KeyError};
use issue::current;
use managed::{Current, Ending};
use order::OrderError;
use trust::{Beside, RootsError, connector};

/// Let's Encrypt, and the place where it lets people try.
const USUAL_DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";
pub(crate) const STAGING_DIRECTORY: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// How many orders are under way at once; authorities limit how fast one client may go.
const MAX_ORDERS: usize = 4;

/// The longest sleep between two looks at what is due.
const LONGEST_SLEEP: Duration = Duration::from_secs(60 * 60);

/// How often an authority is asked for its wishes at least and at most, in seconds.
const ASK_SECONDS: (i64, i64) = (60, 24 * 60 * 60);

/// How certificates are ordered where a service says nothing else.
#[derive(Debug, Clone, Default)]
pub struct AcmeConfig {
    /// The URL of the certificate authority's directory; empty for Let's Encrypt's.
    pub directory: String,
    /// An e-mail address that the authority may write to.
    pub contact: Option<String>,
    /// The account at the authority that exists already, for those that want one.
    pub external_account: Option<ExternalAccount>,
    /// A file with the certificates, in PEM, that are trusted when the authority is talked to; the public ones where none is
    /// given.
    pub roots: Option<PathBuf>,
    /// The ports on which authorities look for proofs.
    pub ports: ProofPorts,
    /// Who puts proofs into the DNS, for wildcards.
    pub dns: Option<DnsConfig>,
}

/// An account at a certificate authority to which ours is bound (RFC 8555, section 7.3.4).
#[derive(Debug, Clone)]
pub struct ExternalAccount {
    /// The name of its key.
    pub key_id: String,
    /// The key, in URL-safe base64 as authorities hand it out.
    pub hmac_key: SecretString,
}

impl ExternalAccount {
    /// Says whether the key is one.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.key().is_ok()
    }

    fn key(&self) -> Result<ExternalAccountKey, OrderError> {
        let text = self.hmac_key.expose_secret().trim_end_matches('=');
        let key = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| OrderError::ExternalAccount)?;
        Ok(ExternalAccountKey::new(self.key_id.clone(), &key))
    }
}

/// Certificates cannot be ordered in this way.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcmeError {
    #[error("automatic TLS does not support wildcards unless there is a name server for proofs: `{host}`")]
    Wildcard { host: HostPattern },
    #[error("host must be set when using TLS")]
    AnyHost,
    #[error("`{directory}` is not the `https` URL of a certificate authority's directory")]
    Directory { directory: String },
    #[error("{message}")]
    Question { message: String },
    #[error(transparent)]
    Fleet(#[from] KeyError),
    #[error("cannot use the stored certificates")]
    Store(#[from] StoreError),
}

/// On which ports a connection of a proxy that is trusted has to begin with a PROXY header. What this proxy is told is taken
/// for what others of its fleet are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ProxyHeaders {
    /// For HTTP.
    pub(crate) http: bool,
    /// For HTTPS.
    pub(crate) https: bool,
}

/// What a proxy says that speaks for itself.
/// <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>
const OWN_HEADER: &[u8] = b"PROXY UNKNOWN\r\n";

/// Keeps the certificates of all names that services want.
pub(crate) struct Keeper {
    config: AcmeConfig,
    headers: ProxyHeaders,
    /// Where certificates are stored if a service says nothing else.
    folder: PathBuf,
    limits: Limits,
    resolver: Arc<Resolver>,
    tls: TlsConnector,
    /// For questions to servers elsewhere.
    question_tls: TlsConnector,
    log: Log,
    /// For wildcards, which can be proven in no other way.
    dns: Option<Box<dyn TextRecords>>,
    challenges: Arc<Challenges>,
    /// By directory, folder and the name of the fleet's key.
    authorities: Mutex<BTreeMap<(String, PathBuf, String), Arc<Authority>>>,
    /// By the names of their keys.
    fleets: Mutex<BTreeMap<String, Arc<Fleet>>>,
    /// What the process before was called in its fleets, by the names of their keys.
    former_ids: Mutex<BTreeMap<String, String>>,
    /// Told when there may be something to do.
    moved: Notify,
    /// Clients that wait for certificates on demand.
    asks: mpsc::Sender<Ask>,
    waiting: Mutex<Option<mpsc::Receiver<Ask>>>,
}
impl fmt::Debug for Keeper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Keeper").field("config", &self.config).finish_non_exhaustive()
    }
}
/// Counts seconds, a part of one as a whole.
fn whole_seconds(span: Duration) -> i64 {
    let more = u64::from(span.subsec_nanos() > 0);
    i64::try_from(span.as_secs().saturating_add(more)).unwrap_or(i64::MAX)
}

/// Makes a text that nobody can guess.
fn random_text() -> String {
    let mut bytes = [0; 16];
    // Where the system gives no random bytes, nothing else that is encrypted works either.
    SystemRandom::new().fill(&mut bytes).ok();
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> i64 {
    i64::try_from(Clock::unix().as_secs()).unwrap_or(i64::MAX)
}

/// Says whether a text can be the URL of a directory.
pub(crate) fn is_directory(text: &str) -> bool {
    text.parse::<http::Uri>()
        .is_ok_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty()))
}
impl Keeper {
    /// Makes a keeper that knows no name yet.
    pub(crate) fn new(
        config: AcmeConfig,
        folder: PathBuf,
        limits: Limits,
        (resolver, log): (Arc<Resolver>, Log),
        headers: ProxyHeaders,
    ) -> Result<Self, RootsError> {
        let tls = connector(config.roots.as_deref(), Beside::Nothing)?;
        let question_tls = connector(config.roots.as_deref(), Beside::Public)?;
        let (asks, waiting) = mpsc::channel(demand::MAX_WAITING);
        let server = |dns: &DnsConfig| NameServer::new(dns.clone(), &resolver, limits.acme_request);
        let dns = config.dns.as_ref().map(|dns| Box::new(server(dns)) as Box<dyn TextRecords>);
        Ok(Self {
            dns,
            config,
            headers,
            folder,
            limits,
            resolver,
            tls,
            question_tls,
            log,
            challenges: Arc::default(),
            authorities: Mutex::default(),
            fleets: Mutex::default(),
            former_ids: Mutex::default(),
            moved: Notify::new(),
            asks,
            waiting: Mutex::new(Some(waiting)),
        })
    }

    /// Returns the proofs that are asked for.
    pub(crate) fn challenges(&self) -> Arc<Challenges> {
        Arc::clone(&self.challenges)
    }

    /// Returns the certificates of hosts, with those that are stored. Those that are not are ordered once the service is
    /// installed.
    pub(crate) fn certificates(
        &self,
        service: &ProxyServiceName,
        acme: &Acme,
        hosts: &[HostPattern],
    ) -> Result<Automatic, AcmeError> {
        let checks_names = !acme.skip_name_check;
        if let Some(url) = &acme.on_demand_url {
            let authority = self.authority(service, acme)?;
            let on_demand = Some(Arc::new(OnDemand::new(service, url, &authority, &self.asks)?));
            return Ok(Automatic { authority, names: BTreeMap::new(), on_demand, checks_names });
        }
        if hosts.is_empty() {
            return Err(AcmeError::AnyHost);
        }
        for host in hosts {
            if host.is_any() {
                return Err(AcmeError::AnyHost);
            }
            if host.as_str().starts_with('*') && self.dns.is_none() {
                return Err(AcmeError::Wildcard { host: host.clone() });
            }
        }
        let authority = self.authority(service, acme)?;
        let mut names = BTreeMap::new();
        let mut known = authority.names.lock();
        for host in hosts {
            let name = host.as_str().to_owned();
            let managed =
                known.get(&name).cloned().or_else(|| authority.on_demand.lock().get(&name).cloned());
            let managed = match managed {
                Some(managed) => managed,
                None => {
                    let current = self.stored_certificate(&authority, &name)?;
                    let managed = Arc::new(Managed::new(&name, &authority, current));
                    known.insert(name.clone(), Arc::clone(&managed));
                    managed
                }
            };
            names.insert(name, managed);
        }
        drop(known);
        Ok(Automatic { authority, names, on_demand: None, checks_names })
    }

    fn authority(&self, service: &ProxyServiceName, acme: &Acme) -> Result<Arc<Authority>, AcmeError> {
        let wanted = acme.directory.as_ref().unwrap_or(&self.config.directory);
        let directory = if wanted == USUAL_DIRECTORY { "" } else { wanted };
        if !directory.is_empty() && !is_directory(directory) {
            return Err(AcmeError::Directory { directory: directory.to_owned() });
        }
        let folder = acme.cache_path.as_ref().map_or_else(|| self.folder.clone(), PathBuf::from);
        let fleet = acme.fleet.as_ref().map(|store| self.fleet(service, store)).transpose()?;
        let fleet_id = fleet.as_ref().map(|fleet| fleet.key.id().to_owned()).unwrap_or_default();
        let mut authorities = self.authorities.lock();
        let key = (directory.to_owned(), folder, fleet_id);
        let authority = authorities.entry(key).or_insert_with_key(|(_, certificates, _)| {
            let contact = acme.contact.clone().or_else(|| self.config.contact.clone());
            let retry = whole_seconds(self.limits.order_retry);
            Arc::new(Authority::new(directory, contact, Place { certificates, fleet, retry }, &self.log))
        });
        Ok(Arc::clone(authority))
    }

    /// Keeps the key of a service's fleet.
    pub(crate) fn keep_key(&self, service: &ProxyServiceName, key: &FleetKey) -> Result<(), AcmeError> {
        store::write_private(&self.key_path(service), key.secret().expose_secret().as_bytes())?;
        Ok(())
    }

    fn key_path(&self, service: &ProxyServiceName) -> PathBuf {
        self.folder.with_file_name("fleet-keys").join(service.as_str())
    }

    /// Returns the fleet of a key, with those who belong to it now.
    fn fleet(&self, service: &ProxyServiceName, store: &FleetStore) -> Result<Arc<Fleet>, KeyError> {
        let path = store.key_path.as_ref().map_or_else(|| self.key_path(service), PathBuf::from);
        let key = Key::read(&path)?;
        let mut fleets = self.fleets.lock();
        let fleet = fleets.entry(key.id().to_owned()).or_insert_with(|| {
            let id = self.former_ids.lock().remove(key.id());
            let fleet = Fleet::new(key, id, (&self.resolver, self.limits), self.headers.http);
            let fleet = Arc::new(fleet);
            self.challenges.hear(&fleet);
            fleet
        });
        fleet.meet(service, &store.peers);
        let fleet = Arc::clone(fleet);
        // With another key, the service belongs to the fleet from before no more.
        for other in fleets.values().filter(|other| !Arc::ptr_eq(other, &fleet)) {
            other.leave(service);
        }
        Ok(fleet)
    }

    /// Forgets a service that is gone.
    pub(crate) fn leave(&self, service: &ProxyServiceName) {
        for fleet in self.fleets.lock().values() {
            fleet.leave(service);
        }
    }

    /// Returns what a process that takes over needs to know: what this one is called in its fleets, and what it shows for
    /// others.
    pub(crate) fn legacy(&self) -> (BTreeMap<String, String>, Vec<LentProof>) {
        let fleets = self.fleets.lock();
        let ids = fleets.iter().map(|(key, fleet)| (key.clone(), fleet.id().to_owned()));
        (ids.collect(), self.challenges.lent())
    }

    /// Goes on as the process before.
    pub(crate) fn inherit(&self, ids: BTreeMap<String, String>, lent: &[LentProof]) {
        *self.former_ids.lock() = ids;
        self.challenges.lend_again(lent);
    }

    /// Reads a name's certificate; one that cannot be used is reported and ordered anew.
    fn stored_certificate(&self, authority: &Authority, name: &str) -> Result<Option<Current>, AcmeError> {
        self.stored_as(authority, (name, name))
    }

    /// Reads a name's certificate out of a file.
    fn stored_as(
        &self,
        authority: &Authority,
        (file, name): (&str, &str),
    ) -> Result<Option<Current>, AcmeError> {
        let Some(text) = authority.store.certificate(file)? else { return Ok(None) };
        match current(&text, name) {
            Ok(current) => Ok(Some(current)),
            Err(error) => {
                let path = authority.store.certificate_path(file);
                self.log.error(
                    "Stored certificate not used",
                    &[("path", &path.display()), ("error", &chain(&error))],
                );
                Ok(None)
            }
        }
    }

    /// Lets what is due be done now. What failed is tried again, unless the authority itself asked for a pause: somebody has
    /// deployed, perhaps after having put right what was wrong.
    pub(crate) fn hurry(&self, automatic: &Automatic) {
        let first_pause = whole_seconds(self.limits.order_retry);
        for managed in automatic.all() {
            let mut progress = managed.progress.lock();
            if !progress.is_asked {
                progress.not_before = progress.not_before.min(progress.tried.saturating_add(first_pause));
            }
        }
        self.moved.notify_one();
    }

    /// Orders what the services want, until the proxy stops.
    pub(crate) async fn run(self: Arc<Self>, shared: &Arc<Shared>, stopping: &CancellationToken) {
        let (mut orders, mut asked) = (JoinSet::new(), JoinSet::new());
        let Some(mut waiting) = self.waiting.lock().take() else { return };
        loop {
            let wait = self.begin_due(shared, &mut orders);
            tokio::select! {
                () = stopping.cancelled() => return,
                () = self.moved.notified() => {}
                () = sleep(wait) => {}
                Some(ended) = orders.join_next() => self.note_end(ended),
                Some(ended) = asked.join_next() => self.note_end(ended),
                Some(ask) = waiting.recv(), if asked.len() < demand::MAX_ASKED => {
                    asked.spawn(demand::attend(Arc::clone(&self), Arc::clone(shared), ask));
                }
            }
        }
    }

    fn note_end(&self, ended: Result<(), tokio::task::JoinError>) {
        if let Err(error) = ended {
            self.log.error("Certificate order panicked", &[("error", &error)]);
        }
    }

    /// Begins what is due; returns how long nothing more will be.
    fn begin_due(self: &Arc<Self>, shared: &Shared, orders: &mut JoinSet<()>) -> Duration {
        let (_, table) = shared.load();
        let now = now();
        let mut wait = LONGEST_SLEEP;
        let wanted = table.services().filter_map(|service| match &service.certificate {
            Some(ServiceCertificate::Automatic(automatic)) => Some(automatic),
            _ => None,
        });
        let wanted =
            wanted.flat_map(|automatic| automatic.all().into_iter().map(move |name| (automatic, name)));
        for (automatic, managed) in wanted {
            let due = managed.due();
            if due > now {
                let seconds = u64::try_from(due - now).unwrap_or_default();
                wait = wait.min(Duration::from_secs(seconds));
            } else if orders.len() < MAX_ORDERS && !managed.is_ordering.swap(true, Ordering::AcqRel) {
                orders.spawn(attend(Arc::clone(self), automatic.clone(), managed));
            }
        }
        wait
    }
}
/// Does for a name what is due.
async fn attend(keeper: Arc<Keeper>, automatic: Automatic, managed: Arc<Managed>) {
    let _ending = Ending(&managed);
    let authority = &automatic.authority;
    if !managed.is_order_due(now()) {
        keeper.ask_for_renewal(authority, &managed).await;
    }
    // What was just heard may be that it is time.
    if managed.is_order_due(now())
        && keeper.is_our_turn(authority, &managed).await
        && keeper.leads_here(&automatic, &managed).await
    {
        managed.progress.lock().tried = now();
        keeper.order(authority, &managed).await;
    }
    authority.save(&keeper.log);
}

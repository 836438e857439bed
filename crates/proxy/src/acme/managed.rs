//! A name whose certificate is ordered, and the certificates of a service.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use freehold_wire::{CertificateState, CertificateStatus};
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use super::account::Authority;
use super::demand::OnDemand;
use super::store::{Progress, Proof};
use super::{now, schedule};
use crate::certificate::details::Details;

/// The certificates of a service, one for each host.
#[derive(Clone)]
pub(crate) struct Automatic {
    pub(super) authority: Arc<Authority>,
    pub(super) names: BTreeMap<String, Arc<Managed>>,
    /// How certificates of further names are ordered, where they are.
    pub(super) on_demand: Option<Arc<OnDemand>>,
    /// Whether it is found out before an order whether the name leads here.
    pub(super) checks_names: bool,
}

/// A name, its certificate and how its order stands.
pub(crate) struct Managed {
    pub(super) name: String,
    pub(super) current: RwLock<Option<Current>>,
    pub(super) progress: Mutex<Progress>,
    pub(super) is_ordering: AtomicBool,
    /// Since when it is another proxy's turn to order, in seconds since 1970; 0 where it is not.
    pub(super) due_since: AtomicI64,
    /// Told when an order has come to its end.
    settled: Notify,
}

/// A certificate as it is served.
#[derive(Debug, Clone)]
pub(super) struct Current {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) details: Details,
}
impl fmt::Debug for Automatic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Automatic").field("names", &self.names).finish_non_exhaustive()
    }
}

impl fmt::Debug for Managed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Managed").field("name", &self.name).finish_non_exhaustive()
    }
}
impl Automatic {
    /// Returns the certificate of a name; one that is not there yet is none.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        self.known(&name)?.certified()
    }

    fn known(&self, name: &str) -> Option<Arc<Managed>> {
        let wildcard = || self.names.get(&format!("*{}", name.get(name.find('.')?..)?));
        let own = self.names.get(name).or_else(wildcard).cloned();
        own.or_else(|| self.on_demand.as_ref()?.find(name))
    }

    /// Returns every name that has a certificate or is to have one.
    pub(super) fn all(&self) -> Vec<Arc<Managed>> {
        let on_demand = self.on_demand.as_ref().map(|on_demand| on_demand.names()).unwrap_or_default();
        self.names.values().cloned().chain(on_demand).collect()
    }

    /// Returns who is to be asked for the certificate of a name that is not known.
    pub(crate) fn to_ask(&self, name: &str) -> Option<Arc<OnDemand>> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        self.on_demand.clone().filter(|_| self.known(&name).is_none())
    }

    /// Returns any certificate, for a client that names no host.
    pub(crate) fn any(&self) -> Option<Arc<CertifiedKey>> {
        self.names.values().find_map(|managed| managed.certified())
    }

    /// Returns the name whose certificate is being ordered for the first time, to wait for it.
    pub(crate) fn awaited(&self, name: &str) -> Option<Arc<Managed>> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        self.known(&name).filter(|managed| managed.is_awaited())
    }

    /// Returns when the certificates end, in seconds since 1970, by host.
    pub(crate) fn ends(&self) -> Vec<(String, i64)> {
        let end = |managed: &Managed| Some(managed.current.read().as_ref()?.details.valid.end);
        self.all().iter().filter_map(|managed| Some((managed.name.clone(), end(managed)?))).collect()
    }

    /// Says how the certificates stand.
    pub(crate) fn statuses(&self) -> Vec<CertificateStatus> {
        self.all().iter().map(|managed| managed.status()).collect()
    }
}

impl Managed {
    /// Makes what is known of a name when the proxy starts or a service first wants it.
    pub(super) fn new(name: &str, authority: &Authority, current: Option<Current>) -> Self {
        let mut progress = authority.stored.get(name).cloned().unwrap_or_default();
        if current.is_none() && progress.error.is_none() {
            // It was there once: somebody has removed the file.
            progress.not_before = progress.not_before.min(progress.tried.saturating_add(authority.retry));
        }
        Self {
            name: name.to_owned(),
            current: RwLock::new(current),
            progress: Mutex::new(progress),
            due_since: AtomicI64::new(0),
            is_ordering: AtomicBool::new(false),
            settled: Notify::new(),
        }
    }

    fn certified(&self) -> Option<Arc<CertifiedKey>> {
        self.current.read().as_ref().map(|current| Arc::clone(&current.certified))
    }

    /// Says whether there is a certificate.
    pub(super) fn has_certificate(&self) -> bool {
        self.current.read().is_some()
    }

    fn is_awaited(&self) -> bool {
        let has_none = self.current.read().is_none();
        has_none && (self.is_ordering.load(Ordering::Acquire) || self.progress.lock().tried == 0)
    }

    /// Waits until the order that is under way has come to its end.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub(crate) async fn settle(&self) {
        loop {
            let mut settled = pin!(self.settled.notified());
            settled.as_mut().enable();
            if !self.is_awaited() {
                return;
            }
            settled.await;
        }
    }

    /// Takes note of why nothing was ordered; returns how many orders have failed. This was none of them.
    pub(super) fn note_refusal(&self, error: &str, not_before: i64) -> u32 {
        let mut progress = self.progress.lock();
        let (tried, error) = (now(), Some(error.to_owned()));
        *progress = Progress { tried, not_before, is_asked: false, error, ..progress.clone() };
        progress.failures
    }

    /// Takes note of a certificate that was issued.
    pub(super) fn install(&self, current: Current, proof: Option<Proof>, not_before: i64) {
        *self.current.write() = Some(current);
        self.due_since.store(0, Ordering::Release);
        let mut progress = self.progress.lock();
        let proof = proof.or(progress.proof);
        *progress = Progress { tried: progress.tried, proof, not_before, ..Progress::default() };
    }

    fn status(&self) -> CertificateStatus {
        let current = self.current.read().clone();
        let progress = self.progress.lock().clone();
        let now = now();
        let is_ordering = self.is_ordering.load(Ordering::Acquire);
        let (state, next) = match &current {
            Some(current) if progress.error.is_none() && current.details.valid.end > now => {
                (CertificateState::Valid, Some(self.renewal(current, &progress)))
            }
            _ if is_ordering => (CertificateState::Ordering, None),
            _ if progress.error.is_some() => (CertificateState::Failed, Some(progress.not_before)),
            _ => (CertificateState::Ordering, None),
        };
        CertificateStatus {
            name: self.name.clone(),
            state,
            expires_at: current.and_then(|current| time_text(current.details.valid.end)),
            next_order_at: next.and_then(time_text),
            error: progress.error,
        }
    }

    /// Returns when a certificate is to be renewed.
    fn renewal(&self, current: &Current, progress: &Progress) -> i64 {
        progress.renewal.unwrap_or_else(|| schedule::renewal(&current.details, self.share(current)))
    }

    /// Returns a share that is the name's and its certificate's own, also after a restart.
    pub(super) fn share(&self, current: &Current) -> f64 {
        let mut digest = Sha256::new();
        digest.update(&current.details.serial);
        digest.update(&self.name);
        let number = digest.finalize().iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte));
        f64::from(number) / f64::from(u32::MAX)
    }

    /// Returns when something is to be done for it: now, or at a moment in seconds since 1970.
    pub(super) fn due(&self) -> i64 {
        let progress = self.progress.lock();
        match &*self.current.read() {
            None => progress.not_before,
            Some(current) => {
                let order = self.renewal(current, &progress).max(progress.not_before);
                // Without this number there is nothing to ask for.
                let ask = if current.details.authority_key.is_some() { progress.ask_again } else { i64::MAX };
                order.min(ask)
            }
        }
    }

    /// Says whether the certificate is to be ordered now.
    pub(super) fn is_order_due(&self, now: i64) -> bool {
        let progress = self.progress.lock();
        let renewal = self.current.read().as_ref().map(|current| self.renewal(current, &progress));
        renewal.is_none_or(|renewal| renewal <= now) && progress.not_before <= now
    }
}
/// Says that an order has come to its end, however it did.
pub(super) struct Ending<'a>(pub(super) &'a Managed);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.is_ordering.store(false, Ordering::Release);
        self.0.settled.notify_waiters();
    }
}

/// Writes a time as people read it.
pub(crate) fn time_text(seconds: i64) -> Option<String> {
    Timestamp::from_second(seconds).ok().map(|time| time.to_string())
}

//! Certificates that are ordered when a client asks for a name, once somebody has allowed it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_model::ProxyServiceName;
use freehold_wire::HostPattern;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::account::Authority;
use super::managed::Managed;
use super::question::Question;
use super::{AcmeError, Keeper};
use crate::log::Level;
use crate::table::Shared;

/// How many questions wait to be asked. More are denied.
pub(super) const MAX_WAITING: usize = 64;

/// How many questions are asked at once. More wait.
pub(super) const MAX_ASKED: usize = 16;

/// How many denials are remembered.
const MAX_DENIALS: usize = 10_000;

/// How a service's certificates are ordered on demand.
pub(crate) struct OnDemand {
    pub(super) service: ProxyServiceName,
    pub(super) question: Question,
    pub(super) authority: Arc<Authority>,
    asks: mpsc::Sender<Ask>,
    /// Which names were denied, and when.
    denied: Mutex<BTreeMap<String, Instant>>,
}

/// A client waits for the certificate of a name. Who waits no longer drops the other end.
#[derive(Debug)]
pub(super) struct Ask {
    on_demand: Arc<OnDemand>,
    name: String,
    done: oneshot::Sender<()>,
}

impl fmt::Debug for OnDemand {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OnDemand").field("service", &self.service).finish_non_exhaustive()
    }
}

impl OnDemand {
    /// Makes the way by which a service's certificates are ordered.
    pub(super) fn new(
        service: &ProxyServiceName,
        url: &str,
        authority: &Arc<Authority>,
        asks: &mpsc::Sender<Ask>,
    ) -> Result<Self, AcmeError> {
        Ok(Self {
            service: service.clone(),
            question: Question::parse(url).map_err(|message| AcmeError::Question { message })?,
            authority: Arc::clone(authority),
            asks: asks.clone(),
            denied: Mutex::default(),
        })
    }

    /// Returns the names that were allowed and are known since the proxy started.
    pub(super) fn names(&self) -> Vec<Arc<Managed>> {
        self.authority.on_demand.lock().values().cloned().collect()
    }

    /// Returns what is known of a name.
    pub(super) fn find(&self, name: &str) -> Option<Arc<Managed>> {
        self.authority.on_demand.lock().get(name).cloned()
    }

    /// Lets somebody be asked whether a name's certificate may be ordered, and waits for the answer. An order that is allowed
    /// is under way after it.
    ///
    /// # Cancel safety
    /// It may be dropped at any time; the question then ends, too.
    pub(crate) async fn ask(self: &Arc<Self>, name: &str) {
        let Some(name) = acceptable(name) else { return };
        if self.find(&name).is_some() {
            return;
        }
        let (done, answered) = oneshot::channel();
        // Where too many wait already, this one is denied.
        if self.asks.try_send(Ask { on_demand: Arc::clone(self), name, done }).is_ok() {
            // The sender is dropped where nobody answers, which is a denial.
            answered.await.ok();
        }
    }

    fn was_denied(&self, name: &str, for_long: Duration) -> bool {
        self.denied.lock().get(name).is_some_and(|at| at.elapsed() < for_long)
    }

    fn note_denial(&self, name: &str, for_long: Duration) {
        let mut denied = self.denied.lock();
        if denied.len() >= MAX_DENIALS {
            denied.retain(|_, at| at.elapsed() < for_long);
        }
        if denied.len() < MAX_DENIALS {
            denied.insert(name.to_owned(), Instant::now());
        }
    }
}

/// Returns a name, as it is ordered, if there can be a certificate for it: it becomes the name of a file.
fn acceptable(name: &str) -> Option<String> {
    let host = HostPattern::parse(name).ok()?;
    let name = host.as_str();
    let is_address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    (name.contains('.') && !name.starts_with('*') && !is_address).then(|| name.to_owned())
}

/// Takes an ask to its end, unless nobody waits for it any more.
pub(super) async fn attend(keeper: Arc<Keeper>, shared: Arc<Shared>, ask: Ask) {
    let Ask { on_demand, name, mut done } = ask;
    let is_given_up = tokio::select! {
        () = done.closed() => true,
        () = keeper.decide(&shared, &on_demand, &name) => false,
    };
    if is_given_up {
        keeper.log.line(Level::Debug, "Question about a certificate given up", &[("host", &name)]);
    } else {
        // Whoever asked may be gone by now.
        done.send(()).ok();
    }
}

impl Keeper {
    /// Finds out whether a name's certificate is to be had. One that is stored was allowed before.
    async fn decide(&self, shared: &Arc<Shared>, on_demand: &OnDemand, name: &str) {
        let authority = &on_demand.authority;
        if on_demand.find(name).is_some() {
            return;
        }
        // A service has had it as one of its hosts.
        let earlier = authority.names.lock().get(name).cloned();
        if let Some(earlier) = earlier.filter(|earlier| earlier.has_certificate()) {
            authority.on_demand.lock().entry(name.to_owned()).or_insert(earlier);
            return;
        }
        let stored = self.stored_certificate(authority, name).and_then(|stored| match stored {
            Some(stored) => Ok(Some(stored)),
            None => self.stored_as(authority, (&format!("{name}+rsa"), name)),
        });
        let stored = match stored {
            Ok(stored) => stored,
            Err(error) => {
                let text = crate::control::chain(&error);
                self.log.error("Stored certificate not read", &[("host", &name), ("error", &text)]);
                return;
            }
        };
        if stored.is_none() {
            if on_demand.was_denied(name, self.limits.denial) {
                return;
            }
            if let Err(denial) = self.ask_permission(shared, on_demand, name).await {
                on_demand.note_denial(name, self.limits.denial);
                let text = crate::control::chain(&denial);
                let fields: [(&str, &dyn fmt::Display); 3] =
                    [("service", &on_demand.service), ("host", &name), ("error", &text)];
                self.log.line(Level::Warn, "Certificate on demand denied", &fields);
                return;
            }
        }
        let managed = Arc::new(Managed::new(name, authority, stored));
        authority.on_demand.lock().entry(name.to_owned()).or_insert(managed);
        self.moved.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proxy-compat case 188: a trailing dot and capitals are the same name.
    #[test]
    fn only_names_of_hosts_are_asked_for() {
        assert_eq!(acceptable("Shop.Example.com.").as_deref(), Some("shop.example.com"));
        for name in ["", "localhost", "*.example.com", "127.0.0.1", "a/../b.com", "..", "a..b"] {
            assert_eq!(acceptable(name), None, "{name}");
        }
    }
}

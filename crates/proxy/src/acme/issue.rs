//! What is done for one name: an order, and the question when the next one is due.

use std::fmt::Display;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use instant_acme::CertificateIdentifier;
use rustls::pki_types::{CertificateDer, Der};
use tokio::time::timeout;

use super::account::Authority;
use super::fleet::Turn;
use super::managed::{Automatic, Current, Managed};
use super::order::{Issued, OrderError, Stage, Wanted, explain, order};
use super::store::{Progress, Proof};
use super::{ASK_SECONDS, Keeper, now, schedule, whole_seconds};
use crate::acme::managed::time_text;
use crate::certificate::details::Details;
use crate::certificate::{CertificateError, parse};
use crate::control::chain;
use crate::log::Level;

/// How often an order is begun whose nonces are refused.
const NONCE_TRIES: usize = 3;

impl Keeper {
    /// Asks the authority when it wants a certificate to be renewed (RFC 9773).
    pub(super) async fn ask_for_renewal(&self, authority: &Authority, managed: &Managed) {
        let Some(current) = managed.current.read().clone() else { return };
        let Some(identifier) = identifier(&current.details) else { return };
        let asked = async {
            let account = self.account(authority).await?;
            account.renewal_info(&identifier).await.map_err(OrderError::from)
        };
        let answer = timeout(self.limits.order, asked).await;
        let mut progress = managed.progress.lock();
        progress.ask_again = now() + ASK_SECONDS.1;
        match answer {
            Ok(Ok((info, pause))) => {
                let window = info.suggested_window;
                let (start, end) = (window.start.unix_timestamp(), window.end.unix_timestamp());
                if progress.renewal.is_none_or(|chosen| !(start..=end).contains(&chosen)) {
                    progress.renewal = Some(schedule::within(start, end, managed.share(&current)));
                }
                let pause = i64::try_from(pause.as_secs()).unwrap_or(i64::MAX);
                progress.ask_again = now() + pause.clamp(ASK_SECONDS.0, ASK_SECONDS.1);
            }
            // The certificate's own dates say when, too.
            Ok(Err(error)) => {
                let fields: [(&str, &dyn Display); 2] = [("host", &managed.name), ("error", &chain(&error))];
                self.log.line(Level::Debug, "Certificate authority names no time for the renewal", &fields);
            }
            Err(_) => {}
        }
    }

    /// Finds out whether a name leads here, unless it was proven once and nothing was wrong since.
    pub(super) async fn leads_here(&self, automatic: &Automatic, managed: &Managed) -> bool {
        let is_proven = {
            let progress = managed.progress.lock();
            progress.proof.is_some() && progress.failures == 0
        };
        let is_no_name = managed.name.starts_with('*') || managed.name.parse::<IpAddr>().is_ok();
        if !automatic.checks_names || is_proven || is_no_name {
            return true;
        }
        let Err(error) = self.look_for(&automatic.authority, &managed.name).await else { return true };
        let text = one_line(&chain(&error));
        let pause = schedule::pause(self.limits.order_retry, 1, share());
        let failures = managed.note_refusal(&text, now().saturating_add(whole_seconds(pause)));
        let not_before = managed.progress.lock().not_before;
        let authority = &automatic.authority;
        if let Some(fleet) = &authority.fleet {
            let failed = Some((failures, not_before, text.clone()));
            fleet.tell_end(&authority.store.subject(&managed.name), failed).await;
        }
        self.log.error("Certificate not ordered", &[("host", &managed.name), ("error", &text)]);
        false
    }

    /// Finds out whether it is this proxy that orders, where several share their certificates. What another one has is taken.
    pub(super) async fn is_our_turn(&self, authority: &Authority, managed: &Managed) -> bool {
        let Some(fleet) = &authority.fleet else { return true };
        let subject = authority.store.subject(&managed.name);
        let states = fleet.ask(&subject).await;
        for text in states.iter().filter_map(|state| state.stored.as_deref()) {
            self.adopt(authority, managed, text);
        }
        if !managed.is_order_due(now()) {
            return false;
        }
        let since = managed.due_since.load(Ordering::Acquire);
        let since = if since == 0 { now() } else { since };
        match fleet.turn(&subject, &states, since).await {
            Turn::Ours => return true,
            Turn::Wait { until } => {
                managed.due_since.store(since, Ordering::Release);
                managed.progress.lock().not_before = until;
            }
            Turn::Failed { failures, until, error } => {
                let mut progress = managed.progress.lock();
                let error = Some(format!("another proxy of the fleet ordered it: {error}"));
                let tried = now();
                *progress = Progress { failures, not_before: until, error, tried, ..progress.clone() };
            }
        }
        false
    }

    /// Takes over a certificate of another proxy of the fleet if it is newer.
    fn adopt(&self, authority: &Authority, managed: &Managed, text: &str) {
        let Ok(fresh) = current(text.as_bytes(), &managed.name) else { return };
        let valid = &fresh.details.valid;
        let known = managed.current.read().as_ref().map(|current| current.details.valid.start);
        if valid.end <= now() || known.is_some_and(|start| start >= valid.start) {
            return;
        }
        let expires = time_text(valid.end).unwrap_or_default();
        if let Err(error) = authority.store.put(&authority.store.subject(&managed.name), text) {
            self.log.error("Certificate not stored", &[("host", &managed.name), ("error", &chain(&error))]);
        }
        managed.progress.lock().tried = now();
        managed.install(fresh, None, now().saturating_add(whole_seconds(self.limits.reorder)));
        let fields: [(&str, &dyn Display); 2] = [("host", &managed.name), ("expires_at", &expires)];
        self.log.line(Level::Info, "Certificate of the fleet taken over", &fields);
    }

    /// Orders a certificate and serves it, or takes note of why there is none.
    pub(super) async fn order(&self, authority: &Authority, managed: &Managed) {
        self.log.info("Certificate ordered", &[("host", &managed.name), ("directory", &authority.url())]);
        let ordered = timeout(self.limits.order, self.try_order(authority, managed));
        let subject = authority.store.subject(&managed.name);
        let outcome = match &authority.fleet {
            None => ordered.await,
            Some(fleet) => {
                let failures = managed.progress.lock().failures;
                tokio::select! {
                    outcome = ordered => outcome,
                    never = fleet.keep_claim(&subject, failures) => match never {},
                }
            }
        };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("there was no certificate within {} s", self.limits.order.as_secs())),
        };
        match outcome {
            Ok((current, proof)) => {
                let expires = time_text(current.details.valid.end).unwrap_or_default();
                managed.install(current, proof, now().saturating_add(whole_seconds(self.limits.reorder)));
                self.log.info("Certificate issued", &[("host", &managed.name), ("expires_at", &expires)]);
            }
            Err(text) => self.note_failure(authority, managed, one_line(&text)),
        }
        if let Some(fleet) = &authority.fleet {
            let failed = {
                let progress = managed.progress.lock();
                progress.error.clone().map(|error| (progress.failures, progress.not_before, error))
            };
            fleet.tell_end(&subject, failed).await;
        }
    }

    fn note_failure(&self, authority: &Authority, managed: &Managed, text: String) {
        let asked = authority.not_before.lock().take();
        let asked = asked.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let asked = asked.and_then(|since| i64::try_from(since.as_secs()).ok());
        let mut progress = managed.progress.lock();
        progress.failures = progress.failures.saturating_add(1);
        let pause = schedule::pause(self.limits.order_retry, progress.failures, share());
        progress.not_before = now().saturating_add(whole_seconds(pause));
        progress.is_asked = asked.is_some_and(|asked| asked > progress.not_before);
        progress.not_before = progress.not_before.max(asked.unwrap_or_default());
        progress.error = Some(text.clone());
        let next = time_text(progress.not_before).unwrap_or_default();
        drop(progress);
        let fields: [(&str, &dyn Display); 3] =
            [("host", &managed.name), ("error", &text), ("next_order_at", &next)];
        self.log.error("Certificate not issued", &fields);
    }

    async fn try_order(
        &self,
        authority: &Authority,
        managed: &Managed,
    ) -> Result<(Current, Option<Proof>), String> {
        let name = &managed.name;
        let (known, failures) = {
            let progress = managed.progress.lock();
            (progress.proof.unwrap_or(Proof::Http), progress.failures)
        };
        // After a failure the other proof may be the one that can succeed. Both are tried in the first order only: an
        // authority takes but few failures in an hour.
        let first = if failures % 2 == 0 { known } else { known.other() };
        let first = if name.starts_with('*') { Proof::Dns } else { first };
        let mut issued = self.order_once((authority, managed), first).await;
        if failures == 0
            && let Err(OrderError::Proof { proof, .. }) = &issued
            && *proof == first
            && first != Proof::Dns
        {
            let again = self.order_once((authority, managed), first.other()).await;
            // Where the other proof is not offered, the same one has failed again.
            issued = match (issued, again) {
                (_, Ok(issued)) => Ok(issued),
                (
                    Err(OrderError::Proof { proof, detail }),
                    Err(OrderError::Proof { proof: other, detail: more }),
                ) if proof != other => {
                    let detail = format!("{detail}; nor by {}: {more}", other.name());
                    Err(OrderError::Proof { proof, detail })
                }
                (issued, Err(_)) => issued,
            };
        }
        let Issued { key, chain: certificate, proof } = issued.map_err(|error| describe(&error))?;
        let text = format!("{key}\n{certificate}");
        let current = current(text.as_bytes(), name).map_err(|error| {
            format!("what the certificate authority issued cannot be used: {}", chain(&error))
        })?;
        if let Err(error) = authority.store.put_certificate(name, &key, &certificate) {
            // It serves all the same: to order it again would not make room on the disk.
            self.log.error("Certificate not stored", &[("host", name), ("error", &chain(&error))]);
        }
        Ok((current, proof))
    }

    /// Orders, and at once again where the authority did not like our nonces: with several servers that may happen more often
    /// in a row than the library bears.
    async fn order_once(
        &self,
        (authority, managed): (&Authority, &Managed),
        proof: Proof,
    ) -> Result<Issued, OrderError> {
        for _ in 1..NONCE_TRIES {
            let outcome = self.order_now((authority, managed), proof).await;
            match &outcome {
                Err(error) if error.is_problem("badNonce") => {}
                _ => return outcome,
            }
        }
        self.order_now((authority, managed), proof).await
    }

    async fn order_now(
        &self,
        (authority, managed): (&Authority, &Managed),
        proof: Proof,
    ) -> Result<Issued, OrderError> {
        let replaces = managed.current.read().as_ref().and_then(|current| identifier(&current.details));
        let wanted = Wanted { name: &managed.name, proof, replaces };
        let account = self.account(authority).await?;
        let (fleet, dns) = (authority.fleet.as_deref(), self.dns.as_deref());
        let stage = Stage { challenges: &self.challenges, fleet, dns };
        match order(&account, &wanted, &stage).await {
            Err(error) if error.is_problem("accountDoesNotExist") => {
                // The authority has forgotten us, or we were given the files of another one.
                let account = self.new_account(authority).await?;
                order(&account, &wanted, &stage).await
            }
            outcome => outcome,
        }
    }
}

/// Returns a share by chance, 0 to 1.
fn share() -> f64 {
    f64::from(RandomState::new().build_hasher().finish() as u32) / f64::from(u32::MAX)
}

/// Reads a key and its certificate out of one text, and makes sure that they are for the name.
pub(super) fn current(text: &[u8], name: &str) -> Result<Current, CertificateError> {
    let path = Path::new(name);
    let certified = parse((text, path), (text, path))?;
    let leaf = certified.cert.first().cloned().unwrap_or_else(|| CertificateDer::from(Vec::new()));
    let details = Details::read(&leaf).ok_or_else(|| CertificateError::Chain { path: path.to_owned() })?;
    let refused = |source| CertificateError::Mismatch { source };
    // A wildcard is good for any name in its place.
    let example = name.replacen('*', "any", 1);
    let server = rustls::pki_types::ServerName::try_from(example)
        .map_err(|_| refused(rustls::Error::General("the name is not one of a host".to_owned())))?;
    let parsed = rustls::server::ParsedCertificate::try_from(&leaf).map_err(refused)?;
    rustls::client::verify_server_name(&parsed, &server).map_err(refused)?;
    Ok(Current { certified: Arc::new(certified), details })
}

/// Returns the name by which the authority knows a certificate.
fn identifier(details: &Details) -> Option<CertificateIdentifier<'static>> {
    let key = details.authority_key.as_deref()?;
    Some(CertificateIdentifier::new(Der::from_slice(key), Der::from_slice(&details.serial)).into_owned())
}

fn describe(error: &OrderError) -> String {
    match error {
        OrderError::Authority(instant_acme::Error::Api(problem)) => {
            format!("the certificate authority did not take the order: {}", explain(problem))
        }
        error => chain(error),
    }
}

/// What others wrote gets no line of its own, and none of its control characters.
fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

//! Who of a fleet orders: found out anew each time that a certificate is due.

use std::convert::Infallible;

use super::{Claim, Fleet, Message, Reply, State, Subject};
use crate::acme::{now, whole_seconds};

/// What is to be done about a subject that is due.
#[derive(Debug)]
pub(in crate::acme) enum Turn {
    /// This proxy orders.
    Ours,
    /// Somebody else does, or will; look again at this moment.
    Wait { until: i64 },
    /// The last order failed, whoever made it.
    Failed { failures: u32, until: i64, error: String },
}

impl Fleet {
    /// Asks the others how it stands.
    pub(in crate::acme) async fn ask(&self, subject: &Subject) -> Vec<State> {
        let replies = self.tell(&Message::Ask { subject: subject.clone() }).await;
        let states = replies.into_iter().filter_map(|reply| match reply {
            Reply::State(state) if state.id != self.id => Some(state),
            _ => None,
        });
        states.collect()
    }

    /// Finds out whose turn it is, and claims it where it is ours. It has been due since a moment; whoever comes first but
    /// does not know of it yet is waited for only for a while.
    pub(in crate::acme) async fn turn(&self, subject: &Subject, states: &[State], due_since: i64) -> Turn {
        let own = self.known.lock().claims.get(subject).cloned();
        let claims: Vec<&Claim> =
            states.iter().filter_map(|state| state.claim.as_ref()).chain(&own).collect();
        let failed = claims.iter().filter(|claim| claim.error.is_some()).max_by_key(|claim| claim.until);
        let failures = claims.iter().map(|claim| claim.failures).max().unwrap_or(0);
        let again = now() + whole_seconds(self.poll());
        let taken = claims
            .iter()
            .any(|claim| claim.holder != self.id && claim.until > now() && claim.error.is_none());
        if taken {
            return Turn::Wait { until: again };
        }
        if let Some(failed) = failed.filter(|failed| failed.until > now() && failed.holder != self.id) {
            let error = failed.error.clone().unwrap_or_default();
            return Turn::Failed { failures: failed.failures, until: failed.until, error };
        }
        let is_ours =
            |claim: &&Claim| claim.holder == self.id && claim.until > now() && claim.error.is_none();
        if claims.iter().any(is_ours) && self.claim(subject, failures).await {
            // Begun by the process before, which this one has taken over from.
            return Turn::Ours;
        }
        let rank = Self::rank(&self.id, subject, failures);
        let before_us = states.iter().filter(|state| Self::rank(&state.id, subject, failures) < rank).count();
        let patience = self.claim_span().saturating_mul(i64::try_from(before_us).unwrap_or(i64::MAX));
        if before_us > 0 && now() < due_since.saturating_add(patience) {
            return Turn::Wait { until: again };
        }
        match self.claim(subject, failures).await {
            true => Turn::Ours,
            false => Turn::Wait { until: again },
        }
    }

    /// Tells everybody that this proxy orders, for now; says whether nobody objects.
    pub(in crate::acme) async fn claim(&self, subject: &Subject, failures: u32) -> bool {
        let until = now() + self.claim_span();
        let claim = Claim { holder: self.id.clone(), until, failures, error: None };
        if !self.grant(subject.clone(), claim.clone()) {
            return false;
        }
        let replies = self.tell(&Message::Claim { subject: subject.clone(), claim }).await;
        let is_free = replies.iter().all(|reply| !matches!(reply, Reply::Claimed { is_granted: false }));
        if !is_free {
            self.known.lock().claims.remove(subject);
        }
        is_free
    }

    /// Says again and again that this proxy still orders.
    ///
    /// # Cancel safety
    /// It never ends, and is to be dropped.
    pub(in crate::acme) async fn keep_claim(&self, subject: &Subject, failures: u32) -> Infallible {
        loop {
            tokio::time::sleep(self.limits.fleet_claim / 3).await;
            self.claim(subject, failures).await;
        }
    }

    /// Tells everybody how an order of this proxy has ended: why it failed and when the next one is due, or that it did not.
    pub(in crate::acme) async fn tell_end(&self, subject: &Subject, failed: Option<(u32, i64, String)>) {
        let (failures, until, error) = match failed {
            None => (0, 0, None),
            Some((failures, until, error)) => (failures, until, Some(error)),
        };
        let claim = Claim { holder: self.id.clone(), until, failures, error };
        self.known.lock().claims.insert(subject.clone(), claim.clone());
        self.tell(&Message::Claim { subject: subject.clone(), claim }).await;
    }
}

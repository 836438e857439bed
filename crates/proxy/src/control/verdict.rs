//! Targets that are tried: compared, and then promoted or given up.

use std::sync::Arc;
use std::time::Duration;

use freehold_model::ProxyServiceName;
use freehold_wire::{CanaryReply, ErrorCode, ErrorReply, SplitRequest, Verdict, VerdictState};

use super::{Control, Ledger, refusal, unknown};
use crate::canary::Trial;
use crate::canary::contest::Contest;
use crate::log::Level;
use crate::state::State;
use crate::table::{Service, Table};

/// How long requests may go on at the targets that were replaced by those that were tried.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// How long upgraded connections may.
const TUNNEL_LIMIT: Duration = Duration::from_secs(300);

impl Control {
    /// Looks at every comparison until the proxy stops.
    pub(crate) async fn watch_trials(self: &Arc<Self>, interval: Duration) {
        loop {
            let pause = self.stopping.run_until_cancelled(tokio::time::sleep(interval));
            if pause.await.is_none() {
                return;
            }
            // Not while the state is handed to another process, which decides from then on.
            let _change = self.changes.read().await;
            if self.check_not_stopping().is_err() {
                return;
            }
            let (_, table) = self.shared.load();
            for service in table.services() {
                let contest = service.canary.as_ref().and_then(|canary| canary.contest.as_ref());
                if let Some(contest) = contest
                    && let Some(verdict) = contest.decide()
                {
                    self.act_on(&service.name, contest, verdict);
                }
            }
        }
    }

    /// Does what a verdict says. Where it cannot be stored, nothing is changed, and the next look decides again.
    /// The lock of the ledger is held from the question whether the comparison is still the current one to the note of the
    /// verdict: whoever splits anew in between would lose the split, or find a verdict about another comparison.
    fn act_on(self: &Arc<Self>, name: &ProxyServiceName, contest: &Arc<Contest>, verdict: Verdict) {
        let mut ledger = self.ledger.lock();
        let (_, table) = self.shared.load();
        let is_ours = |service: &&Arc<Service>| {
            let current = service.canary.as_ref().and_then(|canary| canary.contest.as_ref());
            current.is_some_and(|current| Arc::ptr_eq(current, contest))
        };
        if table.service(name).filter(is_ours).is_none() {
            return;
        }
        let done = match verdict.state {
            VerdictState::Watching => return,
            VerdictState::Promoted if contest.promotes() => self.promote(&mut ledger, name),
            VerdictState::Promoted | VerdictState::Passed => self.end_contest(&ledger, name, true),
            VerdictState::Aborted => self.end_contest(&ledger, name, false),
        };
        let level = if verdict.state == VerdictState::Aborted { Level::Warn } else { Level::Info };
        match done {
            Ok(()) => {
                let fields: [(&str, &dyn std::fmt::Display); 5] = [
                    ("service", name),
                    ("verdict", &verdict.state),
                    ("why", &verdict.why),
                    ("own_requests", &verdict.own.requests),
                    ("tried_requests", &verdict.tried.requests),
                ];
                self.log.line(level, "Decided about rollout", &fields);
                ledger.verdicts.insert(name.clone(), verdict);
            }
            Err(error) => {
                let fields: [(&str, &dyn std::fmt::Display); 2] =
                    [("service", name), ("error", &error.message)];
                self.log.error("Verdict about rollout not followed", &fields);
            }
        }
    }

    /// Ends a comparison, and lets visitors go on to the targets or not.
    fn end_contest(&self, ledger: &Ledger, name: &ProxyServiceName, goes_on: bool) -> Result<(), ErrorReply> {
        let (_, table) = self.shared.load();
        let service = table.service(name).ok_or_else(|| unknown(name))?;
        let Some(trial) = &service.canary else { return Ok(()) };
        let mut split = trial.split.clone().filter(|_| goes_on);
        if let Some(split) = &mut split {
            split.verdict = None;
        }
        let trial = Trial::new(Arc::clone(&trial.generation), split, self.thread_count);
        let table = table.with(Arc::new(service.with_canary(Some(trial))));
        self.save(&State::new(ledger.generation, ledger.fences.clone(), snapshots(&table)))?;
        self.shared.store(table);
        Ok(())
    }

    /// Makes the targets that are tried the service's own, because somebody says so.
    pub(crate) fn promote_by_hand(
        self: &Arc<Self>,
        name: &ProxyServiceName,
        request: &SplitRequest,
    ) -> Result<CanaryReply, ErrorReply> {
        if request.split.is_some() {
            return Err(refusal(ErrorCode::Invalid, "`split` has no place here: all visitors go there"));
        }
        self.raise_fence(name, request.fence)?;
        self.promote(&mut self.ledger.lock(), name)?;
        Ok(CanaryReply { canary: None, drained: None })
    }

    /// Makes the targets that are tried the service's own; the earlier ones are drained.
    fn promote(self: &Arc<Self>, ledger: &mut Ledger, name: &ProxyServiceName) -> Result<(), ErrorReply> {
        let (_, table) = self.shared.load();
        let service = table.service(name).ok_or_else(|| unknown(name))?;
        let Some(trial) = &service.canary else {
            return Err(refusal(ErrorCode::Invalid, "rollout target not set"));
        };
        let promoted = Service {
            generation: Arc::clone(&trial.generation),
            standby: None,
            canary: None,
            ..Service::clone(service)
        };
        let (earlier, standby) = (Arc::clone(&service.generation), service.standby.clone());
        let table = table.with(Arc::new(promoted));
        let number = ledger.generation + 1;
        self.save(&State::new(number, ledger.fences.clone(), snapshots(&table)))?;
        ledger.generation = number;
        self.install(table);
        if let Some(checks) = ledger.canary_checks.remove(name) {
            ledger.checks.insert(name.clone(), checks);
        }
        for generation in [Some(earlier), standby].into_iter().flatten() {
            drop(self.retire(ledger, name, &generation, Some((DRAIN_LIMIT, TUNNEL_LIMIT))));
        }
        self.log.info("Promoted rollout", &[("service", name)]);
        Ok(())
    }
}

fn snapshots(table: &Table) -> Vec<freehold_wire::ServiceSnapshot> {
    table.services().map(|service| service.snapshot()).collect()
}

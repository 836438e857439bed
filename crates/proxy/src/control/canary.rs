//! Targets that are tried with a part of a service's visitors: installed, split, drained.

use std::sync::Arc;
use std::time::Duration;

use freehold_model::ProxyServiceName;
use freehold_wire::{
    CanaryReply, CanaryRequest, DrainReport, ErrorCode, ErrorReply, HealthState, SplitRequest,
};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::checks::follow_all;
use super::{Control, bounds, refusal, unknown};
use crate::canary::Trial;
use crate::generation::{Generation, Members};
use crate::state::State;

impl Control {
    /// Installs targets to try beside a service's, in place of those that were tried before.
    ///
    /// # Cancel safety
    /// Dropped before the switch, nothing was changed; dropped after it, the switch is complete and the drain goes on.
    pub(crate) async fn install_canary(
        self: &Arc<Self>,
        name: &ProxyServiceName,
        request: &CanaryRequest,
    ) -> Result<CanaryReply, ErrorReply> {
        bounds::canary(request)?;
        self.raise_fence(name, request.fence)?;
        let service = self.shared.load().1.service(name).cloned().ok_or_else(|| unknown(name))?;
        let targets: Vec<String> = request.targets.iter().map(ToString::to_string).collect();
        let targets = targets.join(",");
        self.log.info("Deploying for rollout", &[("service", name), ("targets", &targets)]);
        let members = Members { targets: &request.targets, read_targets: &request.read_targets };
        let generation = Arc::new(
            Generation::new(members, HealthState::Adding, self.thread_count).caring(&service.settings),
        );
        let check = &service.settings.health_check;
        let checks = follow_all(&generation, check, (&self.resolver, &self.log));
        self.await_health(&generation, check, Duration::from_millis(request.deploy_timeout_ms)).await?;
        let (mut reply, drained) = self.switch_canary(name, request, (generation, checks))?;
        self.log.info("Deployed for rollout", &[("service", name), ("targets", &targets)]);
        if let Some(drained) = drained {
            // The drain's task drops its sender only when the proxy stops.
            reply.drained = drained.await.ok();
        }
        Ok(reply)
    }

    fn switch_canary(
        self: &Arc<Self>,
        name: &ProxyServiceName,
        request: &CanaryRequest,
        (generation, checks): (Arc<Generation>, JoinSet<()>),
    ) -> Result<(CanaryReply, Option<oneshot::Receiver<DrainReport>>), ErrorReply> {
        self.raise_fence(name, request.fence)?;
        let mut ledger = self.ledger.lock();
        let (_, table) = self.shared.load();
        // It may have been removed or deployed again while the targets were waited for.
        let service = table.service(name).ok_or_else(|| unknown(name))?;
        let before = service.canary.clone();
        let number = ledger.generation + 1;
        generation.set_number(number);
        let split = before.as_ref().and_then(|before| before.split.clone());
        let trial = Trial::new(generation, split, self.thread_count);
        let canary = Some(trial.snapshot());
        let table = table.with(Arc::new(service.with_canary(Some(trial))));
        let services = table.services().map(|service| service.snapshot()).collect();
        self.save(&State::new(number, ledger.fences.clone(), services))?;
        ledger.generation = number;
        self.install(table);
        ledger.canary_checks.insert(name.clone(), checks);
        // What was decided was about the targets before.
        ledger.verdicts.remove(name);
        let limit = Duration::from_millis(request.drain_timeout_ms);
        let drained = before
            .map(|before| self.retire(&mut ledger, name, &before.generation, Some((limit, Duration::ZERO))));
        Ok((CanaryReply { canary, drained: None }, drained))
    }

    /// Takes the targets that are tried away, where there are any. What they have begun they end.
    pub(crate) fn remove_canary(
        self: &Arc<Self>,
        name: &ProxyServiceName,
        fence: Option<u64>,
    ) -> Result<CanaryReply, ErrorReply> {
        self.raise_fence(name, fence)?;
        let mut ledger = self.ledger.lock();
        let (_, table) = self.shared.load();
        let service = table.service(name).ok_or_else(|| unknown(name))?;
        let Some(trial) = service.canary.clone() else {
            return Ok(CanaryReply { canary: None, drained: None });
        };
        let table = table.with(Arc::new(service.with_canary(None)));
        let number = ledger.generation + 1;
        let services = table.services().map(|service| service.snapshot()).collect();
        self.save(&State::new(number, ledger.fences.clone(), services))?;
        ledger.generation = number;
        self.install(table);
        ledger.canary_checks.remove(name);
        drop(self.retire(&mut ledger, name, &trial.generation, None));
        self.log.info("Removed rollout", &[("service", name)]);
        Ok(CanaryReply { canary: None, drained: None })
    }

    /// Says which visitors go to the targets that are tried.
    pub(crate) fn split(
        &self,
        name: &ProxyServiceName,
        request: &SplitRequest,
    ) -> Result<CanaryReply, ErrorReply> {
        bounds::split(request)?;
        self.raise_fence(name, request.fence)?;
        let mut ledger = self.ledger.lock();
        let (_, table) = self.shared.load();
        let service = table.service(name).ok_or_else(|| unknown(name))?;
        let trial = match (&service.canary, &request.split) {
            (Some(trial), split) => {
                Trial::new(Arc::clone(&trial.generation), split.clone(), self.thread_count)
            }
            (None, None) => return Ok(CanaryReply { canary: None, drained: None }),
            (None, Some(_)) => return Err(refusal(ErrorCode::Invalid, "rollout target not set")),
        };
        let canary = Some(trial.snapshot());
        let table = table.with(Arc::new(service.with_canary(Some(trial))));
        let services = table.services().map(|service| service.snapshot()).collect();
        self.save(&State::new(ledger.generation, ledger.fences.clone(), services))?;
        self.shared.store(table);
        ledger.verdicts.remove(name);
        drop(ledger);
        match &request.split {
            Some(split) => {
                let listed = split.allow_list.len();
                self.log.info(
                    "Set rollout split",
                    &[("service", name), ("percentage", &split.percentage), ("listed", &listed)],
                );
            }
            None => self.log.info("Stopped rollout", &[("service", name)]),
        }
        Ok(CanaryReply { canary, drained: None })
    }
}

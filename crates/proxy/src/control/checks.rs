//! The health checks of installed targets, and the wait for new ones to be healthy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_wire::{ErrorCode, ErrorReply, HealthCheck, HealthState, ProbeReport};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Control;
use crate::generation::Generation;
use crate::health::{Follow, Until, check, follow};
use crate::log::{Level, Log};
use crate::resolve::Resolver;

/// How long a target is looked at that was not heard from until the time for its health was over.
const LAST_LOOK: Duration = Duration::from_millis(300);

/// Follows the targets of an installed generation: a single one until it was healthy once, as nothing could take its
/// place; several for ever.
pub(super) fn follow_installed(
    generation: &Arc<Generation>,
    check: &HealthCheck,
    tools: (&Arc<Resolver>, &Log),
) -> JoinSet<()> {
    if generation.targets.len() > 1 || !generation.is_healthy() {
        return follow_all(generation, check, tools);
    }
    JoinSet::new()
}

pub(super) fn follow_all(
    generation: &Arc<Generation>,
    check: &HealthCheck,
    (resolver, log): (&Arc<Resolver>, &Log),
) -> JoinSet<()> {
    let mut checks = JoinSet::new();
    let until = if generation.targets.len() > 1 { Until::Forever } else { Until::Healthy };
    for target in &generation.targets {
        let check = check.clone();
        let options = Follow { check, until, resolver: Arc::clone(resolver), log: log.clone() };
        checks.spawn(follow(Arc::clone(generation), Arc::clone(target), options));
    }
    checks
}

impl Control {
    /// Waits until all targets are healthy at the same time, or fails after a time limit with what their checks saw.
    pub(super) async fn await_health(
        &self,
        generation: &Generation,
        health_check: &HealthCheck,
        limit: Duration,
    ) -> Result<(), ErrorReply> {
        let started = Instant::now();
        let healthy = async {
            loop {
                let mut changed = std::pin::pin!(generation.health_changed.notified());
                changed.as_mut().enable();
                if generation.is_healthy() {
                    return;
                }
                changed.await;
            }
        };
        if timeout(limit, healthy).await.is_ok() {
            return Ok(());
        }
        let mut probes = Vec::new();
        for target in &generation.targets {
            let last = match target.last_check() {
                Some(outcome) => outcome,
                // No check has come to its end: a short one says whether the target at least takes connections.
                None => check(&self.resolver, &target.address, health_check, LAST_LOOK).await,
            };
            probes.push(ProbeReport {
                target: target.address.clone(),
                healthy: target.health() == HealthState::Healthy,
                attempts: target.checks().max(1),
                elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
                last,
            });
        }
        for probe in probes.iter().filter(|probe| !probe.healthy) {
            self.log.line(
                Level::Warn,
                "Target not healthy",
                &[("target", &probe.target), ("saw", &probe.last)],
            );
        }
        let limit = crate::command::duration::format(limit);
        let message = format!("target failed to become healthy within configured timeout ({limit})");
        Err(ErrorReply { code: ErrorCode::Unhealthy, message, probes })
    }
}

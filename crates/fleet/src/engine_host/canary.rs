//! A release that is tried beside the one that serves.

use std::time::Duration;

use freehold_model::{Canary, ContainerName, ProxyServiceName, Release};
use freehold_plan::{Action, ObservedCanary, ObservedSide, ObservedVerdict, Step, Undo, VerdictState};
use freehold_wire::{
    CanaryRequest, HealthState, ProxyError, ServiceStatus, SideReport, Split, SplitRequest, TargetAddress,
    Verdict, VerdictRule,
};

use crate::engine_host::proxy::{CONTROL_DEADLINE, ProxyFailure};
use crate::engine_host::{EngineHost, scripts};
use crate::event::milliseconds;
use crate::host::{HostError, Outcome, StepContext, StepError};

impl EngineHost {
    /// Does a step about a release that is tried. Any other one changes nothing.
    pub(super) async fn try_release(
        &self,
        action: &Action,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        match action {
            Action::RecordCanary { release } => self.record_canary(release, context).await,
            Action::StartCanary { service, containers, port, canary, deadline, .. } => {
                self.start_canary(service, (containers, *port), (canary, *deadline), context).await
            }
            Action::EndCanary { service, drain } => self.end_canary(service, *drain, context).await,
            Action::ForgetCanary => self.forget_canary(context).await,
            _ => Ok(Outcome::AlreadyDone),
        }
    }

    /// Undoes such a step.
    pub(super) async fn undo_try(&self, step: &Step, context: &StepContext<'_>) -> Result<(), StepError> {
        match &step.undo {
            Undo::EndCanary { service, drain } => drop(self.end_canary(service, *drain, context).await?),
            Undo::ForgetCanary => drop(self.forget_canary(context).await?),
            _ => {}
        }
        Ok(())
    }

    async fn record_canary(
        &self,
        release: &Release,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let json = serde_json::to_string(release).map_err(|error| HostError::Stored {
            host: self.name.clone(),
            path: "canary".to_owned(),
            message: error.to_string(),
        })?;
        let path = freehold_plan::canary_file(&context.lease.stem);
        let script = scripts::write_private_file(context.lease, &path, &json);
        self.fenced_script("note which release is tried", &script).await?;
        Ok(Outcome::Done(None))
    }

    async fn forget_canary(&self, context: &StepContext<'_>) -> Result<Outcome, StepError> {
        let script = scripts::forget_canary(context.lease);
        self.fenced_script("forget which release is tried", &script).await?;
        Ok(Outcome::Done(None))
    }

    async fn start_canary(
        &self,
        service: &ProxyServiceName,
        (containers, port): (&[ContainerName], u16),
        (canary, deadline): (&Canary, Duration),
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let operation = format!("try a release beside `{service}`");
        let mut targets = Vec::new();
        for container in containers {
            let target = self.target(container, port).await?;
            targets.push(TargetAddress::parse(&target).map_err(|error| HostError::Refused {
                host: self.name.clone(),
                operation: operation.clone(),
                message: error.to_string(),
            })?);
        }
        let fence = Some(context.lease.fence);
        let request = CanaryRequest {
            targets,
            read_targets: Vec::new(),
            deploy_timeout_ms: milliseconds(deadline),
            drain_timeout_ms: 0,
            fence,
        };
        let visitors = SplitRequest { split: Some(split(canary)), fence };
        let link = self.link().await?;
        self.ask_proxy(&link, &operation, async |client| {
            client.install_canary(service, &request, deadline + CONTROL_DEADLINE).await?;
            client.split(service, &visitors, CONTROL_DEADLINE).await
        })
        .await
        .map_err(|failure| self.proxy_refusal(failure))?;
        Ok(Outcome::Done(None))
    }

    /// Takes the targets that are tried out of a service, and waits until they have ended what they have begun, at most that
    /// long. A service that is gone tries nothing.
    async fn end_canary(
        &self,
        service: &ProxyServiceName,
        drain: Duration,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let fence = Some(context.lease.fence);
        let operation = format!("end what is tried beside `{service}`");
        let answer = self
            .ask_proxy(&link, &operation, async |client| {
                client.remove_canary(service, fence, CONTROL_DEADLINE).await
            })
            .await;
        match answer {
            Ok(_) => {}
            Err(ProxyFailure::Proxy { error: ProxyError::UnknownService { .. }, .. }) => {
                return Ok(Outcome::AlreadyDone);
            }
            Err(failure) => return Err(self.proxy_refusal(failure)),
        }
        self.drain(service, drain).await?;
        Ok(Outcome::Done(None))
    }
}

/// A proxy decides for itself alone, so it is never left to one to let the release serve: the others may find it worse.
fn split(canary: &Canary) -> Split {
    Split {
        percentage: canary.percent,
        allow_list: canary.list.clone(),
        cookie: canary.cookie.clone(),
        anonymous: canary.anonymous,
        header: canary.header.as_ref().map(|header| freehold_wire::HeaderMatch {
            name: header.name.clone(),
            value: header.value.clone(),
        }),
        verdict: canary.verdict.as_ref().map(|rule| VerdictRule {
            window_ms: milliseconds(rule.window),
            min_requests: rule.min_requests,
            error_tolerance_permille: rule.errors_permille,
            latency_tolerance_percent: rule.latency_percent,
            promote: false,
        }),
    }
}

/// Says what a service tries.
pub(super) fn observed(status: &ServiceStatus) -> Option<ObservedCanary> {
    let canary = status.canary.as_ref()?;
    let counters = &canary.counters;
    let is_healthy = |health: HealthState| health == HealthState::Healthy;
    let verdict = canary.verdict.as_ref().or(status.last_verdict.as_ref());
    Some(ObservedCanary {
        targets: canary.targets.iter().map(|target| target.address.to_string()).collect(),
        healthy: canary.targets.iter().filter(|target| is_healthy(target.health)).count(),
        percent: canary.split.as_ref().map(|split| split.percentage),
        verdict: verdict.map(observed_verdict),
        all: ObservedSide { requests: counters.requests, errors: counters.responses_5xx },
    })
}

fn observed_verdict(verdict: &Verdict) -> ObservedVerdict {
    let side = |side: &SideReport| ObservedSide { requests: side.requests, errors: side.errors };
    ObservedVerdict {
        state: match verdict.state {
            freehold_wire::VerdictState::Watching => VerdictState::Watching,
            freehold_wire::VerdictState::Passed | freehold_wire::VerdictState::Promoted => {
                VerdictState::Passed
            }
            freehold_wire::VerdictState::Aborted => VerdictState::Aborted,
        },
        why: verdict.why.clone(),
        own: side(&verdict.own),
        tried: side(&verdict.tried),
    }
}

#[cfg(test)]
mod tests {
    use freehold_model::{CanaryHeader, CanaryVerdict};

    use super::*;

    #[test]
    fn what_the_file_says_is_what_the_proxy_is_told_and_no_proxy_promotes_by_itself() {
        let canary = Canary {
            percent: 25,
            anonymous: true,
            cookie: Some("visitor".to_owned()),
            list: vec!["staff".to_owned()],
            header: CanaryHeader::parse("X-Canary: yes"),
            verdict: Some(CanaryVerdict {
                window: Duration::from_secs(60),
                min_requests: 7,
                errors_permille: 8,
                latency_percent: 9,
                promote: true,
            }),
        };
        let told = serde_json::to_value(split(&canary)).unwrap();
        assert_eq!(
            told,
            serde_json::json!({
                "percentage": 25, "allow_list": ["staff"], "cookie": "visitor", "anonymous": true,
                "header": {"name": "X-Canary", "value": "yes"},
                "verdict": {"window_ms": 60_000, "min_requests": 7, "error_tolerance_permille": 8,
                    "latency_tolerance_percent": 9, "promote": false},
            })
        );
        assert_eq!(split(&Canary { verdict: None, ..canary }).verdict, None);
    }
}

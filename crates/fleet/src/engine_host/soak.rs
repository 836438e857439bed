use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use freehold_docker::ContainerDetails;
use freehold_model::{ContainerName, ProxyServiceName};
use freehold_plan::{ProxyMaker, Readiness, Subject};
use freehold_wire::{ProbeReport, TargetAddress, TrafficCounters};

use crate::engine_host::EngineHost;
use crate::engine_host::explain::Symptom;
use crate::engine_host::proxy::status;
use crate::host::{HostError, Outcome, StepContext, StepError};

/// How often a container is looked at while something is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// A release whose answers fail more often than this, in percent of at least [`MINIMUM_REQUESTS`], is put back.
const FAILURE_LIMIT_PERCENT: u64 = 10;

/// With fewer requests than this a share of failures says nothing.
const MINIMUM_REQUESTS: u64 = 20;

impl EngineHost {
    pub(super) async fn await_healthy(
        &self,
        subject: &Subject,
        container: &ContainerName,
        readiness: &Readiness,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let started = Instant::now();
        let symptom = match readiness {
            Readiness::Answers { port, check, deadline, proxy: ProxyMaker::Kamal } => {
                status(context, format!("waiting for {} on port {port}", check.path));
                let target = self.target(container, *port).await?;
                tokio::select! {
                    symptom = self.kamal_probe(container, &target, (check, *deadline)) => symptom?,
                    death = self.watch_for_death(container) => Some(death?),
                    () = context.stop.cancelled() => return Err(StepError::Stopped),
                }
            }
            Readiness::Answers { port, check, deadline, proxy: ProxyMaker::Freehold } => {
                status(context, format!("waiting for {} on port {port}", check.path));
                let target =
                    TargetAddress::parse(&self.target(container, *port).await?).map_err(|error| {
                        HostError::Refused {
                            host: self.name.clone(),
                            operation: format!("check container `{container}`"),
                            message: error.to_string(),
                        }
                    })?;
                tokio::select! {
                    report = self.probe(&target, check, *deadline) => answered(report?, check.path.clone(), *deadline),
                    death = self.watch_for_death(container) => Some(death?),
                    () = context.stop.cancelled() => return Err(StepError::Stopped),
                }
            }
            Readiness::Runs { delay, deadline } => {
                status(context, "waiting until it has settled");
                tokio::select! {
                    symptom = self.keeps_running(container, *delay, *deadline) => symptom?,
                    () = context.stop.cancelled() => return Err(StepError::Stopped),
                }
            }
        };
        match symptom {
            None => {
                Ok(Outcome::Done(Some(format!("healthy after {:.1} s", started.elapsed().as_secs_f64()))))
            }
            Some(symptom) => Err(self.explain(&subject.to_string(), container, symptom).await?),
        }
    }

    async fn details(&self, container: &ContainerName) -> Result<Option<ContainerDetails>, StepError> {
        let link = self.link().await?;
        let operation = format!("look at container `{container}`");
        Ok(link
            .engine
            .inspect_container(container.as_str())
            .await
            .map_err(|error| self.engine_error(&operation, error))?)
    }

    /// Returns when the container has ended or was started anew by the engine.
    async fn watch_for_death(&self, container: &ContainerName) -> Result<Symptom, StepError> {
        loop {
            match self.details(container).await? {
                None => return Ok(Symptom::Gone),
                Some(details) if !details.state.is_alive() || details.restart_count > 0 => {
                    return Ok(Symptom::Died);
                }
                Some(_) => tokio::time::sleep(LOOK_INTERVAL).await,
            }
        }
    }

    async fn keeps_running(
        &self,
        container: &ContainerName,
        delay: Duration,
        deadline: Duration,
    ) -> Result<Option<Symptom>, StepError> {
        let begun = Instant::now();
        loop {
            let Some(details) = self.details(container).await? else { return Ok(Some(Symptom::Gone)) };
            if !details.state.is_alive() || details.restart_count > 0 {
                return Ok(Some(Symptom::Died));
            }
            match details.health.as_ref().map(|health| health.status) {
                Some(freehold_docker::HealthStatus::Healthy) => return Ok(None),
                Some(freehold_docker::HealthStatus::Unhealthy) => {
                    return Ok(Some(Symptom::EngineSaysUnhealthy));
                }
                None if begun.elapsed() >= delay => return Ok(None),
                Some(freehold_docker::HealthStatus::Starting) if begun.elapsed() >= deadline => {
                    return Ok(Some(Symptom::EngineSaysUnhealthy));
                }
                Some(freehold_docker::HealthStatus::Starting) | None => {}
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    pub(super) async fn soak(
        &self,
        containers: &[(ContainerName, Option<ProxyServiceName>)],
        duration: Duration,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let end = Instant::now() + duration;
        let mut answers = 0;
        loop {
            for (container, service) in containers {
                if let Some(symptom) = self.sick(container).await? {
                    return Err(self.explain("the new release", container, symptom).await?);
                }
                let Some(service) = service else { continue };
                let counters = self.counters(service).await?;
                if let Some(symptom) = failing(&counters) {
                    return Err(self.explain("the new release", container, symptom).await?);
                }
                answers = counters.requests;
            }
            let now = Instant::now();
            if now >= end {
                return Ok(Outcome::Done(Some(format!("{answers} requests answered"))));
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL.min(end - now)) => {}
                () = context.stop.cancelled() => return Err(StepError::Stopped),
            }
        }
    }

    async fn sick(&self, container: &ContainerName) -> Result<Option<Symptom>, StepError> {
        let Some(details) = self.details(container).await? else { return Ok(Some(Symptom::Gone)) };
        let unhealthy = details
            .health
            .as_ref()
            .is_some_and(|health| health.status == freehold_docker::HealthStatus::Unhealthy);
        Ok(if !details.state.is_alive() || details.restart_count > 0 {
            Some(Symptom::Died)
        } else {
            unhealthy.then_some(Symptom::EngineSaysUnhealthy)
        })
    }

    async fn counters(&self, service: &ProxyServiceName) -> Result<TrafficCounters, StepError> {
        let link = self.link().await?;
        let deadline = Duration::from_secs(10);
        let answer = self
            .ask_proxy(&link, &format!("show `{service}`"), async |client| {
                client.service(service, deadline).await
            })
            .await;
        Ok(answer.map_err(|failure| failure.into_step_error(&self.name))?.counters)
    }
}

fn answered(report: ProbeReport, path: String, deadline: Duration) -> Option<Symptom> {
    if report.healthy {
        return None;
    }
    Some(Symptom::NotHealthy { report: Box::new(report), path, deadline })
}

fn failing(counters: &TrafficCounters) -> Option<Symptom> {
    let by_proxy: BTreeMap<String, u64> = counters
        .target_errors
        .iter()
        .chain(&counters.stood_in)
        .filter(|(reason, count)| reason.is_target_error() && **count > 0)
        .map(|(reason, count)| (reason.to_string(), *count))
        .collect();
    // What the earlier release had to answer is a failure of the new one, although nobody noticed.
    let failed = counters.responses_5xx + counters.stood_in.values().sum::<u64>();
    let too_many =
        counters.requests >= MINIMUM_REQUESTS && failed * 100 > counters.requests * FAILURE_LIMIT_PERCENT;
    too_many.then_some(Symptom::Failing { requests: counters.requests, failed, by_proxy })
}

#[cfg(test)]
mod tests {
    use freehold_wire::Reason;

    use super::*;

    #[test]
    fn answers_of_the_earlier_release_count_against_the_new_one() {
        let mut counters = TrafficCounters { requests: 40, responses_2xx: 40, ..TrafficCounters::default() };
        assert!(failing(&counters).is_none());
        counters.stood_in = BTreeMap::from([(Reason::TargetRefused, 5)]);
        let Some(Symptom::Failing { failed, by_proxy, .. }) = failing(&counters) else {
            panic!("not failing")
        };
        assert_eq!((failed, by_proxy), (5, BTreeMap::from([("target_refused".to_owned(), 5)])));
    }
}

use std::time::{Duration, Instant};

use freehold_model::ProxyServiceName;
use freehold_plan::Gate;
use freehold_wire::{GateRequest, ServiceStatus};

use crate::engine_host::EngineHost;
use crate::engine_host::link::Link;
use crate::engine_host::proxy::{CONTROL_DEADLINE, ProxyFailure};
use crate::event::milliseconds;
use crate::host::{Outcome, StepError};

impl EngineHost {
    /// Lists the services of a proxy of ours in a container, as soon as it answers.
    pub(super) async fn services_of(
        &self,
        link: &Link,
        container: &str,
    ) -> Result<Vec<ServiceStatus>, StepError> {
        let deadline = Instant::now() + CONTROL_DEADLINE;
        loop {
            let answer = match self.open_proxy_in(link, container).await {
                Ok(mut client) => client.services(CONTROL_DEADLINE).await.map_err(|error| {
                    ProxyFailure::Proxy { operation: "list its services".to_owned(), error }
                }),
                Err(failure) => Err(failure),
            };
            match answer {
                Ok(services) => return Ok(services),
                Err(failure) if Instant::now() >= deadline => return Err(failure.into_step_error(&self.name)),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Opens or closes the way to a service's targets. Where it is closed, what is in flight ends first, or the time is
    /// over.
    pub(super) async fn set_gate(
        &self,
        service: &ProxyServiceName,
        gate: &Gate,
        drain: Duration,
        fence: u64,
    ) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let gate = wire_gate(gate);
        let request =
            GateRequest { gate: gate.clone(), drain_timeout_ms: milliseconds(drain), fence: Some(fence) };
        let operation = format!("open or close `{service}`");
        let reply = self
            .ask_proxy(&link, &operation, async |client| {
                client.set_gate(service, &request, drain + CONTROL_DEADLINE).await
            })
            .await
            .map_err(|failure| self.proxy_refusal(failure))?;
        if reply.previous == gate {
            return Ok(Outcome::AlreadyDone);
        }
        let cut = reply.drained.filter(|drained| drained.requests_left > 0);
        Ok(Outcome::Done(cut.map(|drained| format!("cut {} requests", drained.requests_left))))
    }
}

fn wire_gate(gate: &Gate) -> freehold_wire::Gate {
    match gate {
        Gate::Open => freehold_wire::Gate::Open,
        Gate::Paused { limit } => freehold_wire::Gate::Paused { max_pause_ms: milliseconds(*limit) },
        Gate::Stopped { message } => freehold_wire::Gate::Stopped { message: message.clone() },
    }
}

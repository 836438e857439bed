//! The kamal-proxy that Kamal boots, spoken to as Kamal does: by its own command line in its container.
//!
//! What it serves is read from the file in which it keeps it, because its command line does not tell all of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_docker::{Engine, EngineError, ExecSpec};
use freehold_model::{ContainerName, Diagnose, ErrorKind, HealthCheck, ProxyServiceName, ProxySettings};
use freehold_plan::{Gate, KamalDeploy, ProxyFiles, Route, kamal_deploy, kamal_flags, probe_service};
use freehold_wire::{KAMAL_STATE_FILE, KamalService, read_kamal_state};

use crate::engine_host::EngineHost;
use crate::engine_host::explain::Symptom;
use crate::engine_host::link::Link;
use crate::engine_host::proxy::PROXY_CONTAINER;
use crate::host::{HostError, Outcome, StepError};

/// Where the proxy keeps its state, in its container.
pub(super) const STATE_FOLDER: &str = "/home/kamal-proxy/.config/kamal-proxy";

/// How long a call may take beyond what it asks the proxy to wait for.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// A call that kamal-proxy refused.
#[derive(Debug, thiserror::Error)]
#[error("kamal-proxy says: {message}")]
struct Refused {
    message: String,
}

impl Diagnose for Refused {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }

    fn help(&self) -> Vec<String> {
        vec!["see what it serves: `docker exec kamal-proxy kamal-proxy list` on the host".to_owned()]
    }
}

/// How a call of kamal-proxy ended.
enum Answer {
    Done,
    Refused(String),
}

/// A switch on a kamal-proxy.
#[derive(Debug, Clone, Copy)]
pub(super) struct KamalSwitch {
    /// How long it may wait until the new targets are healthy.
    pub(super) health_limit: Duration,
    /// How long requests at the earlier targets may take; it waits for them.
    pub(super) drain: Duration,
}

impl EngineHost {
    async fn call_kamal_proxy(
        &self,
        words: Vec<String>,
        operation: &str,
        limit: Duration,
    ) -> Result<Answer, StepError> {
        let link = self.link().await?;
        // A call may wait for minutes: the connection that others use stays free.
        let engine = link
            .dedicated_engine()
            .await
            .map_err(|source| HostError::Connect { host: self.name.clone(), source })?;
        let spec = ExecSpec { argv: words, ..ExecSpec::default() };
        let outcome = engine.exec_collect(PROXY_CONTAINER, &spec, limit + CALL_LIMIT).await;
        let outcome = outcome.map_err(|error| match error {
            freehold_docker::ExecError::Engine(error) => {
                self.engine_error(&format!("ask kamal-proxy to {operation}"), error)
            }
            error => HostError::Engine {
                host: self.name.clone(),
                operation: format!("ask kamal-proxy to {operation}"),
                source: Arc::new(error),
            },
        })?;
        if outcome.exit_code == 0 {
            return Ok(Answer::Done);
        }
        let text =
            String::from_utf8_lossy(&outcome.stderr).into_owned() + &String::from_utf8_lossy(&outcome.stdout);
        let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
        Ok(Answer::Refused(line.trim().trim_start_matches("Error: ").to_owned()))
    }

    async fn order_kamal_proxy(
        &self,
        words: Vec<String>,
        operation: &str,
        limit: Duration,
    ) -> Result<(), StepError> {
        match self.call_kamal_proxy(words, operation, limit).await? {
            Answer::Done => Ok(()),
            Answer::Refused(message) => Err(StepError::Proxy {
                host: self.name.clone(),
                operation: operation.to_owned(),
                source: Arc::new(Refused { message }),
            }),
        }
    }

    /// Sends the requests of a service to a route's targets. When it is done, the earlier targets have drained.
    pub(super) async fn kamal_switch(
        &self,
        service: &ProxyServiceName,
        route: &Route,
        switch: KamalSwitch,
    ) -> Result<(), StepError> {
        let flags = if route.kamal_flags.is_empty() {
            kamal_flags(&route.settings, &route.files)
        } else {
            route.kamal_flags.clone()
        };
        let KamalSwitch { health_limit, drain } = switch;
        let call = KamalDeploy { service, targets: &route.targets, health_limit, drain };
        let words = kamal_deploy(&call, &flags);
        self.order_kamal_proxy(words, &format!("switch `{service}`"), health_limit + drain).await
    }

    /// Takes a service out of the proxy. Returns whether it was there.
    pub(super) async fn kamal_unroute(&self, service: &ProxyServiceName) -> Result<bool, StepError> {
        let link = self.link().await?;
        if !self.kamal_services(&link).await?.iter().any(|known| known.name == service.as_str()) {
            return Ok(false);
        }
        let words = ["kamal-proxy", "remove", service.as_str()].map(str::to_owned).to_vec();
        self.order_kamal_proxy(words, &format!("remove `{service}`"), Duration::ZERO).await?;
        Ok(true)
    }

    /// Stops or resumes a service.
    pub(super) async fn kamal_gate(
        &self,
        service: &ProxyServiceName,
        gate: &Gate,
        drain: Duration,
    ) -> Result<Outcome, StepError> {
        let milliseconds = |time: &Duration| format!("{}ms", time.as_millis());
        let drain_flag = format!("--drain-timeout={}", milliseconds(&drain));
        let (verb, flags) = match gate {
            Gate::Open => ("resume", Vec::new()),
            Gate::Paused { limit } => {
                ("pause", vec![drain_flag, format!("--max-pause={}", milliseconds(limit))])
            }
            Gate::Stopped { message } if message.is_empty() => ("stop", vec![drain_flag]),
            Gate::Stopped { message } => ("stop", vec![drain_flag, format!("--message={message}")]),
        };
        let mut words = ["kamal-proxy", verb, service.as_str()].map(str::to_owned).to_vec();
        words.extend(flags);
        self.order_kamal_proxy(words, &format!("{verb} `{service}`"), drain).await?;
        Ok(Outcome::Done(None))
    }

    /// Lets the proxy find out whether a container is healthy, without sending any traffic to it: as a service of its own
    /// for a host that nobody can ask for, which is removed again.
    pub(super) async fn kamal_probe(
        &self,
        container: &ContainerName,
        target: &str,
        (check, deadline): (&HealthCheck, Duration),
    ) -> Result<Option<Symptom>, StepError> {
        let id = target.split(':').next().unwrap_or_default();
        let service = probe_service(container).ok_or_else(|| HostError::Refused {
            host: self.name.clone(),
            operation: format!("check container `{container}`"),
            message: "its name is too long for a service of kamal-proxy".to_owned(),
        })?;
        let route = Route {
            targets: vec![target.to_owned()],
            settings: ProxySettings {
                hosts: vec![format!("{id}.freehold.invalid")],
                health_check: check.clone(),
                ..ProxySettings::default()
            },
            files: ProxyFiles::default(),
            kamal_flags: Vec::new(),
            stored: None,
        };
        let call = KamalDeploy {
            service: &service,
            targets: &route.targets,
            health_limit: deadline,
            drain: Duration::from_secs(1),
        };
        let words = kamal_deploy(&call, &kamal_flags(&route.settings, &route.files));
        let operation = "check the new container";
        let answer = self.call_kamal_proxy(words, operation, deadline).await?;
        match answer {
            Answer::Done => {
                self.kamal_unroute(&service).await?;
                Ok(None)
            }
            Answer::Refused(message) => {
                Ok(Some(Symptom::KamalProxySays { message, path: check.path.clone(), deadline }))
            }
        }
    }

    /// Waits until the proxy answers its own command line.
    pub(super) async fn await_kamal_proxy(&self) -> Result<(), StepError> {
        let deadline = Instant::now() + CALL_LIMIT;
        loop {
            let words = ["kamal-proxy", "list"].map(str::to_owned).to_vec();
            match self.order_kamal_proxy(words, "list its services", Duration::ZERO).await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Reads what the proxy serves.
    pub(super) async fn kamal_services(&self, link: &Link) -> Result<Vec<KamalService>, HostError> {
        kamal_state(&link.engine, PROXY_CONTAINER).await.map_err(|error| error.into_host_error(self))
    }
}

/// Why the state of a kamal-proxy cannot be read.
pub(super) enum KamalStateError {
    Engine(EngineError),
    Json(serde_json::Error),
}

impl KamalStateError {
    pub(super) fn into_host_error(self, host: &EngineHost) -> HostError {
        match self {
            Self::Engine(error) => host.engine_error("read the state of kamal-proxy", error),
            Self::Json(error) => HostError::Stored {
                host: host.name.clone(),
                path: format!("{PROXY_CONTAINER}:{STATE_FOLDER}/{KAMAL_STATE_FILE}"),
                message: error.to_string(),
            },
        }
    }
}

/// Reads the state of a kamal-proxy from its container; nothing is kept before the first deploy.
pub(super) async fn kamal_state(
    engine: &Engine,
    container: &str,
) -> Result<Vec<KamalService>, KamalStateError> {
    let path = format!("{STATE_FOLDER}/{KAMAL_STATE_FILE}");
    let text = engine.read_file(container, &path).await.map_err(KamalStateError::Engine)?;
    match text.filter(|text| !text.is_empty()) {
        Some(text) => read_kamal_state(&text).map_err(KamalStateError::Json),
        None => Ok(Vec::new()),
    }
}

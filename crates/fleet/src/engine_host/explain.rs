use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use freehold_docker::{ContainerDetails, ContainerState, Engine, EngineError, Listener, parse_proc_net_tcp};
use freehold_model::{Architecture, ContainerName, HostName};
use freehold_wire::{ProbeOutcome, ProbeReport};

use crate::engine_host::{EngineHost, scripts};
use crate::host::{Explanation, StepError};

/// What made us look.
#[derive(Debug)]
pub(super) enum Symptom {
    /// The container is not there any more.
    Gone,
    /// The container ended or the engine had to start it again.
    Died,
    /// The engine's own health check failed.
    EngineSaysUnhealthy,
    /// The proxy's check was never answered well.
    NotHealthy {
        /// What the proxy saw.
        report: Box<ProbeReport>,
        /// The path that was asked for.
        path: String,
        /// How long was waited.
        deadline: Duration,
    },
    /// A kamal-proxy, which tells no more than that, did not find it healthy.
    KamalProxySays {
        /// Its words.
        message: String,
        /// The path that was asked for.
        path: String,
        /// How long was waited.
        deadline: Duration,
    },
    /// Too many answers to real requests failed.
    Failing {
        /// Requests since the switch.
        requests: u64,
        /// Those answered with 500 to 599.
        failed: u64,
        /// Failures that the proxy made itself, by reason.
        by_proxy: BTreeMap<String, u64>,
    },
}

/// How long the next end of a container that died and was started again is waited for.
const NEXT_END: Duration = Duration::from_secs(3);

/// How many of the last log lines are shown.
const LOG_LINES: u32 = 20;

/// Everything that is known when a cause is looked for.
struct Evidence<'a> {
    host: &'a HostName,
    container: &'a ContainerName,
    details: Option<&'a ContainerDetails>,
    listeners: &'a [Listener],
    log: &'a [String],
    image_architecture: Option<Architecture>,
    host_architecture: Option<Architecture>,
}

/// A cause and what to do about it.
struct Cause {
    summary: String,
    help: Vec<String>,
}

impl EngineHost {
    /// Finds out why a container is not healthy.
    pub(super) async fn explain(
        &self,
        role: &str,
        container: &ContainerName,
        symptom: Symptom,
    ) -> Result<StepError, StepError> {
        let link = self.link().await?;
        let looked =
            |operation: &'static str| move |error| StepError::Host(self.engine_error(operation, error));
        let details =
            ended(&link.engine, container, &symptom).await.map_err(looked("look at the container"))?;
        let log = match &details {
            Some(_) => {
                link.engine.last_logs(container.as_str(), LOG_LINES).await.map_err(looked("read the log"))?
            }
            None => Vec::new(),
        };
        let listeners = match details.as_ref().filter(|details| details.pid > 0) {
            Some(details) => {
                let script = scripts::read_listeners(i64::from(details.pid));
                parse_proc_net_tcp(&self.plain_script("read the listening ports", &script).await?.stdout)
            }
            None => Vec::new(),
        };
        let image_architecture = match &details {
            Some(details) => link
                .engine
                .inspect_image(&details.image_id)
                .await
                .map_err(looked("look at the image"))?
                .and_then(|image| image.architecture),
            None => None,
        };
        let info = link.engine.info().await.map_err(looked("ask the engine for its architecture"))?;
        let evidence = Evidence {
            host: &self.name,
            container,
            details: details.as_ref(),
            listeners: &listeners,
            log: &log,
            image_architecture,
            host_architecture: info.architecture,
        };
        let cause = cause(&symptom, &evidence);
        let explanation = Explanation {
            host: self.name.clone(),
            container: container.to_string(),
            summary: cause.summary,
            evidence: facts(role, &symptom, &evidence),
            help: cause.help,
            log,
        };
        Ok(StepError::Unhealthy(Box::new(explanation)))
    }
}

/// Looks at a container. While one that the engine started again runs, its last exit code is not to be had: then its
/// next end is waited for, which mostly comes at once.
async fn ended(
    engine: &Engine,
    container: &ContainerName,
    symptom: &Symptom,
) -> Result<Option<ContainerDetails>, EngineError> {
    let patience = Instant::now() + NEXT_END;
    loop {
        let details = engine.inspect_container(container.as_str()).await?;
        let runs = details.as_ref().is_some_and(|details| details.state == ContainerState::Running);
        if !matches!(symptom, Symptom::Died) || !runs || Instant::now() >= patience {
            return Ok(details);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn cause(symptom: &Symptom, evidence: &Evidence<'_>) -> Cause {
    let mut cause = match symptom {
        Symptom::Gone => Cause {
            summary: format!("container `{}` is gone from host `{}`", evidence.container, evidence.host),
            help: vec!["did somebody remove it by hand? deploy again".to_owned()],
        },
        Symptom::Died => died(evidence),
        Symptom::EngineSaysUnhealthy => Cause {
            summary: format!(
                "the health check of container `{}` on host `{}` fails",
                evidence.container, evidence.host
            ),
            help: vec!["run the image's HEALTHCHECK command by hand in the container".to_owned()],
        },
        Symptom::NotHealthy { report, path, deadline } => not_healthy(evidence, report, path, *deadline),
        Symptom::KamalProxySays { path, deadline, .. } => kamal_proxy_says(evidence, path, *deadline),
        Symptom::Failing { requests, failed, .. } => Cause {
            summary: format!(
                "{failed} of {requests} requests to the new release failed on host `{}` after the switch",
                evidence.host
            ),
            help: vec!["look at the log lines above; the old release serves again".to_owned()],
        },
    };
    if let Some(name) = missing_variable(evidence) {
        cause.help.insert(
            0,
            format!("the log speaks of `{name}`, which the container does not have: add it under `env:` in the deploy file"),
        );
    }
    cause
}

fn died(evidence: &Evidence<'_>) -> Cause {
    let (container, host) = (evidence.container, evidence.host);
    if let (Some(image), Some(actual)) = (evidence.image_architecture, evidence.host_architecture)
        && image != actual
    {
        return Cause {
            summary: format!(
                "the image of container `{container}` is for {image}, but host `{host}` is {actual}"
            ),
            help: vec![format!("build for the host: `builder: arch: {actual}`")],
        };
    }
    let details = evidence.details;
    let code = details.map_or(0, |details| details.exit_code);
    let image = details.map_or("IMAGE", |details| details.image.as_str());
    if details.is_some_and(|details| details.oom_killed) {
        return Cause {
            summary: format!("container `{container}` on host `{host}` was killed for memory"),
            help: vec![
                "raise `options: memory:` of the role, or free memory on the host (`free -m`)".to_owned(),
            ],
        };
    }
    let runs_again = details.is_some_and(|details| details.state == ContainerState::Running);
    let (what, help) = match code {
        0 if runs_again => (
            "ended and was started again by the engine".to_owned(),
            format!("the last log lines above say why; run the image here to try: `docker run --rm {image}`"),
        ),
        0 => (
            "ended by itself with code 0".to_owned(),
            "its command must stay in the foreground: check CMD in the Dockerfile or `cmd:` of the role"
                .to_owned(),
        ),
        126 | 127 => (
            format!("could not run its command (code {code})"),
            "check that the program of CMD or `cmd:` is in the image and executable".to_owned(),
        ),
        137 => (
            "was killed (code 137)".to_owned(),
            "the kernel may have wanted its memory: look at `dmesg` on the host".to_owned(),
        ),
        139 => (
            "crashed with a segmentation fault (code 139)".to_owned(),
            format!("run the image on this machine to see the crash: `docker run --rm {image}`"),
        ),
        code => (
            format!("crashed with code {code}"),
            format!("the last log lines above say why; run the image here to try: `docker run --rm {image}`"),
        ),
    };
    Cause { summary: format!("container `{container}` on host `{host}` {what}"), help: vec![help] }
}

/// What kamal-proxy does not tell may be seen from where the container listens.
fn kamal_proxy_says(evidence: &Evidence<'_>, path: &str, deadline: Duration) -> Cause {
    let listens = evidence.listeners.iter().any(|listener| !listener.is_loopback_only());
    let (container, host) = (evidence.container, evidence.host);
    let what = if listens { "does not answer its health check well" } else { "listens on no port" };
    Cause {
        summary: format!(
            "container `{container}` on host `{host}` {what}: {path} was not answered 200 within {} s",
            deadline.as_secs_f64()
        ),
        help: vec![
            "look at the log lines above; check `proxy: app_port:` and `proxy: healthcheck: path:`, or raise \
             `deploy_timeout` if it needs longer to start"
                .to_owned(),
        ],
    }
}

fn not_healthy(evidence: &Evidence<'_>, report: &ProbeReport, path: &str, deadline: Duration) -> Cause {
    let (container, host) = (evidence.container, evidence.host);
    let port = report.target.port();
    let within = format!("{} s", deadline.as_secs_f64());
    let cause = |summary: String, help: &str| Cause { summary, help: vec![help.to_owned()] };
    match &report.last {
        ProbeOutcome::Refused => refused(evidence, port),
        ProbeOutcome::Status { code, location, .. } if (300..400).contains(code) => cause(
            format!(
                "container `{container}` on host `{host}` answers {path} with {code}{}",
                location.as_ref().map_or_else(String::new, |location| format!(" to {location}"))
            ),
            "the health path must answer 200 without a redirect: exclude it from forced HTTPS, or set \
             `proxy: healthcheck: path:`",
        ),
        ProbeOutcome::Status { code: 404, .. } => cause(
            format!(
                "container `{container}` on host `{host}` answers {path} with 404: there is no such page"
            ),
            "add that page to the application, or name another one: `proxy: healthcheck: path:`",
        ),
        ProbeOutcome::Status { code, .. } => cause(
            format!("container `{container}` on host `{host}` answers {path} with {code}"),
            "look at the log lines above; the health path must answer 200",
        ),
        ProbeOutcome::Timeout { connected: true } => cause(
            format!(
                "container `{container}` on host `{host}` takes connections on port {port} but does not answer {path}"
            ),
            "it may need longer than `deploy_timeout`, or wait for something that it cannot reach, such as a database",
        ),
        ProbeOutcome::NotTrusted { message } => cause(
            format!(
                "container `{container}` on host `{host}` cannot be trusted over TLS on port {port}: {message}"
            ),
            "compare its certificate with `proxy: target_tls:`: `ca` must have signed it, and `server_name` must stand in it",
        ),
        ProbeOutcome::NotHttp { .. } => cause(
            format!("container `{container}` on host `{host}` does not speak HTTP on port {port}"),
            "name the port on which it speaks plain HTTP: `proxy: app_port:`",
        ),
        outcome => cause(
            format!(
                "container `{container}` on host `{host}` was not healthy within {within}: {path} {outcome}"
            ),
            "raise `deploy_timeout` if it needs longer to start",
        ),
    }
}

/// Nothing listens on the port: where does it listen?
fn refused(evidence: &Evidence<'_>, port: u16) -> Cause {
    let (container, host) = (evidence.container, evidence.host);
    let on_port = |listener: &&Listener| listener.port == port;
    if evidence.listeners.iter().any(|listener| on_port(&listener) && listener.is_loopback_only()) {
        return Cause {
            summary: format!("container `{container}` on host `{host}` listens on 127.0.0.1 only"),
            help: vec![format!(
                "make the application listen on 0.0.0.0:{port}, so that the proxy reaches it"
            )],
        };
    }
    // The engine's own name server listens on a loopback port of every container.
    let others: BTreeSet<u16> = evidence
        .listeners
        .iter()
        .filter(|listener| !listener.is_loopback_only() && listener.port != port)
        .map(|listener| listener.port)
        .collect();
    match others.first() {
        Some(other) => Cause {
            summary: format!(
                "container `{container}` on host `{host}` listens on port {other}, but the proxy expects port {port}"
            ),
            help: vec![format!("set `proxy: app_port: {other}` in the deploy file")],
        },
        None => Cause {
            summary: format!("container `{container}` on host `{host}` runs but listens on no port"),
            help: vec![format!(
                "does it need longer to start? raise `deploy_timeout`; it must listen on port {port}"
            )],
        },
    }
}

fn facts(role: &str, symptom: &Symptom, evidence: &Evidence<'_>) -> Vec<String> {
    let mut facts = vec![format!("role: {role}")];
    if let Some(details) = evidence.details {
        let mut state = match details.state {
            ContainerState::Exited | ContainerState::Dead => {
                format!("state: ended, exit code {}", details.exit_code)
            }
            state => format!("state: {}", format!("{state:?}").to_lowercase()),
        };
        if details.restart_count > 0 {
            state.push_str(&format!(
                ", started again {} times, last exit code {}",
                details.restart_count, details.exit_code
            ));
        }
        facts.push(state);
        if !details.error.is_empty() {
            facts.push(format!("engine: {}", details.error));
        }
        if let Some(health) = details.health.as_ref().filter(|health| health.last_exit_code.is_some()) {
            facts.push(format!(
                "health check: exit code {}, {}",
                health.last_exit_code.unwrap_or_default(),
                health.last_output.trim()
            ));
        }
    }
    match symptom {
        Symptom::NotHealthy { report, path, .. } => {
            facts.push(format!(
                "health check: {path} on port {} {} ({} tries)",
                report.target.port(),
                report.last,
                report.attempts
            ));
            if let ProbeOutcome::Status { body, .. } = &report.last
                && !body.trim().is_empty()
            {
                facts.push(format!("answer: {}", body.trim()));
            }
        }
        Symptom::KamalProxySays { message, .. } => facts.push(format!("kamal-proxy: {message}")),
        Symptom::Failing { by_proxy, .. } if !by_proxy.is_empty() => {
            let reasons: Vec<String> =
                by_proxy.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            facts.push(format!("proxy: {}", reasons.join(", ")));
        }
        _ => {}
    }
    let reachable: Vec<String> = evidence
        .listeners
        .iter()
        .filter(|listener| listener.address != std::net::IpAddr::from([127, 0, 0, 11]))
        .map(|listener| std::net::SocketAddr::new(listener.address, listener.port).to_string())
        .collect();
    if !reachable.is_empty() {
        facts.push(format!("listens on: {}", reachable.join(", ")));
    }
    facts
}

/// Returns a variable that the end of the log names and the container does not have. A guess, so only ever a hint.
fn missing_variable(evidence: &Evidence<'_>) -> Option<String> {
    let details = evidence.details?;
    let known: BTreeSet<&str> = details.env_names.iter().map(String::as_str).collect();
    evidence.log.iter().rev().take(5).find_map(|line| {
        let hints = ["env", "missing", "not set", "undefined", "required", "KeyError", "key not found"];
        if !hints.iter().any(|hint| line.to_lowercase().contains(&hint.to_lowercase())) {
            return None;
        }
        line.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
            .find(|word| word.len() >= 4 && word.contains('_') && !known.contains(word))
            .map(ToOwned::to_owned)
    })
}

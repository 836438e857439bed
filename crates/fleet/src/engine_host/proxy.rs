use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_docker::{ContainerSpec, ExecSpec, ImageName};
use freehold_model::{ContainerName, Diagnose, Logging, ProxyRun, ProxyServiceName};
use freehold_plan::{ProxyMaker, Route};
use freehold_wire::{
    CertificateState, ConfirmRequest, DrainMode, DrainReport, DrainRequest, FleetKey, HealthGate,
    ProbeReport, ProbeRequest, ProxyClient, ProxyError, TargetAddress,
};

use crate::engine_host::EngineHost;
use crate::engine_host::link::Link;
use crate::engine_host::observe::maker;
use crate::event::{Progress, milliseconds};
use crate::host::{HostError, Outcome, StepContext, StepError};

mod authority;
mod failure;
mod settings;

pub(super) use failure::ProxyFailure;
pub(super) use settings::{deploy_request, health_check, service_settings};

/// The name of the proxy's container, which is Kamal's.
pub(super) const PROXY_CONTAINER: &str = "kamal-proxy";

/// The label of a proxy that is ours; its value is the version that made it.
pub(super) const PROXY_LABEL: &str = "freehold.proxy";

/// The files in the folder of a certificate, which are Kamal's.
pub(super) const CERTIFICATE_FILE: &str = "cert.pem";
/// The file with those who may come, which is ours.
pub(super) const USERS_FILE: &str = "users";
pub(super) const PRIVATE_KEY_FILE: &str = "key.pem";

/// The ports on which the proxy listens in its container.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// The label with the version of its API.
pub(super) const API_LABEL: &str = "freehold.proxy.api";

pub(super) const CONTROL_DEADLINE: Duration = Duration::from_secs(10);

/// For how long the earlier targets stand by where nobody says that the switch is final, because the client died.
const STANDBY: Duration = Duration::from_secs(15 * 60);

/// How a switch is made.
#[derive(Debug, Clone)]
pub(super) struct Handover {
    /// How long the earlier targets may finish what they have begun.
    pub(super) drain: Duration,
    /// None for a service of another lock, whose numbers are not ours.
    pub(super) fence: Option<u64>,
    pub(super) earlier: Earlier,
    /// The key of the fleet with which certificates are shared; none where the proxy has it already.
    pub(super) fleet_key: Option<FleetKey>,
}

/// What becomes of the targets that a switch replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Earlier {
    /// They get requests that the new ones do not take, until the switch is confirmed.
    StandsBy,
    /// They get nothing new.
    Ends,
}

impl EngineHost {
    /// Asks the proxy something through its control socket, reached by a command in its container.
    pub(super) async fn ask_proxy<T>(
        &self,
        link: &Link,
        operation: &str,
        question: impl AsyncFnOnce(&mut ProxyClient) -> Result<T, ProxyError>,
    ) -> Result<T, ProxyFailure> {
        let mut slot = link.proxy.lock().await;
        let mut client = match slot.take() {
            Some(client) => client,
            None => self.open_proxy(link).await?,
        };
        let begun = Instant::now();
        let answer = question(&mut client).await;
        tracing::debug!(host = %self.name, operation, took = ?begun.elapsed(), "the proxy answered");
        match answer {
            Ok(value) => {
                *slot = Some(client);
                Ok(value)
            }
            Err(error) => {
                // Only an answer of the proxy itself leaves the stream in a known state.
                if error.message().is_some() {
                    *slot = Some(client);
                }
                Err(ProxyFailure::Proxy { operation: operation.to_owned(), error })
            }
        }
    }

    async fn open_proxy(&self, link: &Link) -> Result<ProxyClient, ProxyFailure> {
        self.open_proxy_in(link, PROXY_CONTAINER).await
    }

    pub(super) async fn open_proxy_in(
        &self,
        link: &Link,
        container: &str,
    ) -> Result<ProxyClient, ProxyFailure> {
        let spec = ExecSpec {
            argv: ["/freehold", "proxy", "api"].map(str::to_owned).to_vec(),
            stdin: true,
            ..ExecSpec::default()
        };
        let session = link.engine.exec(container, &spec).await.map_err(|error| {
            ProxyFailure::Host(HostError::Engine {
                host: self.name.clone(),
                operation: "reach the proxy".to_owned(),
                source: Arc::new(error),
            })
        })?;
        let (io, _control) = session.into_io();
        ProxyClient::over(io)
            .await
            .map_err(|error| ProxyFailure::Proxy { operation: "answer".to_owned(), error })
    }

    pub(super) async fn ensure_proxy(
        &self,
        run: &ProxyRun,
        network: &str,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let failed =
            |operation: &'static str| move |error| StepError::Host(self.engine_error(operation, error));
        let details =
            link.engine.inspect_container(PROXY_CONTAINER).await.map_err(failed("look at the proxy"))?;
        if let Some(details) = details {
            if details.state.is_alive() {
                return Ok(Outcome::AlreadyDone);
            }
            link.engine.start_container(PROXY_CONTAINER).await.map_err(failed("start the proxy"))?;
            match maker(&details) {
                ProxyMaker::Freehold => self.await_proxy(&link).await?,
                ProxyMaker::Kamal => self.await_kamal_proxy().await?,
            }
            return Ok(Outcome::Done(Some("started again".to_owned())));
        }
        let image = self.deliver_proxy_image(&link, context).await?;
        let spec = proxy_spec(run, network, &link.home, image).map_err(|error| StepError::Proxy {
            host: self.name.clone(),
            operation: "be described".to_owned(),
            source: Arc::new(error),
        })?;
        link.engine.ensure_network(network).await.map_err(failed("make the network"))?;
        link.engine.create_container(&spec).await.map_err(|error| {
            StepError::Host(HostError::Engine {
                host: self.name.clone(),
                operation: "make the proxy's container".to_owned(),
                source: Arc::new(error),
            })
        })?;
        if let Err(error) = self.begin_proxy(&link, run, context).await {
            // A container that never ran, say because its port is taken, must not stand in the next deploy's way.
            let options = freehold_docker::RemoveOptions { force: true, anonymous_volumes: true };
            let _removed = link.engine.remove_container(PROXY_CONTAINER, options).await;
            return Err(error);
        }
        self.await_proxy(&link).await?;
        Ok(Outcome::Done(Some(match run.publish {
            true => format!("listens on ports {} and {}", run.http_port, run.https_port),
            false => "publishes no port".to_owned(),
        })))
    }

    /// Starts the proxy's container, which was made just now.
    async fn begin_proxy(
        &self,
        link: &Link,
        run: &ProxyRun,
        context: &StepContext<'_>,
    ) -> Result<(), StepError> {
        self.write_keys(link, run, context).await?;
        let Err(error) = link.engine.start_container(PROXY_CONTAINER).await else { return Ok(()) };
        let ports = if run.publish { vec![run.http_port, run.https_port] } else { Vec::new() };
        Err(match self.privileged_port(link, &ports).await {
            Some((port, first_free)) => {
                let (host, source) = (self.name.clone(), Arc::new(error));
                HostError::PrivilegedPort { host, port, first_free, source }.into()
            }
            None => self.engine_error("start the proxy", error).into(),
        })
    }

    /// Waits until the proxy answers on its control socket.
    pub(super) async fn await_proxy(&self, link: &Link) -> Result<(), StepError> {
        let deadline = Instant::now() + CONTROL_DEADLINE;
        let mut pause = Duration::from_millis(20);
        loop {
            let answer = self
                .ask_proxy(link, "say its version", async |client| client.version(CONTROL_DEADLINE).await)
                .await;
            match answer {
                Ok(_) => return Ok(()),
                Err(failure) if Instant::now() >= deadline => return Err(failure.into_step_error(&self.name)),
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    pub(super) async fn probe(
        &self,
        target: &TargetAddress,
        check: &freehold_model::HealthCheck,
        deadline: Duration,
    ) -> Result<ProbeReport, StepError> {
        let link = self.link().await?;
        let request = ProbeRequest {
            target: target.clone(),
            health_check: health_check(check),
            deadline_ms: milliseconds(deadline),
        };
        let limit = deadline + check.timeout + CONTROL_DEADLINE;
        self.ask_proxy(&link, "check the new container", async |client| client.probe(&request, limit).await)
            .await
            .map_err(|failure| failure.into_step_error(&self.name))
    }

    /// Sends the requests of a service to a route's targets; another one whose place it takes goes in the same moment.
    pub(super) async fn switch(
        &self,
        (service, takes_over): (&ProxyServiceName, Option<&ProxyServiceName>),
        route: &Route,
        handover: Handover,
    ) -> Result<(), StepError> {
        let Handover { drain, fence, earlier, fleet_key } = handover;
        let link = self.link().await?;
        let mut request = deploy_request(route).map_err(|error| StepError::Proxy {
            host: self.name.clone(),
            operation: format!("serve `{service}`"),
            source: Arc::new(error),
        })?;
        request.health = HealthGate::Trust;
        request.drain = DrainMode::Background;
        request.drain_timeout_ms = milliseconds(drain);
        request.tunnel_timeout_ms = milliseconds(drain);
        request.fence = fence;
        request.fleet_key = fleet_key;
        request.takes_over = takes_over.cloned();
        request.standby_ms = match earlier {
            Earlier::StandsBy => milliseconds(STANDBY),
            Earlier::Ends => 0,
        };
        let operation = format!("switch `{service}`");
        self.ask_proxy(&link, &operation, async |client| {
            client.deploy(service, &request, CONTROL_DEADLINE).await
        })
        .await
        .map(drop)
        .map_err(|failure| self.proxy_refusal(failure))
    }

    /// Says how the certificates stand that the proxy orders for a service, unless all are there.
    pub(super) async fn certificate_note(
        &self,
        service: &ProxyServiceName,
        route: &Route,
    ) -> Result<Option<String>, StepError> {
        if !matches!(route.settings.tls, freehold_model::Tls::Automatic(_)) {
            return Ok(None);
        }
        let link = self.link().await?;
        let operation = format!("say how the certificates of `{service}` stand");
        let status = self
            .ask_proxy(&link, &operation, async |client| client.service(service, CONTROL_DEADLINE).await)
            .await
            .map_err(|failure| failure.into_step_error(&self.name))?;
        let notes = status.certificates.iter().filter_map(|certificate| match certificate.state {
            CertificateState::Valid => None,
            CertificateState::Ordering => {
                Some(format!("the certificate of {} is being ordered", certificate.name))
            }
            CertificateState::Failed => {
                let error = certificate.error.as_deref().unwrap_or("it was not issued");
                Some(format!("the certificate of {} is not there yet: {error}", certificate.name))
            }
        });
        let notes: Vec<String> = notes.collect();
        Ok((!notes.is_empty()).then(|| notes.join("; ")))
    }

    /// Says that the switch is final, so that the earlier targets, which are about to be stopped, do not step in any longer.
    pub(super) async fn confirm(
        &self,
        service: &ProxyServiceName,
        limit: Duration,
        fence: u64,
    ) -> Result<(), StepError> {
        let link = self.link().await?;
        let request = ConfirmRequest {
            drain_timeout_ms: milliseconds(limit),
            tunnel_timeout_ms: milliseconds(limit),
            fence: Some(fence),
        };
        let operation = format!("take the switch of `{service}` as final");
        let answer = self
            .ask_proxy(&link, &operation, async |client| {
                client.confirm(service, &request, CONTROL_DEADLINE).await
            })
            .await;
        match answer {
            // A service that is gone has nothing behind it.
            Ok(_) | Err(ProxyFailure::Proxy { error: ProxyError::UnknownService { .. }, .. }) => Ok(()),
            Err(failure) => Err(self.proxy_refusal(failure)),
        }
    }

    /// Waits until earlier targets have nothing in flight, at most that long. A service that is gone has nothing.
    pub(super) async fn drain(
        &self,
        service: &ProxyServiceName,
        limit: Duration,
    ) -> Result<Option<DrainReport>, StepError> {
        let link = self.link().await?;
        let request =
            DrainRequest { timeout_ms: milliseconds(limit), tunnel_timeout_ms: milliseconds(limit) };
        let operation = format!("drain `{service}`");
        let deadline = limit + CONTROL_DEADLINE;
        let answer = self
            .ask_proxy(&link, &operation, async |client| client.drain(service, &request, deadline).await)
            .await;
        match answer {
            Ok(report) => Ok(Some(report)),
            Err(ProxyFailure::Proxy { error: ProxyError::UnknownService { .. }, .. }) => Ok(None),
            Err(failure) => Err(failure.into_step_error(&self.name)),
        }
    }

    /// Takes a service out of the proxy. Returns whether it was there.
    pub(super) async fn unroute(&self, service: &ProxyServiceName, fence: u64) -> Result<bool, StepError> {
        let link = self.link().await?;
        let operation = format!("remove `{service}`");
        let answer = self
            .ask_proxy(&link, &operation, async |client| {
                client.remove(service, Some(fence), CONTROL_DEADLINE).await
            })
            .await;
        match answer {
            Ok(_) => Ok(true),
            Err(ProxyFailure::Proxy { error: ProxyError::UnknownService { .. }, .. }) => Ok(false),
            Err(failure) => Err(self.proxy_refusal(failure)),
        }
    }

    pub(super) fn proxy_refusal(&self, failure: ProxyFailure) -> StepError {
        match failure {
            ProxyFailure::Proxy { error: ProxyError::Fenced { .. }, .. } => {
                StepError::Host(HostError::Fenced { host: self.name.clone() })
            }
            failure => failure.into_step_error(&self.name),
        }
    }

    /// Removes the proxy's container if no service is left in it. Returns whether it was removed.
    pub(super) async fn remove_unused_proxy(&self) -> Result<bool, StepError> {
        let link = self.link().await?;
        let failed =
            |operation: &'static str| move |error| StepError::Host(self.engine_error(operation, error));
        let details =
            link.engine.inspect_container(PROXY_CONTAINER).await.map_err(failed("look at the proxy"))?;
        let Some(details) = details.filter(|details| details.labels.contains_key(PROXY_LABEL)) else {
            return Ok(false);
        };
        if details.state.is_alive() {
            let services = self
                .ask_proxy(&link, "list its services", async |client| client.services(CONTROL_DEADLINE).await)
                .await
                .map_err(|failure| failure.into_step_error(&self.name))?;
            if !services.is_empty() {
                return Ok(false);
            }
            *link.proxy.lock().await = None;
            link.engine
                .stop_container(PROXY_CONTAINER, Some(CONTROL_DEADLINE))
                .await
                .map_err(failed("stop the proxy"))?;
        }
        let options = freehold_docker::RemoveOptions { force: true, anonymous_volumes: true };
        link.engine.remove_container(PROXY_CONTAINER, options).await.map_err(failed("remove the proxy"))?;
        Ok(true)
    }
}

/// Describes the proxy's container: Kamal 2.12's names, volume and network, our image.
pub(super) fn proxy_spec(
    run: &ProxyRun,
    network: &str,
    home: &str,
    image: ImageName,
) -> Result<ContainerSpec, freehold_model::InvalidName> {
    let mut spec = ContainerSpec::new(ContainerName::parse(PROXY_CONTAINER)?, image);
    let ports =
        ["--http-port", &HTTP_PORT.to_string(), "--https-port", &HTTPS_PORT.to_string()].map(str::to_owned);
    let mut command: Vec<String> = ["proxy", "run"].map(str::to_owned).into_iter().chain(ports).collect();
    if run.debug {
        command.push("--debug".to_owned());
    }
    if let Some(port) = run.metrics_port {
        command.extend(["--metrics-port".to_owned(), port.to_string()]);
    }
    command.extend(run.edge.flags());
    if let Some(bytes) = run.buffer_disk_bytes {
        command.extend(["--buffer-disk".to_owned(), bytes.to_string()]);
    }
    if let Some(traces) = &run.traces {
        let ratio = f64::from(traces.per_million) / 1_000_000.0;
        command.extend(["--otlp-endpoint".to_owned(), traces.endpoint.clone()]);
        command.extend(["--trace-ratio".to_owned(), ratio.to_string()]);
    }
    command.extend(run.acme.iter().flat_map(|acme| authority::flags(acme)));
    spec.command = Some(command);
    spec.network = Some(network.to_owned());
    spec.labels = BTreeMap::from([(PROXY_LABEL.to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
    spec.labels.insert(API_LABEL.to_owned(), freehold_wire::API_VERSION.to_string());
    spec.labels.extend(run.labels.clone());
    spec.volumes = vec![
        "kamal-proxy-config:/home/kamal-proxy/.config/kamal-proxy".to_owned(),
        format!("{home}/.kamal/proxy/apps-config:/home/kamal-proxy/.apps-config"),
    ];
    let mut logging = Logging { driver: None, options: BTreeMap::new() };
    if !run.log_max_size.is_empty() {
        logging.options.insert("max-size".to_owned(), run.log_max_size.clone());
    }
    spec.logging = logging;
    let mut options = (*run.options).clone();
    options.publish.extend(published(run));
    options.expose.extend(run.metrics_port.map(|port| port.to_string()));
    spec.options = options;
    Ok(spec)
}

/// Returns the host's ports that lead to the proxy, as Docker writes them.
fn published(run: &ProxyRun) -> Vec<String> {
    if !run.publish {
        return Vec::new();
    }
    let ports = [format!("{}:{HTTP_PORT}", run.http_port), format!("{}:{HTTPS_PORT}", run.https_port)];
    if run.bind_addresses.is_empty() {
        return ports.to_vec();
    }
    let bound = run.bind_addresses.iter().flat_map(|address| {
        ports.iter().map(move |port| match address {
            IpAddr::V4(address) => format!("{address}:{port}"),
            IpAddr::V6(address) => format!("[{address}]:{port}"),
        })
    });
    bound.collect()
}

impl StepError {
    /// Makes an error of the progress of an image.
    pub(super) fn image(operation: impl Into<String>, source: impl Diagnose + Send + Sync + 'static) -> Self {
        Self::Image { operation: operation.into(), source: Arc::new(source) }
    }
}

/// Shows a line of status.
pub(super) fn status(context: &StepContext<'_>, text: impl Into<String>) {
    (context.progress)(Progress::Status { text: text.into() });
}

#[cfg(test)]
mod tests;

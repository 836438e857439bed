//! One proxy takes the place of another without a refused connection.
//!
//! A published port belongs to one container. While it moves, a stand-in serves: a proxy of its own that knows every
//! route. Rules in the host's packet filter send new connections to it before the engine's own rules are asked;
//! connections that exist go on as they began.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_docker::{
    ContainerDetails, ContainerSpec, CreateContainerError, ImageName, RemoveOptions, StandardStreams,
    parse_proc_net_tcp,
};
use freehold_model::{
    ContainerName, ContainerOptions, Diagnose, ErrorKind, ProxyRun, RemoteImage, RestartPolicy,
};
use freehold_plan::ProxyMaker;

use crate::engine_host::EngineHost;
use crate::engine_host::kamal_proxy::kamal_state;
use crate::engine_host::link::Link;
use crate::engine_host::observe::maker;
use crate::engine_host::proxy::{PROXY_CONTAINER, proxy_spec, status};
use crate::host::{Outcome, StepContext, StepError};

mod rules;
mod stand_in;

use rules::{RELEASE, Rules};

/// The container of the stand-in.
const STAND_IN: &str = "kamal-proxy-handover";

/// The container that changes the host's packet filter.
const RULES: &str = "kamal-proxy-handover-rules";

/// The label of the stand-in; its value is the deploy lock under which it was made.
const STAND_IN_LABEL: &str = "freehold.handover";

/// For how long connections of the earlier proxy are waited for: one that is merely kept open never ends.
const QUIET_LIMIT: Duration = Duration::from_secs(10);

/// How long a proxy may take to stop: it lets requests end for 10 s.
const STOP_LIMIT: Duration = Duration::from_secs(12);

const RULES_LIMIT: Duration = Duration::from_secs(60);

/// Why a proxy cannot be replaced.
#[derive(Debug, thiserror::Error)]
enum HandoverError {
    #[error("another command is replacing the proxy already: container `{STAND_IN}` is there")]
    Busy,
    #[error("the stand-in does not know service `{service}`")]
    Service { service: String },
    #[error("the stand-in has no address in network `{network}`")]
    Address { network: String },
    #[error("the packet filter of the host could not be changed: {message}")]
    Rules { message: String },
    #[error("service `{service}` cannot be carried over")]
    State { service: String, source: freehold_wire::KamalServiceError },
}

impl Diagnose for HandoverError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Busy => ErrorKind::Locked,
            _ => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Busy => vec![format!(
                "if no such command runs any more: `docker rm -f {STAND_IN}` on the host, then try again"
            )],
            Self::Rules { .. } => vec![
                "`iptables` must be on the host, as the engine itself needs it; or accept that connections are refused \
                 for about a second: `--with-gap`"
                    .to_owned(),
            ],
            _ => Vec::new(),
        }
    }
}

impl EngineHost {
    fn handover_error(&self, operation: &str, error: HandoverError) -> StepError {
        StepError::Proxy { host: self.name.clone(), operation: operation.to_owned(), source: Arc::new(error) }
    }

    fn name_error(&self, operation: &str, source: freehold_model::InvalidName) -> StepError {
        StepError::Proxy {
            host: self.name.clone(),
            operation: operation.to_owned(),
            source: Arc::new(source),
        }
    }

    fn container_name(&self, name: &str) -> Result<ContainerName, StepError> {
        ContainerName::parse(name).map_err(|source| self.name_error("be named", source))
    }

    async fn inspect(&self, link: &Link, container: &str) -> Result<Option<ContainerDetails>, StepError> {
        let operation = format!("look at container `{container}`");
        let details = link.engine.inspect_container(container).await;
        Ok(details.map_err(|error| self.engine_error(&operation, error))?)
    }

    async fn stop_and_remove(&self, link: &Link, container: &str) -> Result<bool, StepError> {
        let operation = format!("stop container `{container}`");
        let stopped = link.engine.stop_container(container, Some(STOP_LIMIT)).await;
        stopped.map_err(|error| self.engine_error(&operation, error))?;
        let options = RemoveOptions { force: true, anonymous_volumes: true };
        let removed = link.engine.remove_container(container, options).await;
        let removed = removed.map_err(|error| self.engine_error(&operation, error))?;
        Ok(removed == freehold_docker::Removed::Removed)
    }

    /// Pulls the image of a kamal-proxy, unless the host has it.
    pub(super) async fn pull_proxy_image(
        &self,
        image: &RemoteImage,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let operation = format!("pull image `{image}`");
        let there = link.engine.inspect_image(&image.to_string()).await;
        if there.map_err(|error| self.engine_error(&operation, error))?.is_some() {
            return Ok(Outcome::AlreadyDone);
        }
        let engine = link
            .dedicated_engine()
            .await
            .map_err(|source| StepError::Image { operation: operation.clone(), source })?;
        let name = image.to_string();
        let credentials = self.workshop.registries.iter().find(|known| {
            known.server.as_deref().is_some_and(|server| name.starts_with(&format!("{server}/")))
        });
        let mut ignore = |_| {};
        let pulled = tokio::select! {
            pulled = engine.pull_image(&name, credentials, &mut ignore) => pulled,
            () = context.stop.cancelled() => return Err(StepError::Stopped),
        };
        pulled.map_err(|error| self.engine_error(&operation, error))?;
        Ok(Outcome::Done(None))
    }

    /// Starts a proxy beside the one that serves, which reads the same state and changes none of it.
    pub(super) async fn start_stand_in(
        &self,
        run: &ProxyRun,
        network: &str,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        const OPERATION: &str = "be stood in for";
        let link = self.link().await?;
        let Some(earlier) = self.inspect(&link, PROXY_CONTAINER).await? else {
            return Ok(Outcome::AlreadyDone);
        };
        let image = self.deliver_proxy_image(&link, context).await?;
        let mut spec = stand_in::spec(run, network, &link.home, image)
            .map_err(|source| self.name_error(OPERATION, source))?;
        spec.labels = BTreeMap::from([(STAND_IN_LABEL.to_owned(), context.lease.stem.clone())]);
        spec.options.user = self.owner_of_state(&earlier).await?;
        match link.engine.create_container(&spec).await {
            Ok(_) => {}
            Err(CreateContainerError::NameInUse { .. }) => {
                let there = self.inspect(&link, STAND_IN).await?;
                let is_ours =
                    there.is_some_and(|there| there.labels.get(STAND_IN_LABEL) == Some(&context.lease.stem));
                if !is_ours {
                    return Err(self.handover_error(OPERATION, HandoverError::Busy));
                }
            }
            Err(error) => return Err(self.create_error(&spec.name, error)),
        }
        let started = link.engine.start_container(STAND_IN).await;
        started.map_err(|error| self.engine_error("start the stand-in", error))?;
        self.check_stand_in(&link, &earlier).await?;
        Ok(Outcome::Done(None))
    }

    /// The user who may read the state in the volume: the one whom the earlier proxy runs as. None where that is not to
    /// be seen.
    pub(super) async fn owner_of_state(
        &self,
        earlier: &ContainerDetails,
    ) -> Result<Option<String>, StepError> {
        if earlier.pid == 0 || maker(earlier) == ProxyMaker::Freehold {
            return Ok(None);
        }
        let script =
            format!("sed -n 's/^[UG]id:[[:space:]]*\\([0-9]*\\).*/\\1/p' /proc/{}/status", earlier.pid);
        let output = self.script("look at the proxy's process", &script).await?;
        let ids: Vec<u32> = output.stdout.lines().filter_map(|line| line.trim().parse().ok()).collect();
        Ok(match ids.as_slice() {
            // A number beyond is one that the engine remapped.
            [user, group] if *user > 0 && *user < 65_534 => Some(format!("{user}:{group}")),
            _ => None,
        })
    }

    /// Makes sure that the stand-in serves all that the earlier proxy does.
    async fn check_stand_in(&self, link: &Link, earlier: &ContainerDetails) -> Result<(), StepError> {
        const OPERATION: &str = "be stood in for";
        let wanted: Vec<String> = match maker(earlier) {
            ProxyMaker::Freehold => {
                let services = self.stored_services(link).await?;
                services.into_iter().map(|service| service.name.to_string()).collect()
            }
            ProxyMaker::Kamal => {
                let services = kamal_state(&link.engine, PROXY_CONTAINER)
                    .await
                    .map_err(|error| error.into_host_error(self))?;
                for service in &services {
                    service.snapshot(0).map_err(|source| {
                        let service = service.name.clone();
                        self.handover_error(OPERATION, HandoverError::State { service, source })
                    })?;
                }
                services.into_iter().map(|service| service.name).collect()
            }
        };
        let known = self.services_of(link, STAND_IN).await?;
        match wanted.into_iter().find(|name| !known.iter().any(|service| service.name.as_str() == name)) {
            None => Ok(()),
            Some(service) => Err(self.handover_error(OPERATION, HandoverError::Service { service })),
        }
    }

    /// Sends new connections to the proxy's ports to the stand-in.
    pub(super) async fn divert_ports(&self, network: &str) -> Result<Outcome, StepError> {
        const OPERATION: &str = "be stood in for";
        let link = self.link().await?;
        let (Some(earlier), Some(stand_in)) =
            (self.inspect(&link, PROXY_CONTAINER).await?, self.inspect(&link, STAND_IN).await?)
        else {
            return Ok(Outcome::AlreadyDone);
        };
        if earlier.published.is_empty() {
            return Ok(Outcome::Done(Some("no port of the host leads to the proxy".to_owned())));
        }
        let address = stand_in.ip_addresses.get(network).copied().ok_or_else(|| {
            self.handover_error(OPERATION, HandoverError::Address { network: network.to_owned() })
        })?;
        let bridge = link.engine.bridge_interface(network).await;
        let bridge = bridge.map_err(|error| self.engine_error("look at the network", error))?;
        let listeners =
            self.script("read the listening ports", "cat /proc/net/tcp /proc/net/tcp6 2>/dev/null").await?;
        let listening: Vec<u16> =
            parse_proc_net_tcp(&listeners.stdout).iter().map(|listener| listener.port).collect();
        let rules = Rules {
            bridge: bridge.as_deref(),
            address,
            published: &earlier.published,
            stand_in: &stand_in.published,
            listening: &listening,
        };
        self.change_rules(&link, &rules.script()).await?;
        Ok(Outcome::Done(None))
    }

    /// Lets connections reach the proxy itself again.
    pub(super) async fn release_ports(&self) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        if self.inspect(&link, STAND_IN).await?.is_none() {
            return Ok(Outcome::AlreadyDone);
        }
        self.change_rules(&link, RELEASE).await?;
        Ok(Outcome::Done(None))
    }

    /// Runs a script in the host's own file system and network, whose rights a login may not have: whoever may use the
    /// engine may do it in a container.
    async fn change_rules(&self, link: &Link, script: &str) -> Result<(), StepError> {
        const OPERATION: &str = "be stood in for";
        let Some(stand_in) = self.inspect(link, STAND_IN).await? else { return Ok(()) };
        let image = freehold_model::ImageId::parse(stand_in.image_id.as_str()).map_err(|error| {
            self.handover_error(OPERATION, HandoverError::Rules { message: error.to_string() })
        })?;
        let name = self.container_name(RULES)?;
        let mut spec = ContainerSpec::new(name.clone(), ImageName::Id(image));
        spec.command = Some(["on-host", script].map(str::to_owned).to_vec());
        spec.network = Some("host".to_owned());
        spec.volumes = vec!["/:/host".to_owned()];
        spec.streams = StandardStreams::Detached;
        spec.options = ContainerOptions {
            restart: RestartPolicy::No,
            user: Some("0:0".to_owned()),
            cap_drop: vec!["ALL".to_owned()],
            cap_add: ["NET_ADMIN", "NET_RAW", "SYS_CHROOT", "DAC_OVERRIDE"].map(str::to_owned).to_vec(),
            security_opt: vec!["label=disable".to_owned()],
            ..ContainerOptions::default()
        };
        let options = RemoveOptions { force: true, anonymous_volumes: true };
        let failed = |error| StepError::Host(self.engine_error("change the packet filter", error));
        link.engine.remove_container(RULES, options).await.map_err(failed)?;
        link.engine.create_container(&spec).await.map_err(|error| self.create_error(&name, error))?;
        link.engine.start_container(RULES).await.map_err(failed)?;
        let code = link.engine.wait_container(RULES, RULES_LIMIT).await.map_err(failed)?;
        let log = link.engine.last_logs(RULES, 5).await.map_err(failed)?;
        link.engine.remove_container(RULES, options).await.map_err(failed)?;
        if code == 0 {
            return Ok(());
        }
        let message = log.last().map_or_else(|| format!("code {code}"), |line| line.trim().to_owned());
        Err(self.handover_error(OPERATION, HandoverError::Rules { message }))
    }

    /// Lets the proxy end what it has begun, stops it and gives it another name.
    pub(super) async fn set_proxy_aside(
        &self,
        name: &ContainerName,
        drain: Duration,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let Some(details) = self.inspect(&link, PROXY_CONTAINER).await? else {
            return Ok(Outcome::AlreadyDone);
        };
        let mut left = 0;
        if details.state.is_alive() {
            if self.inspect(&link, STAND_IN).await?.is_some() {
                status(context, "waiting for the earlier proxy to end what it has begun");
                left = self.await_quiet(&details, drain.min(QUIET_LIMIT)).await?;
            }
            self.forget_proxy(&link).await;
            let stopped = link.engine.stop_container(PROXY_CONTAINER, Some(STOP_LIMIT)).await;
            stopped.map_err(|error| self.engine_error("stop the proxy", error))?;
        }
        // What an earlier adoption kept under that name is older than what is kept now.
        if self.inspect(&link, name.as_str()).await?.is_some() {
            self.stop_and_remove(&link, name.as_str()).await?;
        }
        let container = self.container_name(PROXY_CONTAINER)?;
        self.rename(&container, name).await?;
        Ok(Outcome::Done((left > 0).then(|| format!("{left} connections were still open"))))
    }

    /// Waits until nobody is connected to a proxy, at most that long. Returns how many are.
    async fn await_quiet(&self, details: &ContainerDetails, limit: Duration) -> Result<usize, StepError> {
        let script = format!(
            "cat /proc/{0}/net/tcp /proc/{0}/net/tcp6 2>/dev/null | \
             awk '$4 == \"01\" && $2 ~ /:(0050|01BB)$/' | wc -l",
            details.pid
        );
        let deadline = Instant::now() + limit;
        loop {
            let output = self.script("count the proxy's connections", &script).await?;
            let open: usize = output.stdout.trim().parse().unwrap_or(0);
            if open == 0 || Instant::now() >= deadline {
                return Ok(open);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn forget_proxy(&self, link: &Link) {
        *link.proxy.lock().await = None;
    }

    /// Gives a proxy that was set aside its name back and starts it.
    pub(super) async fn bring_proxy_back(&self, name: &ContainerName) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let container = self.container_name(PROXY_CONTAINER)?;
        if self.inspect(&link, name.as_str()).await?.is_some() {
            self.rename(name, &container).await?;
        }
        let Some(details) = self.inspect(&link, PROXY_CONTAINER).await? else {
            return Ok(Outcome::AlreadyDone);
        };
        self.forget_proxy(&link).await;
        let started = link.engine.start_container(PROXY_CONTAINER).await;
        started.map_err(|error| self.engine_error("start the proxy", error))?;
        self.await_any_proxy(&link, maker(&details)).await?;
        Ok(Outcome::Done(None))
    }

    async fn await_any_proxy(&self, link: &Link, maker: ProxyMaker) -> Result<(), StepError> {
        match maker {
            ProxyMaker::Freehold => self.await_proxy(link).await,
            ProxyMaker::Kamal => self.await_kamal_proxy().await,
        }
    }

    /// Makes and starts the proxy that comes.
    pub(super) async fn start_proxy(
        &self,
        (maker, run, network): (ProxyMaker, &ProxyRun, &str),
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        if let Some(there) = self.inspect(&link, PROXY_CONTAINER).await?
            && there.state.is_alive()
        {
            return Ok(Outcome::AlreadyDone);
        }
        self.forget_proxy(&link).await;
        match maker {
            ProxyMaker::Freehold => self.ensure_proxy(run, network, context).await,
            ProxyMaker::Kamal => self.start_kamal_proxy(&link, run, network).await,
        }
    }

    async fn start_kamal_proxy(
        &self,
        link: &Link,
        run: &ProxyRun,
        network: &str,
    ) -> Result<Outcome, StepError> {
        let described = |source: Arc<dyn Diagnose + Send + Sync>| StepError::Proxy {
            host: self.name.clone(),
            operation: "be described".to_owned(),
            source,
        };
        let image = freehold_plan::kamal_image(run).map_err(|error| described(Arc::new(error)))?;
        let mut spec = proxy_spec(run, network, &link.home, ImageName::Remote(image))
            .map_err(|error| described(Arc::new(error)))?;
        spec.labels.clone_from(&run.labels);
        let mut command = ["kamal-proxy", "run"].map(str::to_owned).to_vec();
        if run.debug {
            command.push("--debug".to_owned());
        }
        if let Some(port) = run.metrics_port {
            command.extend(["--metrics-port".to_owned(), port.to_string()]);
        }
        spec.command = Some(command);
        let network_made = link.engine.ensure_network(network).await;
        network_made.map_err(|error| self.engine_error("make the network", error))?;
        link.engine.create_container(&spec).await.map_err(|error| self.create_error(&spec.name, error))?;
        let started = link.engine.start_container(PROXY_CONTAINER).await;
        started.map_err(|error| self.engine_error("start the proxy", error))?;
        self.await_kamal_proxy().await?;
        Ok(Outcome::Done(None))
    }

    /// Removes the proxy that came, on the way back.
    pub(super) async fn remove_proxy(&self) -> Result<(), StepError> {
        let link = self.link().await?;
        self.forget_proxy(&link).await;
        if self.inspect(&link, PROXY_CONTAINER).await?.is_some() {
            self.stop_and_remove(&link, PROXY_CONTAINER).await?;
        }
        Ok(())
    }

    /// Lets the stand-in end what it has begun and removes it.
    pub(super) async fn remove_stand_in(&self) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let Some(details) = self.inspect(&link, STAND_IN).await? else { return Ok(Outcome::AlreadyDone) };
        if details.pid > 0 {
            self.await_quiet(&details, QUIET_LIMIT).await?;
        }
        self.stop_and_remove(&link, STAND_IN).await?;
        Ok(Outcome::Done(None))
    }

    /// Removes the images of proxies that no container is made from.
    pub(super) async fn remove_proxy_images(&self) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let label = "org.opencontainers.image.title=kamal-proxy";
        let images = link.engine.list_labelled_images(label).await;
        let images = images.map_err(|error| self.engine_error("list the proxy's images", error))?;
        let mut removed = 0;
        for image in images {
            for name in image.tags.iter().chain(image.tags.is_empty().then_some(&image.id)) {
                let outcome = link.engine.remove_image(name).await;
                let outcome =
                    outcome.map_err(|error| self.engine_error("remove the proxy's image", error))?;
                removed += usize::from(outcome == freehold_docker::Untagged::Untagged);
            }
        }
        Ok(if removed == 0 { Outcome::AlreadyDone } else { Outcome::Done(None) })
    }
}

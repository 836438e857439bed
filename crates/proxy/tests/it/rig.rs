//! A proxy with a folder of its own.

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use freehold_model::ProxyServiceName;
use freehold_proxy::{AcmeConfig, EdgeConfig, Limits, NameFiles, Server, ServerConfig, TraceConfig};
use freehold_wire::{
    DeployReply, DeployRequest, HostPattern, ProxyClient, ServiceSettings, ServiceStatus, TargetAddress,
    TrafficCounters,
};
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::client::{Connection, LIMIT};
use crate::target::Target;

/// Where a test reads the proxy's log.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogText(Arc<Mutex<Vec<u8>>>);

impl Write for LogText {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl LogText {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }

    pub(crate) fn lines(&self) -> Vec<serde_json::Value> {
        let text = self.0.lock().clone();
        text.split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    pub(crate) fn requests(&self) -> Vec<serde_json::Value> {
        self.lines().into_iter().filter(|line| line["msg"] == "Request").collect()
    }
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) folder: TempDir,
    pub(crate) log: LogText,
    address: IpAddr,
    limits: Limits,
    names: NameFiles,
    acme: AcmeConfig,
    edge: EdgeConfig,
    /// 0 takes free ones.
    ports: (u16, u16),
    metrics: bool,
    spill_limit: u64,
    traces: Option<TraceConfig>,
    server: Option<Server>,
}

pub(crate) fn name(text: &str) -> ProxyServiceName {
    ProxyServiceName::parse(text).unwrap()
}

pub(crate) fn address(text: &str) -> TargetAddress {
    TargetAddress::parse(text).unwrap()
}

/// Settings with one host, and checks that follow each other quickly.
pub(crate) fn settings(host: &str) -> ServiceSettings {
    let mut settings =
        ServiceSettings { hosts: vec![HostPattern::parse(host).unwrap()], ..ServiceSettings::default() };
    settings.health_check.interval_ms = 20;
    settings
}

pub(crate) fn request_for(target: &Target) -> DeployRequest {
    DeployRequest::new(vec![address(&target.address())], settings("shop.example.com"))
}

impl Rig {
    pub(crate) fn start() -> Self {
        Self::with_limits(Limits::default())
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        Self::with(limits, NameFiles::default())
    }

    /// Starts a proxy that looks names up as some files say.
    pub(crate) fn with_names(names: NameFiles) -> Self {
        Self::with(Limits::default(), names)
    }

    fn with(limits: Limits, names: NameFiles) -> Self {
        Self::made([127, 0, 0, 1].into(), limits, names, (AcmeConfig::default(), (0, 0)))
    }

    /// Starts a proxy that orders certificates, on an address and ports that stay the same over a restart.
    pub(crate) fn ordering(
        address: IpAddr,
        limits: Limits,
        names: NameFiles,
        (acme, ports): (AcmeConfig, (u16, u16)),
    ) -> Self {
        Self::made(address, limits, names, (acme, ports))
    }

    fn made(
        address: IpAddr,
        limits: Limits,
        names: NameFiles,
        (acme, ports): (AcmeConfig, (u16, u16)),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = LogText::default();
        let mut rig = Self {
            folder,
            log,
            address,
            limits,
            names,
            acme,
            edge: EdgeConfig::default(),
            ports,
            metrics: false,
            spill_limit: u64::MAX,
            traces: None,
            server: None,
        };
        rig.restart(Duration::from_secs(5));
        rig
    }

    /// Starts a proxy behind others.
    pub(crate) fn behind(edge: EdgeConfig) -> Self {
        let mut rig = Self::start();
        rig.edge = edge;
        rig.restart(Duration::from_secs(5));
        rig
    }

    /// Starts it again behind others.
    pub(crate) fn behind_others(&mut self, edge: EdgeConfig) {
        self.edge = edge;
        self.restart(Duration::from_secs(5));
    }

    /// Starts a proxy that counts.
    pub(crate) fn counting() -> Self {
        let mut rig = Self::start();
        rig.metrics = true;
        rig.restart(Duration::from_secs(5));
        rig
    }

    /// Starts a proxy that counts, and that tells a collector of requests.
    pub(crate) fn tracing(traces: TraceConfig) -> Self {
        let mut rig = Self::start();
        (rig.metrics, rig.traces) = (true, Some(traces));
        rig.restart(Duration::from_secs(5));
        rig
    }

    /// Starts a proxy that counts, and that keeps so many bytes of bodies on the disk.
    pub(crate) fn spilling(limit: u64) -> Self {
        let mut rig = Self::start();
        (rig.metrics, rig.spill_limit) = (true, limit);
        rig.restart(Duration::from_secs(5));
        rig
    }

    /// Starts the server, again if it runs, in the same folder.
    pub(crate) fn restart(&mut self, stop_deadline: Duration) {
        self.stop();
        let config = ServerConfig {
            bind: Some(self.address),
            http_port: self.ports.0,
            https_port: self.ports.1,
            metrics_port: self.metrics.then_some(0),
            threads: 2,
            socket: self.socket(),
            state_folder: self.folder.path().join("state"),
            debug: true,
            stop_deadline,
            limits: self.limits,
            names: self.names.clone(),
            spill_folder: self.spill_folder(),
            spill_limit: self.spill_limit,
            acme: self.acme.clone(),
            traces: self.traces.clone(),
            program: None,
            edge: self.edge.clone(),
        };
        self.server = Some(Server::start(config, Box::new(self.log.clone())).unwrap());
    }

    /// Stops the server and waits for its end.
    pub(crate) fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
            server.join();
        }
    }

    /// Tells the server to stop and gives it away, to be waited for.
    pub(crate) fn begin_stop(&mut self) -> Server {
        let server = self.server.take().unwrap();
        server.stop();
        server
    }

    /// Returns the folder for bodies that do not fit into memory.
    pub(crate) fn spill_folder(&self) -> PathBuf {
        let folder = self.folder.path().join("spill");
        fs_err::create_dir_all(&folder).unwrap();
        folder
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("proxy.sock")
    }

    pub(crate) fn state_file(&self) -> PathBuf {
        self.folder.path().join("state/freehold-proxy.state")
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.as_ref().unwrap().http_port()
    }

    pub(crate) fn https_port(&self) -> u16 {
        self.server.as_ref().unwrap().https_port()
    }

    pub(crate) fn metrics_port(&self) -> u16 {
        self.server.as_ref().unwrap().metrics_port().unwrap()
    }

    pub(crate) async fn open(&self) -> Connection {
        Connection::open(self.port()).await
    }

    pub(crate) async fn client(&self) -> ProxyClient {
        ProxyClient::connect(&self.socket(), LIMIT).await.unwrap()
    }

    /// Deploys a target as the service `shop` for `shop.example.com`.
    pub(crate) async fn deploy(&self, target: &Target) -> DeployReply {
        self.client().await.deploy(&name("shop"), &request_for(target), LIMIT).await.unwrap()
    }

    pub(crate) async fn status(&self) -> ServiceStatus {
        self.client().await.service(&name("shop"), LIMIT).await.unwrap()
    }

    /// Returns the counters once so many requests have ended; a client has its answer a moment before that.
    pub(crate) async fn counters(&self, requests: u64) -> TrafficCounters {
        self.wait_for(|status| status.counters.requests == requests && status.in_flight.requests == 0).await;
        self.status().await.counters
    }

    /// Waits until the service satisfies a condition.
    pub(crate) async fn wait_for(&self, done: impl Fn(&ServiceStatus) -> bool) {
        crate::client::soon(async {
            let mut client = self.client().await;
            while !done(&client.service(&name("shop"), LIMIT).await.unwrap()) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop();
    }
}

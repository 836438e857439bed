use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_model::Architecture;
use http::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::connection::{Connector, dial};
use crate::request::{Answer, Body, EngineRequest};
use crate::{Deadlines, Dial, EngineError};

/// One Docker engine (or Podman in its place), reached over any byte stream. Cloning is cheap.
///
/// Ordinary requests share a pool of connections. Everything without an end or at a person's pace (followed logs,
/// exec, images on their way out) gets a connection of its own, because one that nobody reads would hold up the others
/// of the same SSH connection.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client<Connector, Body>,
    dedicated: Arc<dyn Dial>,
    dial: Arc<dyn Dial>,
    deadlines: Deadlines,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Engine").field("deadlines", &self.inner.deadlines).finish_non_exhaustive()
    }
}

impl Engine {
    /// Makes an engine of a way to reach it. Nothing is dialled yet.
    #[must_use]
    pub fn over(dial: Arc<dyn Dial>, deadlines: Deadlines) -> Self {
        Self::build_with(Arc::clone(&dial), dial, deadlines)
    }

    /// Returns the same engine whose unbounded streams are dialled by `dedicated`, for instance each over an SSH
    /// connection of its own.
    #[must_use]
    pub fn with_dedicated(&self, dedicated: Arc<dyn Dial>) -> Self {
        Self::build_with(Arc::clone(&self.inner.dial), dedicated, self.inner.deadlines.clone())
    }

    /// Returns the same engine with other deadlines.
    #[must_use]
    pub fn with_deadlines(&self, deadlines: Deadlines) -> Self {
        Self::build_with(Arc::clone(&self.inner.dial), Arc::clone(&self.inner.dedicated), deadlines)
    }

    fn build_with(dial: Arc<dyn Dial>, dedicated: Arc<dyn Dial>, deadlines: Deadlines) -> Self {
        let connector = Connector { dial: Arc::clone(&dial), limit: deadlines.connect };
        let client =
            Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(30)).build(connector);
        Self { inner: Arc::new(Inner { client, dedicated, dial, deadlines }) }
    }

    /// Returns the deadlines.
    #[must_use]
    pub fn deadlines(&self) -> &Deadlines {
        &self.inner.deadlines
    }

    /// Asks the engine what it is.
    ///
    /// # Errors
    /// [`EngineError`] if there is no engine or its answer is not understood.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn info(&self) -> Result<EngineInfo, EngineError> {
        let action = "describe itself";
        let limit = self.deadlines().request;
        let answer = self.send(EngineRequest::get(action, "/info"), limit).await?;
        let header =
            |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let podman = answer.headers.contains_key("libpod-api-version")
            || header("server").is_some_and(|server| server.starts_with("Libpod/"));
        let api_version = header("api-version").unwrap_or_default();
        let raw: RawInfo = within(limit, action, answer.json()).await?;
        raw.describe(podman, &api_version)
    }

    /// Sends a request over the pool and reads the answer's head; any refusal is an error.
    pub(crate) async fn send(&self, request: EngineRequest, limit: Duration) -> Result<Answer, EngineError> {
        let action = request.action.clone();
        within(limit, &action, async { self.exchange(request).await?.accepted().await }).await
    }

    /// Sends a request over the pool without judging the status of the answer.
    async fn exchange(&self, request: EngineRequest) -> Result<Answer, EngineError> {
        let EngineRequest { action, method, path_and_query, headers, body } = request;
        let mut builder = Request::builder().method(method).uri(format!("http://docker{path_and_query}"));
        for (name, value) in headers {
            builder = builder.header(name, value);
        }
        let request = builder.body(body).map_err(|error| EngineError::answer(&action, error))?;
        let begun = Instant::now();
        let response = self
            .inner
            .client
            .request(request)
            .await
            .map_err(|error| EngineError::connection(&action, error))?;
        let (head, body) = response.into_parts();
        tracing::debug!(action, status = head.status.as_u16(), took = ?begun.elapsed(), "the engine answered");
        Ok(Answer { action, status: head.status, headers: head.headers, body })
    }

    /// Sends an ordinary request and reads the whole answer as JSON.
    pub(crate) async fn read<T: DeserializeOwned>(&self, request: EngineRequest) -> Result<T, EngineError> {
        let limit = self.deadlines().request;
        let action = request.action.clone();
        within(limit, &action, async { self.exchange(request).await?.accepted().await?.json().await }).await
    }

    /// As [`Engine::read`], with nothing for what does not exist.
    pub(crate) async fn read_if_there<T: DeserializeOwned>(
        &self,
        request: EngineRequest,
    ) -> Result<Option<T>, EngineError> {
        match self.read(request).await {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a request whose answer is only its status; a refusal is an error.
    pub(crate) async fn order(&self, request: EngineRequest, limit: Duration) -> Result<u16, EngineError> {
        let action = request.action.clone();
        within(limit, &action, async {
            let answer = self.exchange(request).await?.accepted().await?;
            let status = answer.status.as_u16();
            // Read to the end, so that the connection goes back to the pool.
            answer.bytes().await?;
            Ok(status)
        })
        .await
    }

    /// Sends a request over a connection of its own; any refusal is an error. The connection lives as long as the returned [`OwnConnection`].
    pub(crate) async fn send_apart(
        &self,
        request: EngineRequest,
        limit: Duration,
    ) -> Result<(Answer, OwnConnection), EngineError> {
        let action = request.action.clone();
        within(limit, &action, async {
            let (answer, connection) = self.exchange_apart(request).await?;
            Ok((answer.accepted().await?, connection))
        })
        .await
    }

    async fn exchange_apart(&self, request: EngineRequest) -> Result<(Answer, OwnConnection), EngineError> {
        let EngineRequest { action, method, path_and_query, headers, body } = request;
        let stream = dial(self.inner.dedicated.as_ref(), self.deadlines().connect)
            .await
            .map_err(|error| EngineError::connection(&action, error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| EngineError::connection(&action, error))?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // The request in progress sees how the connection ends; there is nobody else to tell.
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(error = &error as &dyn std::error::Error, "engine connection ended");
            }
        });
        let mut builder = Request::builder().method(method).uri(path_and_query).header("host", "docker");
        for (name, value) in headers {
            builder = builder.header(name, value);
        }
        let request = builder.body(body).map_err(|error| EngineError::answer(&action, error))?;
        let mut response =
            sender.send_request(request).await.map_err(|error| EngineError::connection(&action, error))?;
        let upgrade = hyper::upgrade::on(&mut response);
        let (head, body) = response.into_parts();
        let answer = Answer { action, status: head.status, headers: head.headers, body };
        Ok((answer, OwnConnection { _tasks: tasks, upgrade }))
    }
}

/// Keeps the task of a connection of its own; dropping it closes the connection.
pub(crate) struct OwnConnection {
    _tasks: JoinSet<()>,
    upgrade: hyper::upgrade::OnUpgrade,
}

impl OwnConnection {
    /// Takes the raw connection after an answer that switched protocols.
    pub(crate) async fn upgraded(self) -> Result<HijackedConnection, hyper::Error> {
        let Self { _tasks: tasks, upgrade } = self;
        Ok(HijackedConnection { stream: TokioIo::new(upgrade.await?), _tasks: tasks })
    }
}

/// The raw connection behind an answer that switched protocols; dropping it closes it.
pub(crate) struct HijackedConnection {
    pub(crate) stream: TokioIo<hyper::upgrade::Upgraded>,
    _tasks: JoinSet<()>,
}

impl tokio::io::AsyncRead for HijackedConnection {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl tokio::io::AsyncWrite for HijackedConnection {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Gives the future of one action a deadline.
pub(crate) async fn within<T>(
    limit: Duration,
    action: &str,
    future: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    match tokio::time::timeout(limit, future).await {
        Ok(result) => result,
        Err(_) => Err(EngineError::Timeout { action: action.to_owned(), limit }),
    }
}

/// A JSON filter argument: each name with its values.
pub(crate) fn filters(entries: &[(&str, Vec<String>)]) -> String {
    let map: BTreeMap<&str, &Vec<String>> = entries
        .iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(name, values)| (*name, values))
        .collect();
    serde_json::to_string(&map).unwrap_or_default()
}

/// What an engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// The engine's own identifier.
    pub id: String,
    /// The engine's version, such as `20.10.24`.
    pub version: String,
    /// The newest version of the API that it speaks.
    pub api_version: ApiVersion,
    /// The processor architecture as the engine names it (`x86_64`).
    pub architecture_name: String,
    /// The architecture, if it is one that Freehold knows.
    pub architecture: Option<Architecture>,
    /// How it stores images.
    pub image_store: ImageStore,
    /// Whether it is Podman in Docker's place.
    pub podman: bool,
    /// Whether it builds with BuildKit.
    pub buildkit: bool,
    /// The folder on its host that holds images and containers.
    pub data_root: PathBuf,
    /// Whether it runs without root's rights.
    pub rootless: bool,
    /// Whether the users of containers are other users on the host (`userns-remap`).
    pub remaps_users: bool,
    /// The log driver of containers that ask for none.
    pub log_driver: String,
}

/// How an engine stores images, which decides how images reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageStore {
    /// Layers unpacked by a graph driver (overlay2 and others); also Podman's.
    GraphDriver,
    /// containerd's content store and snapshotters.
    Containerd,
}

/// A version of the Engine API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// The first number.
    pub major: u16,
    /// The second number.
    pub minor: u16,
}

impl ApiVersion {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawInfo {
    #[serde(rename = "ID", default)]
    id: String,
    server_version: String,
    #[serde(default)]
    architecture: String,
    #[serde(default, rename = "OSType")]
    os_type: String,
    driver_status: Option<Vec<Vec<String>>>,
    #[serde(default)]
    docker_root_dir: PathBuf,
    security_options: Option<Vec<String>>,
    #[serde(default)]
    logging_driver: String,
}

impl RawInfo {
    fn describe(self, podman: bool, api_version: &str) -> Result<EngineInfo, EngineError> {
        let api_version = ApiVersion::parse(api_version)
            .ok_or_else(|| EngineError::answer("describe itself", "it names no API version"))?;
        let containerd = self.driver_status.iter().flatten().any(|pair| {
            matches!(pair.as_slice(), [name, value, ..]
                if name == "driver-type" && value.starts_with("io.containerd.snapshotter"))
        });
        let has_security = |name: &str| {
            let options = self.security_options.iter().flatten();
            options.flat_map(|option| option.split(',')).any(|part| part.trim_start_matches("name=") == name)
        };
        Ok(EngineInfo {
            remaps_users: has_security("userns"),
            rootless: has_security("rootless"),
            id: self.id,
            version: self.server_version,
            api_version,
            architecture: Architecture::from_name(&self.architecture),
            architecture_name: self.architecture,
            image_store: if containerd { ImageStore::Containerd } else { ImageStore::GraphDriver },
            podman,
            // Podman takes the parameter and builds with Buildah all the same.
            buildkit: !podman
                && api_version >= ApiVersion { major: 1, minor: 39 }
                && matches!(self.os_type.as_str(), "" | "linux"),
            data_root: self.docker_root_dir,
            log_driver: self.logging_driver,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(json: &str, podman: bool, api: &str) -> EngineInfo {
        serde_json::from_str::<RawInfo>(json).unwrap().describe(podman, api).unwrap()
    }

    #[test]
    fn the_image_store_is_known_by_the_driver_type() {
        let graph = r#"{"ServerVersion":"20.10.24","Architecture":"x86_64","OSType":"linux",
            "DriverStatus":[["Backing Filesystem","extfs"]],"SecurityOptions":["name=seccomp,profile=default"]}"#;
        let info = described(graph, false, "1.41");
        assert_eq!(info.image_store, ImageStore::GraphDriver);
        assert_eq!(info.architecture, Some(Architecture::Amd64));
        assert!(info.buildkit && !info.rootless && !info.remaps_users);

        let containerd = r#"{"ServerVersion":"29.0.0","Architecture":"aarch64","OSType":"linux",
            "DriverStatus":[["driver-type","io.containerd.snapshotter.v1"]],
            "SecurityOptions":["name=seccomp","name=rootless"]}"#;
        let info = described(containerd, false, "1.52");
        assert_eq!(info.image_store, ImageStore::Containerd);
        assert!(info.rootless);
    }

    #[test]
    fn podman_never_counts_as_buildkit() {
        let info = described(
            r#"{"ServerVersion":"4.3.1","DriverStatus":null,"SecurityOptions":null}"#,
            true,
            "1.41",
        );
        assert!(!info.buildkit);
    }
}

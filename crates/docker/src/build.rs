use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use bytes::Bytes;
use freehold_model::{Architecture, Diagnose, ErrorKind, ImageReference, SecretName};
use futures_util::StreamExt;
use prost::Message;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;

use crate::request::{EngineRequest, JsonLines};
use crate::{Engine, EngineError, EngineMessage};

pub use context::ContextError;
pub use ignore::IgnorePatternError;
pub use key::{ContentKey, KeyError, KeyFacts};
pub use trace::FailedStep;

use context::Context;
use file_sync::FileSource;
use session::{Served, Session};
use trace::Steps;

mod agent;
mod context;
mod dockerfile;
mod file_sync;
mod ignore;
mod key;
mod session;
mod trace;

/// What to build and how.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The folder whose files the build may use, without those that its `.dockerignore` names.
    pub context: PathBuf,
    /// The Dockerfile: relative to the context, or absolute and then anywhere.
    pub dockerfile: PathBuf,
    /// The stage to build, or none for the last.
    pub target: Option<String>,
    /// Build arguments. They stay visible in the image's history.
    pub args: BTreeMap<String, String>,
    /// Secrets that `RUN --mount=type=secret` may read; they reach neither layers nor history. BuildKit only.
    pub secrets: BTreeMap<SecretName, SecretString>,
    /// Sockets of SSH agents that `RUN --mount=type=ssh` may use, by their names there (`default`). BuildKit only.
    pub ssh_agents: BTreeMap<String, PathBuf>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Names that the image gets when the build has succeeded.
    pub tags: Vec<ImageReference>,
    /// The processor to build for, or none for the engine's own.
    pub architecture: Option<Architecture>,
    /// Whether results of earlier builds count.
    pub cache: BuildCache,
    /// Which builder does it.
    pub builder: BuilderChoice,
}

impl BuildRequest {
    /// Makes a request for the `Dockerfile` of a folder with nothing else set.
    #[must_use]
    pub fn new(context: impl Into<PathBuf>) -> Self {
        Self {
            context: context.into(),
            dockerfile: PathBuf::from("Dockerfile"),
            target: None,
            args: BTreeMap::new(),
            secrets: BTreeMap::new(),
            ssh_agents: BTreeMap::new(),
            labels: BTreeMap::new(),
            tags: Vec::new(),
            architecture: None,
            cache: BuildCache::Use,
            builder: BuilderChoice::Best,
        }
    }
}

/// Whether results of earlier builds count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BuildCache {
    /// They do.
    #[default]
    Use,
    /// Everything is built anew.
    Ignore,
}

/// Which builder of the engine does the work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BuilderChoice {
    /// BuildKit where the engine has it, the classic builder otherwise.
    #[default]
    Best,
    /// The classic builder, as with `DOCKER_BUILDKIT=0`.
    Classic,
}

/// The number of a step within its build, in the order of appearance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepId(pub usize);

/// What happens during a build. Texts come from the Dockerfile and its commands: escape them for a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildEvent {
    /// That many bytes of the context have been sent in all.
    ContextSent {
        /// Bytes since the beginning.
        bytes: u64,
    },
    /// A step began.
    StepStarted {
        /// Which.
        step: StepId,
        /// Its name, such as `[2/3] RUN make`.
        name: String,
    },
    /// Something within a step moved on, such as a layer of a base image.
    StepProgress {
        /// Which step.
        step: StepId,
        /// What moved.
        item: String,
        /// Where it is, mostly in bytes.
        current: u64,
        /// Where it will end, if that is known.
        total: Option<u64>,
    },
    /// A step wrote a line.
    StepOutput {
        /// Which.
        step: StepId,
        /// The line.
        line: String,
    },
    /// A step ended.
    StepFinished {
        /// Which.
        step: StepId,
        /// How.
        outcome: StepOutcome,
    },
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepOutcome {
    /// Done, in that time if it is known.
    Done(Option<Duration>),
    /// Taken from an earlier build.
    Cached,
    /// Failed, for that reason.
    Failed(String),
}

/// An image that a build has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// The engine's identifier of it.
    pub id: String,
}

/// A build that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The context cannot be read.
    #[error("there is nothing to build from")]
    Context(#[source] ContextError),
    /// The classic builder knows no secrets.
    #[error("the build uses secrets, which needs BuildKit, and this engine has none")]
    SecretsNeedBuildKit,
    /// The classic builder knows no SSH agents.
    #[error("the build uses an SSH agent, which needs BuildKit, and this engine has none")]
    AgentsNeedBuildKit,
    /// A step failed.
    #[error("the build failed at `{}`", step.name)]
    Step {
        /// The step with its output.
        step: FailedStep,
        /// The builder's reason.
        source: EngineMessage,
    },
    /// The build failed outside any step, for instance while reading the Dockerfile.
    #[error("the build failed")]
    Failed {
        /// The builder's reason.
        source: EngineMessage,
    },
    /// The engine could not be asked, or did not finish in time.
    #[error("the build could not be carried out")]
    Engine(#[source] EngineError),
}

impl From<EngineError> for BuildError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl Diagnose for BuildError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Context(_) | Self::SecretsNeedBuildKit | Self::AgentsNeedBuildKit => {
                ErrorKind::Configuration
            }
            Self::Step { .. } | Self::Failed { .. } => ErrorKind::Failed,
            Self::Engine(error) => error.kind(),
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Context(ContextError::Dockerfile { .. }) => {
                vec!["write a Dockerfile, or name yours under `builder: dockerfile:`".to_owned()]
            }
            Self::SecretsNeedBuildKit | Self::AgentsNeedBuildKit => {
                vec!["build on Docker Engine 20.10 or newer".to_owned()]
            }
            Self::Engine(error) => error.help(),
            _ => Vec::new(),
        }
    }
}

#[derive(Deserialize)]
struct BuildLine {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    stream: Option<String>,
    #[serde(default)]
    aux: Option<Value>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Builder {
    BuildKit,
    Classic,
}

impl Engine {
    /// Builds an image with BuildKit, or with the classic builder where the engine has no BuildKit.
    ///
    /// # Errors
    /// [`BuildError`]; the names in `tags` are then as they were.
    ///
    /// # Cancel safety
    /// The engine stops building when the future is dropped.
    pub async fn build(
        &self,
        request: BuildRequest,
        progress: &mut (dyn FnMut(BuildEvent) + Send),
    ) -> Result<BuiltImage, BuildError> {
        let builder = match request.builder {
            BuilderChoice::Best if self.info().await?.buildkit => Builder::BuildKit,
            BuilderChoice::Best | BuilderChoice::Classic => Builder::Classic,
        };
        let limit = self.deadlines().build;
        match tokio::time::timeout(limit, self.build_by(builder, request, progress)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(EngineError::Timeout { action: "build the image".to_owned(), limit }.into()),
        }
    }

    async fn build_by(
        &self,
        builder: Builder,
        request: BuildRequest,
        progress: &mut (dyn FnMut(BuildEvent) + Send),
    ) -> Result<BuiltImage, BuildError> {
        if builder == Builder::Classic && !request.secrets.is_empty() {
            return Err(BuildError::SecretsNeedBuildKit);
        }
        if builder == Builder::Classic && !request.ssh_agents.is_empty() {
            return Err(BuildError::AgentsNeedBuildKit);
        }
        let (folder, dockerfile) = (request.context.clone(), request.dockerfile.clone());
        let opened = tokio::task::spawn_blocking(move || Context::open(&folder, &dockerfile)).await;
        let context = opened
            .map_err(|stopped| EngineError::connection("read the build context", stopped))?
            .map_err(BuildError::Context)?;
        let (sent, mut context_sent) = watch::channel(0u64);
        let mut query = build_query(&request);
        let session = match builder {
            Builder::BuildKit => {
                let name = context.dockerfile_path.file_name().unwrap_or_default();
                query = query.query("dockerfile", name.to_string_lossy());
                let files = FileSource::new(context, sent);
                let served =
                    Served { secrets: request.secrets.clone(), agents: request.ssh_agents.clone(), files };
                let session = Session::open(self, unique_id(), served).await?;
                query = query
                    .query("version", "2")
                    .query("remote", "client-session")
                    .query("session", &session.id)
                    .query("buildid", unique_id());
                Some(session)
            }
            Builder::Classic => {
                let dockerfile = context.dockerfile.clone();
                query = query.query("dockerfile", dockerfile).tar(context.archive().inspect(move |piece| {
                    let size = piece.as_ref().map_or(0, Bytes::len);
                    sent.send_modify(|bytes| *bytes += u64::try_from(size).unwrap_or_default());
                }));
                None
            }
        };
        let limit = self.deadlines().build;
        let sending = self.send_apart(query, limit);
        tokio::pin!(sending);
        let (answer, _connection) = loop {
            tokio::select! {
                biased;
                Ok(()) = context_sent.changed() => {
                    let bytes = *context_sent.borrow_and_update();
                    progress(BuildEvent::ContextSent { bytes });
                }
                answer = &mut sending => break answer?,
            }
        };
        let mut lines = JsonLines::new(answer.chunks(limit));
        let mut outcome = Outcome::default();
        loop {
            tokio::select! {
                biased;
                Ok(()) = context_sent.changed() => {
                    let bytes = *context_sent.borrow_and_update();
                    progress(BuildEvent::ContextSent { bytes });
                }
                line = lines.next::<BuildLine>() => match line {
                    Some(line) => outcome.take(line?, progress)?,
                    None => break,
                },
            }
        }
        drop(session);
        outcome.end(builder, progress)
    }
}

fn unique_id() -> String {
    let mut bytes = [0; 16];
    // Without randomness the time still makes it unique among the builds of one engine.
    if getrandom::fill(&mut bytes).is_err() {
        bytes = jiff::Timestamp::now().as_nanosecond().to_be_bytes();
    }
    crate::scratch_image::hex(&bytes)
}

fn build_query(request: &BuildRequest) -> EngineRequest {
    let json = |map: &BTreeMap<String, String>| serde_json::to_string(map).unwrap_or_default();
    let mut query = EngineRequest::post("build the image", "/build")
        .query("rm", "1")
        .query("forcerm", "1")
        .query("buildargs", json(&request.args))
        .query("labels", json(&request.labels));
    for tag in &request.tags {
        query = query.query("t", tag.to_string());
    }
    if let Some(target) = &request.target {
        query = query.query("target", target);
    }
    if let Some(architecture) = request.architecture {
        query = query.query("platform", format!("linux/{architecture}"));
    }
    if request.cache == BuildCache::Ignore {
        query = query.query("nocache", "1");
    }
    query
}

#[derive(Default)]
struct Outcome {
    steps: Steps,
    image: Option<String>,
    error: Option<String>,
}

impl Outcome {
    fn take(
        &mut self,
        line: BuildLine,
        progress: &mut (dyn FnMut(BuildEvent) + Send),
    ) -> Result<(), EngineError> {
        let mut events = Vec::new();
        if let Some(text) = &line.stream {
            events = self.steps.classic(text);
        }
        if let Some(error) = line.error {
            self.error = Some(error);
        }
        match (line.id.as_deref(), line.aux) {
            (Some("moby.buildkit.trace"), Some(Value::String(trace))) => {
                let bytes = base64::engine::general_purpose::STANDARD
                    .decode(trace)
                    .map_err(|error| EngineError::answer("build the image", error))?;
                let status = StatusResponse::decode(bytes.as_slice())
                    .map_err(|error| EngineError::answer("build the image", error))?;
                events = self.steps.buildkit(&status);
            }
            (_, Some(Value::Object(aux))) => {
                if let Some(Value::String(id)) = aux.get("ID") {
                    self.image = Some(id.clone());
                }
            }
            _ => {}
        }
        events.into_iter().for_each(progress);
        Ok(())
    }

    fn end(
        mut self,
        builder: Builder,
        progress: &mut (dyn FnMut(BuildEvent) + Send),
    ) -> Result<BuiltImage, BuildError> {
        if builder == Builder::Classic {
            self.steps.classic_end(self.error.as_deref()).into_iter().for_each(progress);
        }
        match (self.error, self.image) {
            (Some(error), _) => {
                let source = EngineMessage(error);
                Err(match self.steps.failed() {
                    Some(step) => BuildError::Step { step, source },
                    None => BuildError::Failed { source },
                })
            }
            (None, Some(id)) => Ok(BuiltImage { id }),
            (None, None) => {
                Err(EngineError::answer("build the image", "it ends without naming the image").into())
            }
        }
    }
}

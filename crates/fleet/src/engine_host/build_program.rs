use std::collections::VecDeque;
use std::io;
use std::process::Stdio;

use freehold_docker::BuildCache;
use freehold_model::{Buildpacks, Diagnose, ErrorKind, Evidence, ImageReference};
use freehold_plan::{Buildx, BuildxCommand, PackCommand};
use secrecy::ExposeSecret;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::engine_host::program_output::{self, Bounds, Ended, OutputError};
use crate::engine_host::workshop::{BuildContext, BuildDestination, Workshop};
use crate::event::Progress;
use crate::host::{Outcome, StepError, Work};

/// How many of the last lines of a program that failed are shown.
const LAST_LINES: usize = 20;

/// Why a program that builds did not.
#[derive(Debug, thiserror::Error)]
enum ProgramError {
    #[error("cannot start `{program}`")]
    Start {
        program: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("`{line}` ended with {status}")]
    Failed { line: String, status: String, last: Vec<String> },
    #[error("lost the output of `{program}`")]
    Output {
        program: &'static str,
        #[source]
        source: io::Error,
    },
}

impl Diagnose for ProgramError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ErrorKind::Configuration
            }
            _ => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Start { program: "pack", .. } => {
                vec!["install pack: https://buildpacks.io/docs/for-platform-operators/how-to/integrate-ci/pack/".to_owned()]
            }
            Self::Start { .. } => vec![
                "what `builder:` asks for needs the `docker` command line with its plugin `buildx` on this machine"
                    .to_owned(),
                "without `cache`, `provenance`, `sbom`, other drivers and several `arch` the engine builds by itself"
                    .to_owned(),
            ],
            Self::Failed { .. } | Self::Output { .. } => Vec::new(),
        }
    }

    fn evidence(&self) -> Vec<Evidence> {
        match self {
            Self::Failed { last, .. } if !last.is_empty() => {
                vec![Evidence { title: "last lines of its output".to_owned(), lines: last.clone() }]
            }
            _ => Vec::new(),
        }
    }
}

/// One call of a program.
pub(super) struct Call<'a> {
    program: &'static str,
    words: Vec<String>,
    /// What it reads from its standard input.
    input: &'a [u8],
    /// Variables beside the environment; they may be secrets.
    pub(super) variables: Vec<(String, String)>,
    /// Where it runs, if not where this process does.
    pub(super) directory: Option<std::path::PathBuf>,
}

impl<'a> Call<'a> {
    pub(super) fn new(program: &'static str, words: Vec<String>) -> Self {
        Self { program, words, input: &[], variables: Vec::new(), directory: None }
    }

    /// The beginning of the line, which holds no values.
    fn title(&self) -> String {
        let words: Vec<&str> = self.words.iter().take(2).map(String::as_str).collect();
        format!("{} {}", self.program, words.join(" "))
    }

    fn failed(&self, error: ProgramError) -> StepError {
        StepError::image(format!("run `{}`", self.title()), error)
    }
}

impl Workshop {
    pub(super) async fn build_by_buildx(
        &self,
        source: &BuildContext,
        buildx: &Buildx,
        image: &ImageReference,
        work: &Work<'_>,
    ) -> Result<Outcome, StepError> {
        self.ensure_buildx(buildx, work).await?;
        let (output, tags) = match &source.destination {
            BuildDestination::Engine => ("docker", vec![image.clone()]),
            BuildDestination::Registry { latest } => {
                self.log_in_by_program(image, work).await?;
                let latest = ImageReference { repository: image.repository.clone(), tag: latest.clone() };
                ("registry", vec![image.clone(), latest])
            }
        };
        let context = source.directory.display().to_string();
        let command = BuildxCommand {
            buildx,
            builder: &source.builder,
            tags: &tags,
            labels: &source.labels,
            output,
            is_uncached: source.cache == BuildCache::Ignore,
            context: &context,
            environment: &self.environment,
        };
        let mut call = Call::new("docker", command.words());
        call.variables = secrets(source, work)?;
        if buildx.is_remote() {
            call.variables.push(("BUILDKIT_NO_CLIENT_TOKEN".to_owned(), "1".to_owned()));
        }
        self.call(&call, work).await?;
        Ok(Outcome::Done(Some("by docker buildx".to_owned())))
    }

    pub(super) async fn build_by_pack(
        &self,
        source: &BuildContext,
        pack: &Buildpacks,
        image: &ImageReference,
        work: &Work<'_>,
    ) -> Result<Outcome, StepError> {
        let context = source.directory.display().to_string();
        let command = PackCommand {
            pack,
            builder: &source.builder,
            tags: std::slice::from_ref(image),
            service: source.labels.get("service").map_or("", String::as_str),
            is_uncached: source.cache == BuildCache::Ignore,
            context: &context,
        };
        let mut call = Call::new("pack", command.words());
        call.variables = secrets(source, work)?;
        call.variables.extend(source.builder.args.clone());
        self.call(&call, work).await?;
        Ok(Outcome::Done(Some("by pack".to_owned())))
    }

    /// Makes sure that a builder of buildx is there.
    ///
    /// # Errors
    /// [`StepError`] with what `docker` says.
    ///
    /// # Cancel safety
    /// A builder that is half made is replaced the next time.
    pub async fn ensure_buildx(&self, buildx: &Buildx, work: &Work<'_>) -> Result<Outcome, StepError> {
        let Some(inspect) = buildx.inspect() else { return Ok(Outcome::AlreadyDone) };
        if self.call_quietly(&Call::new("docker", inspect), work).await? {
            return Ok(Outcome::AlreadyDone);
        }
        for words in buildx.remove() {
            // What a call that was cut off left; mostly nothing is there.
            self.call_quietly(&Call::new("docker", words), work).await?;
        }
        for words in buildx.create() {
            self.call(&Call::new("docker", words), work).await?;
        }
        Ok(Outcome::Done(None))
    }

    /// Removes a builder of buildx. None that is there is no failure.
    ///
    /// # Errors
    /// [`StepError`] when `docker` cannot be started.
    ///
    /// # Cancel safety
    /// It may be removed again.
    pub async fn remove_buildx(&self, buildx: &Buildx, work: &Work<'_>) -> Result<Outcome, StepError> {
        let mut outcome = Outcome::AlreadyDone;
        for words in buildx.remove() {
            if self.call_quietly(&Call::new("docker", words), work).await? {
                outcome = Outcome::Done(None);
            }
        }
        Ok(outcome)
    }

    /// Runs a command line of `docker` and passes on what it writes.
    ///
    /// # Errors
    /// [`StepError`] with the end of its output.
    ///
    /// # Cancel safety
    /// The program is ended.
    pub async fn run_docker(&self, words: Vec<String>, work: &Work<'_>) -> Result<(), StepError> {
        self.call(&Call::new("docker", words), work).await
    }

    /// Lets `docker` know name and password of the registry of an image: buildx pushes with what it knows.
    async fn log_in_by_program(&self, image: &ImageReference, work: &Work<'_>) -> Result<(), StepError> {
        let Some(credentials) = self.credentials(&image.repository) else { return Ok(()) };
        let mut words = vec!["login".to_owned()];
        words.extend(credentials.server.clone());
        words.extend(["--username".to_owned(), credentials.username.clone(), "--password-stdin".to_owned()]);
        let mut call = Call::new("docker", words);
        call.input = credentials.password.expose_secret().as_bytes();
        self.call(&call, work).await
    }

    /// Says whether a program ended well; what it writes is of no interest.
    async fn call_quietly(&self, call: &Call<'_>, work: &Work<'_>) -> Result<bool, StepError> {
        let silent = Work { progress: &|_| (), ..*work };
        let (status, _) = self.run(call, &silent).await?;
        Ok(status.success())
    }

    async fn call(&self, call: &Call<'_>, work: &Work<'_>) -> Result<(), StepError> {
        let (status, last) = self.run(call, work).await?;
        if status.success() {
            return Ok(());
        }
        let status = status.to_string();
        Err(call.failed(ProgramError::Failed { line: call.title(), status, last }))
    }

    /// Runs a program whose standard output is its result; what else it writes is passed on.
    pub(super) async fn output_of(
        &self,
        call: &Call<'_>,
        bounds: Bounds,
        work: &Work<'_>,
    ) -> Result<Ended, OutputError> {
        let show = |line| (work.progress)(Progress::Build { line });
        program_output::run(self.command(call), bounds, &show, work.stop).await
    }

    fn command(&self, call: &Call<'_>) -> Command {
        let mut command = Command::new(call.program);
        command
            .args(&call.words)
            .env_clear()
            .envs(&self.environment)
            .envs(call.variables.iter().cloned())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(directory) = &call.directory {
            command.current_dir(directory);
        }
        command
    }

    async fn run(
        &self,
        call: &Call<'_>,
        work: &Work<'_>,
    ) -> Result<(std::process::ExitStatus, Vec<String>), StepError> {
        let program = call.program;
        let mut child = self
            .command(call)
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|source| call.failed(ProgramError::Start { program, source }))?;
        let broken = |source| call.failed(ProgramError::Output { program, source });
        let (sender, mut lines) = mpsc::channel(64);
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(broken(io::Error::other("it has no pipes")));
        };
        let feed = async {
            // One that reads nothing has closed it already.
            let written = stdin.write_all(call.input).await;
            tracing::debug!(?written, program, "input given");
            drop(stdin);
        };
        let out = read_lines(stdout, sender.clone());
        let err = read_lines(stderr, sender);
        let mut last = VecDeque::new();
        let show = async {
            while let Some(line) = lines.recv().await {
                if last.len() == LAST_LINES {
                    last.pop_front();
                }
                last.push_back(line);
                if let Some(line) = last.back() {
                    (work.progress)(Progress::Build { line: String::clone(line) });
                }
            }
        };
        let all = async {
            let ((), out, err, ()) = tokio::join!(feed, out, err, show);
            out.and(err)?;
            child.wait().await
        };
        let ended = tokio::select! {
            ended = all => ended,
            () = work.stop.cancelled() => return Err(StepError::Stopped),
        };
        Ok((ended.map_err(broken)?, last.into_iter().collect()))
    }
}

async fn read_lines(pipe: impl AsyncRead + Unpin, sender: mpsc::Sender<String>) -> io::Result<()> {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while pipe.read_until(b'\n', &mut line).await? > 0 {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        if sender.send(text).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Returns the build's secrets as variables, under their own names.
fn secrets(source: &BuildContext, work: &Work<'_>) -> Result<Vec<(String, String)>, StepError> {
    let value = |name: &freehold_model::SecretName| {
        let value = work.secrets.value(name).ok_or_else(|| StepError::Secret { name: name.to_string() })?;
        Ok((name.to_string(), value.expose_secret().to_owned()))
    };
    source.builder.secrets.iter().map(value).collect()
}

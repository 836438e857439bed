use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use freehold_docker::{
    DiffId, PieceOnWay, PieceWriter, Room, Staging, StagingError, TELLING_BYTES, load_failure,
};
use freehold_model::{ImageReference, Repository};
use freehold_ssh::{ExecError, ExitStatus, RemoteCommand, RemoteProcess, Session};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use crate::engine_host::connection::Connection;
use crate::engine_host::link::{Link, open_shell};
use crate::engine_host::scripts::SCRIPT_DEADLINE;
use crate::engine_host::staging_scripts::{self, Loader};

/// Where pieces of images wait, relative to the login directory.
pub(super) const TRANSFERS: &str = ".kamal/freehold/transfer";

/// For one piece, and for the digests of all.
pub(super) const PIECE_DEADLINE: Duration = Duration::from_secs(300);

/// For the engine to unpack an image.
const LOAD_DEADLINE: Duration = Duration::from_secs(1800);

/// How many pieces may be on the way at once: with two the link never waits for an answer.
const ON_THE_WAY: usize = 2;

/// What the engine says of a load fits.
const OUTPUT_LIMIT_BYTES: usize = 64 * 1024;

/// Returns the folder for pieces of an image: one for each name of a service's destination, so that at most one version
/// of it waits there, and destinations that share a name and a host do not take each other's pieces away.
pub(super) fn pieces_folder(stem: &str, name: &Repository) -> String {
    let digest = Sha256::digest(format!("{stem}\n{name}"));
    let short: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{TRANSFERS}/{short}")
}

/// Pieces of an image in a folder of a host.
pub(super) struct HostStaging {
    link: Arc<Link>,
    directory: String,
    loader: Mutex<Option<Loader>>,
}

impl HostStaging {
    pub(super) fn new(link: Arc<Link>, stem: &str, image: &ImageReference) -> Self {
        Self { link, directory: pieces_folder(stem, &image.repository), loader: Mutex::new(None) }
    }

    fn session(&self, action: &str) -> Result<&Session, StagingError> {
        match &self.link.connection {
            Connection::Ssh(session) => Ok(session),
            Connection::Local { .. } => Err(StagingError::Refused {
                action: action.to_owned(),
                message: "it is this machine".to_owned(),
            }),
        }
    }

    /// Runs a short script in the link's own shell.
    async fn script(&self, action: &str, script: &str) -> Result<String, StagingError> {
        let output = self.link.shell.run(script, SCRIPT_DEADLINE).await.map_err(|error| {
            self.link.give_up();
            StagingError::lost(action, error)
        })?;
        match output.code {
            0 => Ok(output.stdout),
            code => Err(refused(action, &output.stderr, code)),
        }
    }
}

pub(super) fn refused(action: &str, stderr: &str, code: i32) -> StagingError {
    let message = stderr.lines().rev().find(|line| !line.trim().is_empty());
    let message =
        message.map_or_else(|| format!("the script ended with code {code}"), |line| line.trim().to_owned());
    StagingError::Refused { action: action.to_owned(), message }
}

/// Says what an exec that did not work means: what is not the connection's fault is not tried again.
pub(super) fn exec_error(action: &str, error: ExecError) -> StagingError {
    match error {
        ExecError::TimedOut { after, .. } => {
            StagingError::Timeout { action: action.to_owned(), limit: after }
        }
        ExecError::Refused { .. } | ExecError::Invalid(_) | ExecError::NotRead { .. } => {
            StagingError::Refused { action: action.to_owned(), message: error.to_string() }
        }
        error => StagingError::lost(action, error),
    }
}

#[async_trait]
impl Staging for HostStaging {
    async fn room(&self, data_root: &Path) -> Result<Room, StagingError> {
        let action = "tell its free space";
        let socket = self.link.socket().to_string_lossy();
        let script = staging_scripts::room(&self.directory, &data_root.to_string_lossy(), &socket);
        let told = self.script(action, &script).await?;
        let value = |name: &str| told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let disk = |name: &str| {
            let (free, mount) = value(name)?.split_once(' ')?;
            Some((free.parse::<u64>().ok()?.saturating_mul(1024), mount.to_owned()))
        };
        let loader = match value("loader") {
            Some("docker") => Some(Loader::Docker),
            Some("sudo") => Some(Loader::SudoDocker),
            Some("curl") => Some(Loader::Curl),
            _ => None,
        };
        if let Some(tool) = value("lacks") {
            tracing::debug!(tool, "a host lacks a tool, so no piece of an image can wait there");
        }
        *self.loader.lock() = loader;
        let (engine, staging) = (disk("engine"), disk("staging"));
        let is_one_disk = match (&engine, &staging) {
            (Some((_, left)), Some((_, right))) => left == right,
            _ => false,
        };
        let is_remote = matches!(self.link.connection, Connection::Ssh(_));
        let can_wait = is_remote && loader.is_some() && value("lacks").is_none();
        Ok(Room {
            engine_free_bytes: engine.map(|(free, _)| free),
            staging_free_bytes: staging.map(|(free, _)| free).filter(|_| can_wait),
            is_one_disk,
            left_bytes: value("left").and_then(|left| left.parse::<u64>().ok()).unwrap_or(0) * 1024,
        })
    }

    async fn found(&self, layers: &[DiffId]) -> Result<BTreeMap<String, String>, StagingError> {
        let action = "look for pieces of an earlier try";
        let names: Vec<&str> =
            layers.iter().filter_map(|layer| layer.as_str().strip_prefix("sha256:")).collect();
        let script = staging_scripts::found(&self.directory, &names);
        // In a shell of its own: that of the link stays free for the lease's sign of life.
        let shell =
            open_shell(&self.link.connection).await.map_err(|error| StagingError::lost(action, error))?;
        let output =
            shell.run(&script, LOAD_DEADLINE).await.map_err(|error| StagingError::lost(action, error))?;
        if output.code != 0 {
            return Err(refused(action, &output.stderr, output.code));
        }
        let pieces = output.stdout.lines().filter_map(|line| {
            let (digest, name) = line.split_once(' ')?;
            Some((name.trim_start().to_owned(), digest.to_owned()))
        });
        Ok(pieces.collect())
    }

    async fn open(&self) -> Result<Box<dyn PieceWriter>, StagingError> {
        let action = "keep pieces of an image";
        let command = RemoteCommand::script(staging_scripts::take(&self.directory));
        let process =
            self.session(action)?.exec(&command, None).await.map_err(|error| exec_error(action, error))?;
        Ok(Box::new(ScriptWriter::new(process, self.directory.clone())))
    }

    async fn load(&self, order: &[String]) -> Result<(), StagingError> {
        let action = "load the image";
        let loader = (*self.loader.lock()).unwrap_or(Loader::Docker);
        let socket = self.link.socket().to_string_lossy().into_owned();
        let command = RemoteCommand::script(staging_scripts::load(&self.directory, &socket, loader));
        let names = order.join("\n") + "\nend\n";
        let session = self.session(action)?;
        let output = session
            .run(&command, names.as_bytes(), LOAD_DEADLINE, OUTPUT_LIMIT_BYTES)
            .await
            .map_err(|error| exec_error(action, error))?;
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        match output.status {
            ExitStatus::Code(0) => {}
            ExitStatus::Code(code) => {
                return Err(refused(action, &stderr, i32::try_from(code).unwrap_or(-1)));
            }
            ExitStatus::Signal(name) => {
                return Err(StagingError::Refused { action: action.to_owned(), message: name });
            }
        }
        match load_failure(&stdout) {
            Some(words) if loader == Loader::Curl => {
                Err(StagingError::Refused { action: action.to_owned(), message: words.to_string() })
            }
            _ => Ok(()),
        }
    }

    async fn clear(&self) -> Result<(), StagingError> {
        self.script("remove pieces of an image", &staging_scripts::clear(&self.directory)).await.map(drop)
    }
}

/// Hands pieces to a script on a host, which confirms each.
struct ScriptWriter {
    stdin: Box<dyn AsyncWrite + Send + Sync + Unpin>,
    directory: String,
    process: Ending,
    confirmations: tokio::io::Lines<BufReader<freehold_ssh::ChannelReader>>,
    /// Bytes and begin of the pieces that are on the way.
    on_the_way: std::collections::VecDeque<(u64, Instant)>,
    confirmed: usize,
    last: Option<Instant>,
    rate: Option<u64>,
}

/// How the script ended.
struct Ending {
    control: freehold_ssh::ProcessControl,
    stderr: freehold_ssh::ChannelReader,
}

const ACTION: &str = "keep a piece of an image";

impl ScriptWriter {
    fn new(process: RemoteProcess, directory: String) -> Self {
        let RemoteProcess { stdin, stdout, stderr, control } = process;
        Self {
            stdin: Box::new(stdin),
            directory,
            process: Ending { control, stderr },
            confirmations: BufReader::new(stdout).lines(),
            on_the_way: std::collections::VecDeque::new(),
            confirmed: 0,
            last: None,
            rate: None,
        }
    }

    /// Waits until the oldest piece that is on the way is there.
    async fn confirm(&mut self) -> Result<(), StagingError> {
        let Some((bytes, began)) = self.on_the_way.front().copied() else { return Ok(()) };
        match tokio::time::timeout(PIECE_DEADLINE, self.confirmations.next_line()).await {
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None)) => return Err(self.ended(None).await),
            Ok(Err(error)) => return Err(self.ended(Some(error)).await),
            Err(_) => {
                return Err(StagingError::Timeout { action: ACTION.to_owned(), limit: PIECE_DEADLINE });
            }
        }
        self.on_the_way.pop_front();
        self.confirmed += 1;
        let now = Instant::now();
        // The link was busy with it since the one before was there, or since it was begun.
        let busy = now - self.last.map_or(began, |last| last.max(began));
        self.last = Some(now);
        if bytes >= TELLING_BYTES as u64 {
            let rate = u128::from(bytes) * 1_000_000 / busy.as_micros().max(1);
            self.rate = Some(u64::try_from(rate).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    /// Says why the script takes no more: its own words, or the connection's end.
    async fn ended(&mut self, error: Option<std::io::Error>) -> StagingError {
        let Ending { control, stderr } = &mut self.process;
        let mut words = Vec::new();
        let end = async {
            let status = control.wait().await;
            let mut limited = stderr.take(OUTPUT_LIMIT_BYTES as u64);
            let read = limited.read_to_end(&mut words).await;
            (status, read)
        };
        match tokio::time::timeout(Duration::from_secs(10), end).await {
            Ok((Ok(ExitStatus::Code(staging_scripts::FULL)), _)) => {
                let words = String::from_utf8_lossy(&words);
                let free = words.lines().rev().find_map(|line| line.trim().parse::<u64>().ok());
                StagingError::Full {
                    folder: self.directory.clone(),
                    needed_bytes: self.on_the_way.front().map_or(0, |(bytes, _)| *bytes),
                    free_bytes: free.unwrap_or(0) * 1024,
                }
            }
            Ok((Ok(ExitStatus::Code(code)), _)) => {
                refused(ACTION, &String::from_utf8_lossy(&words), i32::try_from(code).unwrap_or(-1))
            }
            Ok((Err(cause), _)) => StagingError::lost(ACTION, cause),
            Ok((Ok(ExitStatus::Signal(_)), _)) | Err(_) => {
                let cause = error.unwrap_or_else(|| std::io::ErrorKind::UnexpectedEof.into());
                StagingError::lost(ACTION, cause)
            }
        }
    }
}

#[async_trait]
impl PieceWriter for ScriptWriter {
    async fn send(&mut self, piece: PieceOnWay<'_>) -> Result<(), StagingError> {
        let kind = if piece.gzip { "gzip" } else { "raw" };
        let head = format!("{} {} {} {kind}\n", piece.name, piece.size, piece.bytes.len());
        let began = Instant::now();
        let write = async {
            self.stdin.write_all(head.as_bytes()).await?;
            self.stdin.write_all(piece.bytes).await?;
            self.stdin.flush().await
        };
        match tokio::time::timeout(PIECE_DEADLINE, write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(self.ended(Some(error)).await),
            Err(_) => {
                return Err(StagingError::Timeout { action: ACTION.to_owned(), limit: PIECE_DEADLINE });
            }
        }
        self.on_the_way.push_back((piece.bytes.len() as u64, began));
        // The first one that is large enough measures the link; until it is there nothing else goes.
        let measures = self.rate.is_none() && piece.size >= TELLING_BYTES;
        while self.on_the_way.len() >= ON_THE_WAY || (measures && !self.on_the_way.is_empty()) {
            self.confirm().await?;
        }
        Ok(())
    }

    fn confirmed(&self) -> usize {
        self.confirmed
    }

    fn rate(&self) -> Option<u64> {
        self.rate
    }

    async fn finish(&mut self) -> Result<(), StagingError> {
        while !self.on_the_way.is_empty() {
            self.confirm().await?;
        }
        if let Err(error) = self.stdin.shutdown().await {
            return Err(self.ended(Some(error)).await);
        }
        Ok(())
    }
}

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use freehold_model::{Diagnose, ErrorKind};
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use super::{LogError, Outlet};
use crate::error::UsageError;
use crate::process::Process;

/// The longest complaint of `grep` that is kept.
const COMPLAINT_BYTES: u64 = 4096;

/// A filter of lines: the `grep` of this machine, because Kamal hands pattern and options to a real one too.
#[derive(Debug, Clone)]
pub(super) struct Grep {
    words: Vec<String>,
    search_path: String,
    directory: PathBuf,
}

/// Why lines could not be filtered.
#[derive(Debug, thiserror::Error)]
pub(super) enum GrepError {
    /// It did not start.
    #[error("cannot run `grep`, which `--grep` needs on this machine")]
    Start(#[source] io::Error),
    /// It does not understand the pattern or the options.
    #[error("`grep` refuses the pattern or the options of `--grep-options`: {0}")]
    Refused(String),
    /// A pipe to or from it broke.
    #[error("cannot pass lines through `grep`")]
    Pipe(#[source] io::Error),
}

impl Diagnose for GrepError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(_) => ErrorKind::Usage,
            Self::Start(_) | Self::Pipe(_) => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Start(_) => vec!["install grep, or leave out `--grep`".to_owned()],
            Self::Refused(_) | Self::Pipe(_) => Vec::new(),
        }
    }
}

impl Grep {
    /// Describes a filter; nothing is started yet.
    ///
    /// # Errors
    /// [`UsageError`] when the options cannot be split into words.
    pub(super) fn new(
        pattern: &str,
        options: &str,
        follow: bool,
        process: &Process,
    ) -> Result<Self, UsageError> {
        let mut words = freehold_config::split_words(options).map_err(|error| {
            UsageError::new(format!("cannot split the options for `grep` into words: {error}"))
        })?;
        if follow {
            // Otherwise it would keep lines back until a page of them is full.
            words.push("--line-buffered".to_owned());
        }
        words.extend(["-e".to_owned(), pattern.to_owned()]);
        let search_path = process.variable("PATH").unwrap_or("/usr/bin:/bin").to_owned();
        Ok(Self { words, search_path, directory: process.directory.clone() })
    }

    /// Passes lines through and gives those that are left to the outlet.
    pub(super) async fn run(
        self,
        mut lines: impl Stream<Item = Result<String, LogError>> + Unpin,
        outlet: &Outlet,
    ) -> Result<(), LogError> {
        let (mut child, input, output, complaint) = self.start()?;
        let feed = async {
            let mut input = input;
            while let Some(line) = lines.next().await {
                let line = line? + "\n";
                // It stops reading when it has seen enough (`-m`) or refuses its options, which its exit code tells.
                if input.write_all(line.as_bytes()).await.is_err() {
                    break;
                }
            }
            Ok::<(), LogError>(())
        };
        let drain = async {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).await.map_err(GrepError::Pipe)? > 0 {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                line.clear();
                if !outlet.give(text).await {
                    break;
                }
            }
            Ok::<(), LogError>(())
        };
        let listen = async {
            let mut said = Vec::new();
            let read = complaint.take(COMPLAINT_BYTES).read_to_end(&mut said).await;
            read.map_err(GrepError::Pipe)?;
            Ok::<String, LogError>(String::from_utf8_lossy(&said).into_owned())
        };
        let ((), (), said) = tokio::try_join!(feed, drain, listen)?;
        end(child.wait().await.map_err(GrepError::Pipe)?, &said)
    }

    fn start(
        &self,
    ) -> Result<
        (Child, tokio::process::ChildStdin, tokio::process::ChildStdout, tokio::process::ChildStderr),
        GrepError,
    > {
        let mut command = Command::new("grep");
        command
            .args(&self.words)
            .current_dir(&self.directory)
            .env_clear()
            .env("PATH", &self.search_path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(GrepError::Start)?;
        match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(stdin), Some(stdout), Some(stderr)) => Ok((child, stdin, stdout, stderr)),
            _ => Err(GrepError::Pipe(io::Error::other("it has no pipes"))),
        }
    }
}

/// 0 is "found something", 1 is "found nothing", and both are well.
fn end(status: ExitStatus, said: &str) -> Result<(), LogError> {
    match status.code() {
        Some(0 | 1) => Ok(()),
        _ => {
            let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("no message");
            let line = line.strip_prefix("grep: ").unwrap_or(line);
            Err(GrepError::Refused(line.trim().to_owned()).into())
        }
    }
}

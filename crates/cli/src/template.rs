//! What the templates of the deploy file may reach: files of the project, commands, a Ruby.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::process::{Output, Stdio};
use std::time::Duration;

use freehold_config::Surroundings;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::runtime::Handle;

use crate::process::Process;

/// How long one command may take; it may ask a person for a password.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);

/// Renders what standard input holds, as Kamal does.
const RENDER: &str = "print ERB.new(STDIN.read, trim_mode: '-').result";

/// The project's folder. Its methods block, and are called on a thread that may.
#[derive(Debug)]
pub(crate) struct ProjectFolder {
    pub(crate) process: Process,
    pub(crate) runtime: Handle,
}

impl ProjectFolder {
    fn prepare(&self, mut command: Command, environment: &BTreeMap<String, String>) -> Command {
        command
            .current_dir(&self.process.directory)
            .env_clear()
            .envs(environment)
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    fn finish(&self, work: impl Future<Output = std::io::Result<Output>>) -> Result<Output, std::io::Error> {
        self.runtime.block_on(async {
            tokio::select! {
                output = tokio::time::timeout(COMMAND_TIMEOUT, work) => match output {
                    Ok(output) => output,
                    Err(_) => Err(ErrorKind::TimedOut.into()),
                },
                () = self.process.stop.cancelled() => Err(ErrorKind::Interrupted.into()),
            }
        })
    }
}

impl Surroundings for ProjectFolder {
    fn file(&self, path: &str) -> Result<Option<String>, String> {
        match fs_err::read_to_string(self.process.directory.join(path)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.kind().to_string()),
        }
    }

    fn command(&self, command: &str, environment: &BTreeMap<String, String>) -> Result<String, String> {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(command);
        let input = if self.process.terminal.is_stdin { Stdio::inherit() } else { Stdio::null() };
        let mut shell = self.prepare(shell, environment);
        shell.stdin(input).stderr(Stdio::inherit());
        let output = self.finish(async move { shell.spawn()?.wait_with_output().await });
        let output = output.map_err(|error| error.kind().to_string())?;
        // Ruby does not look at exit codes either, but a shell that ran nothing is no answer.
        match output.status.code() {
            Some(126 | 127) => Err("there is no such program".to_owned()),
            None => Err(output.status.to_string()),
            Some(_) => String::from_utf8(output.stdout).map_err(|_| "its output is not UTF-8".to_owned()),
        }
    }

    fn ruby(&self, template: &str, environment: &BTreeMap<String, String>) -> Option<Result<String, String>> {
        let mut ruby = Command::new("ruby");
        ruby.args(["-rerb", "-e", RENDER]);
        let mut ruby = self.prepare(ruby, environment);
        ruby.stdin(Stdio::piped()).stderr(Stdio::piped());
        let template = template.to_owned();
        let output = self.finish(async move {
            let mut child = ruby.spawn()?;
            let input = child.stdin.take();
            let write = async {
                if let Some(mut input) = input {
                    input.write_all(template.as_bytes()).await?;
                }
                Ok::<(), std::io::Error>(())
            };
            // Written and read at the same time: neither pipe holds a whole file.
            let (written, output) = tokio::join!(write, child.wait_with_output());
            let output = output?;
            // A Ruby that fails may not read to the end; what it says counts.
            if output.status.success() { written.map(|()| output) } else { Ok(output) }
        });
        match output {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => Some(Err(error.kind().to_string())),
            Ok(output) if output.status.success() => {
                Some(String::from_utf8(output.stdout).map_err(|_| "its output is not UTF-8".to_owned()))
            }
            Ok(output) => {
                let message = String::from_utf8_lossy(&output.stderr);
                let line = message.lines().find(|line| !line.trim().is_empty()).unwrap_or("no message");
                Some(Err(line.trim().to_owned()))
            }
        }
    }
}

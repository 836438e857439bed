use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use freehold_model::HostName;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::RouteError;
use super::options::Options;
use crate::environment::ClientEnvironment;
use crate::text::printable;

/// The host whose options are looked up, with what is already decided about it.
pub(super) struct Lookup<'a> {
    pub(super) name: &'a HostName,
    pub(super) user: Option<&'a str>,
    pub(super) port: Option<u16>,
}

/// A user whom no configuration names. It stands last, so that it appears exactly if the configuration is silent:
/// otherwise `ssh -G` prints the local user, as if somebody had asked for that.
const SILENT: &str = "freehold-no-user-configured";

/// Asks the OpenSSH client for the options of a host.
pub(super) async fn resolve(
    program: &Path,
    lookup: &Lookup<'_>,
    files: &[(PathBuf, PathBuf)],
    environment: &ClientEnvironment,
    limit: Duration,
) -> Result<Options, RouteError> {
    let host = lookup.name.to_string();
    let mut command = Command::new(program);
    command.args(["-G", "-F", "/dev/stdin"]);
    if let Some(user) = lookup.user {
        command.args(["-l", user]);
    }
    if let Some(port) = lookup.port {
        command.args(["-p", &port.to_string()]);
    }
    command.args(["--", lookup.name.as_str()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let failed = |source| RouteError::Program {
        host: host.clone(),
        program: program.to_owned(),
        source: Arc::new(source),
    };
    let mut child = command.spawn().map_err(failed)?;
    let input = wrapper(files, environment);
    let stdin = child.stdin.take();
    let answer = async {
        if let Some(mut stdin) = stdin {
            // A client that refuses its arguments ends before it reads; its exit code tells.
            drop(stdin.write_all(input.as_bytes()).await);
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(limit, answer)
        .await
        .map_err(|_| RouteError::ProgramTimedOut { host: host.clone(), after: limit })?
        .map_err(failed)?;
    if !output.status.success() {
        let message = printable(String::from_utf8_lossy(&output.stderr).trim());
        return Err(RouteError::ProgramFailed { host, message });
    }
    let mut options = Options::parse_resolved(&String::from_utf8_lossy(&output.stdout));
    if options.first("user") == Some(SILENT) {
        options.remove("user");
    }
    Ok(options)
}

/// Makes a configuration that includes the files in turn and ends with our defaults.
///
/// The home directory is the environment's, not the one of the password database that `ssh` takes by itself.
fn wrapper(files: &[(PathBuf, PathBuf)], environment: &ClientEnvironment) -> String {
    let mut text = String::new();
    for (file, _) in files {
        let file = file.to_string_lossy();
        if !file.contains(['"', '\n']) {
            text.push_str(&format!("Match all\nInclude \"{file}\"\n"));
        }
    }
    text.push_str(&format!("Match all\nUser {SILENT}\n"));
    if let Some(home) = environment.home.as_ref().map(|home| home.to_string_lossy())
        && !home.contains(['"', '\n'])
    {
        let known_hosts = format!("{home}/.ssh/known_hosts").replace('%', "%%");
        text.push_str(&format!("UserKnownHostsFile \"{known_hosts}\" \"{known_hosts}2\"\n"));
    }
    text
}

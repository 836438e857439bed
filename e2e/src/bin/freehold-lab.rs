//! The lab by hand: boots hosts, looks at them, logs in to them, removes them.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};
use freehold_e2e::lab::{self, LABS_VARIABLE, Lab, LabError, Topology};

/// Real hosts on this computer: containers with their own sshd and their own Docker engine.
#[derive(Parser)]
#[command(name = "script/lab", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Boot hosts that stay until `down`.
    Up {
        /// `one`, `three`, `bastion`, or a number of hosts from 1 to 16.
        #[arg(default_value = "three")]
        topology: String,
    },
    /// Remove the hosts that `up` booted.
    Down {
        /// Remove every lab on this computer, also one that a running test uses.
        #[arg(long)]
        all: bool,
    },
    /// List the labs and their hosts.
    Status,
    /// Log in to a host, or run a command on it.
    Ssh {
        /// The host's name.
        host: String,
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Run a command while labs are up: the tests in it share them.
    With {
        /// Topologies, separated by commas.
        topologies: String,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().verb).await {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(verb: Verb) -> Result<ExitCode, LabError> {
    match verb {
        Verb::Up { topology } => {
            let lab = Lab::start_kept(Topology::parse(&topology)?).await?;
            print(&describe(&lab));
        }
        Verb::Down { all } => {
            let count = if all { lab::remove_all().await? } else { lab::remove_kept().await? };
            print(&format!("removed {count} lab(s)\n"));
        }
        Verb::Status => {
            let labs = Lab::running()?;
            let text: String = labs.iter().map(describe).collect();
            print(if text.is_empty() { "no lab is running\n" } else { &text });
        }
        Verb::Ssh { host, command } => return ssh(&host, &command),
        Verb::With { topologies, command } => return with(&topologies, &command).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// Becomes the system's `ssh`.
fn ssh(host: &str, command: &[OsString]) -> Result<ExitCode, LabError> {
    let labs = Lab::running()?;
    let lab = labs.iter().find(|lab| lab.host(host).is_ok()).ok_or(LabError::NoLab)?;
    let mut ssh = Command::new("ssh");
    ssh.arg("-F").arg(lab.ssh_config());
    if command.is_empty() && std::io::stdin().is_terminal() {
        ssh.arg("-t");
    }
    let source = ssh.arg(host).args(command).exec();
    Err(LabError::Spawn { program: "ssh".to_owned(), source })
}

async fn with(topologies: &str, command: &[OsString]) -> Result<ExitCode, LabError> {
    let mut labs = Vec::new();
    for topology in topologies.split(',').filter(|name| !name.is_empty()) {
        labs.push(Lab::start(Topology::parse(topology)?).await?);
    }
    let folders = std::env::join_paths(labs.iter().map(Lab::directory)).map_err(std::io::Error::other)?;
    let Some((program, arguments)) = command.split_first() else { return Ok(ExitCode::SUCCESS) };
    let engine = labs.first().map(Lab::engine_address).unwrap_or_default();
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .env(LABS_VARIABLE, folders)
        .env("DOCKER_HOST", engine)
        .spawn()
        .map_err(|source| LabError::Spawn { program: program.to_string_lossy().into_owned(), source })?;
    // Ctrl-C reaches the command too; the labs go when it has ended.
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => child.start_kill()?,
        }
    };
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

fn describe(lab: &Lab) -> String {
    let owner = if lab.is_owned() { "" } else { " (its owner is gone: the next lab removes it)" };
    let mut text =
        format!("lab {} · {}{owner} · {}\n", lab.id(), lab.topology().name, lab.directory().display());
    for host in lab.hosts() {
        let address =
            host.address().map_or_else(|_| "behind the bastion".to_owned(), |address| address.to_string());
        let private =
            host.private_address().map(|address| format!(" · private {address}")).unwrap_or_default();
        text.push_str(&format!("  {:<10} {address}{private}\n", host.name()));
    }
    text
}

/// Writes to stdout; a reader that has gone away is not worth an error.
fn print(text: &str) {
    std::io::stdout().write_all(text.as_bytes()).ok();
}

fn report(error: &LabError) {
    let mut text = format!("error: {error}\n");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!("caused by: {cause}\n"));
        source = cause.source();
    }
    std::io::stderr().write_all(text.as_bytes()).ok();
}

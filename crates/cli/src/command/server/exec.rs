use std::sync::Arc;

use freehold_fleet::{EngineHost, Host, HostError, ServerCommand};
use freehold_model::{Diagnose, ErrorKind, HostName};
use freehold_ssh::Pty;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::audit;
use crate::context::Context;
use crate::error::{CommandError, UsageError};
use crate::git;
use crate::sight::Sight;
use crate::terminal::RawTerminal;
use crate::ui::{Line, Tone};

/// Run a command on the hosts themselves, not in a container.
///
/// The words are joined by blanks and read by the login shell of each host, as with `ssh`. Options of freehold may stand
/// behind the command; put `--` before a command that has options of the same name.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    freehold server exec uptime\n  \
    freehold server exec -h 'web-*' 'df -h | grep /var'\n  \
    freehold server exec -i bash   # on the primary host")]
pub(crate) struct Args {
    /// On the primary host, with your terminal.
    #[arg(short, long)]
    interactive: bool,

    /// Print what it writes to standard output as it is, and nothing else.
    #[arg(long, conflicts_with = "interactive")]
    raw: bool,

    /// The command.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// How a command on hosts ended, if not well.
#[derive(Debug, thiserror::Error)]
enum ServerExecError {
    /// It ended with another code than 0.
    #[error("the command ended with code {}", list(.0))]
    Failed(Vec<(HostName, i64)>),
    /// What it writes could not be read.
    #[error("lost the connection to the command on host `{host}`")]
    Lost {
        host: HostName,
        #[source]
        source: std::io::Error,
    },
}

fn list(codes: &[(HostName, i64)]) -> String {
    codes.iter().map(|(host, code)| format!("{code} on host `{host}`")).collect::<Vec<_>>().join(", ")
}

impl Diagnose for ServerExecError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Failed(_) => ErrorKind::Failed,
            Self::Lost { .. } => ErrorKind::Unreachable,
        }
    }
}

#[derive(Debug, Serialize)]
struct Ran {
    host: String,
    exit_code: i64,
    stdout: String,
    stderr: String,
}

/// What a command wrote and how it ended.
struct Output {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    code: i64,
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    if arguments.interactive && context.ui.is_json() {
        return Err(UsageError::new("`--json` and `--interactive` cannot be used together").into());
    }
    let sight = Sight::prepare(context).await?;
    let command = arguments.command.join(" ");
    if arguments.interactive {
        let Some(host) = sight.hosts.primary() else { return Ok(()) };
        note(context, &sight, [host], &command).await;
        return interactive(context, host, &command).await;
    }
    let mut tasks = JoinSet::new();
    let hosts: Vec<Arc<EngineHost>> =
        sight.loaded.chosen.hosts().iter().filter_map(|name| sight.hosts.get(name).cloned()).collect();
    note(context, &sight, &hosts, &command).await;
    for (index, host) in hosts.into_iter().enumerate() {
        let command = command.clone();
        tasks.spawn(async move { (index, host.name().clone(), collect(&host, &command).await) });
    }
    let mut ended = tasks.join_all().await;
    ended.sort_by_key(|(index, ..)| *index);
    context.ui.close();
    let (mut ran, mut failed) = (Vec::new(), Vec::new());
    for (_, host, output) in ended {
        let output = output?;
        show(context, &arguments, &host, &output);
        if output.code != 0 {
            failed.push((host.clone(), output.code));
        }
        ran.push(Ran {
            host: host.to_string(),
            exit_code: output.code,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    if !failed.is_empty() {
        return Err(ServerExecError::Failed(failed).into());
    }
    context.ui.result_json(context.command, &ran);
    Ok(())
}

/// Writes down what is run, as Kamal does.
async fn note<'a>(
    context: &Context,
    sight: &Sight,
    hosts: impl IntoIterator<Item = &'a Arc<EngineHost>>,
    command: &str,
) {
    let author = git::author(context).await;
    let acts = hosts
        .into_iter()
        .map(|host| (Arc::clone(host), format!("Executed cmd '{command}' on {}", host.name())));
    audit::write_down(context, &sight.loaded.whole, &author.email, acts).await;
}

async fn collect(host: &Arc<EngineHost>, command: &str) -> Result<Output, CommandError> {
    let ServerCommand { mut stdout, mut stderr, mut stdin, control } =
        host.run_on_server(command, None).await?;
    let lost = |source| ServerExecError::Lost { host: host.name().clone(), source };
    end(&mut stdin).await;
    // A pipe ends when it is dropped, a channel when it is shut down.
    drop(stdin);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let read = tokio::try_join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err));
    read.map_err(lost)?;
    Ok(Output { stdout: out, stderr: err, code: control.exit_code().await? })
}

async fn interactive(context: &Context, host: &Arc<EngineHost>, command: &str) -> Result<(), CommandError> {
    let terminal = &context.process.terminal;
    let is_terminal = terminal.is_stdin && terminal.is_stdout;
    let size = (terminal.size)().unwrap_or((80, 24));
    let pty = is_terminal.then(|| Pty {
        term: context.process.variable("TERM").unwrap_or("xterm").to_owned(),
        columns: u32::from(size.0),
        rows: u32::from(size.1),
    });
    let running = host.run_on_server(command, pty).await?;
    context.ui.close();
    let raw = if is_terminal { RawTerminal::enter().ok() } else { None };
    let ended = pump(context, host, running).await;
    drop(raw);
    match ended? {
        0 => Ok(()),
        code => Err(ServerExecError::Failed(vec![(host.name().clone(), code)]).into()),
    }
}

/// Passes input and output on until the command ends.
async fn pump(
    context: &Context,
    host: &Arc<EngineHost>,
    running: ServerCommand,
) -> Result<i64, CommandError> {
    let ServerCommand { stdout, stderr, mut stdin, control } = running;
    let lost = |source| ServerExecError::Lost { host: host.name().clone(), source };
    let output = async {
        let (mut own_stdout, mut own_stderr) = (tokio::io::stdout(), tokio::io::stderr());
        tokio::try_join!(pass_on(stdout, &mut own_stdout), pass_on(stderr, &mut own_stderr))
    };
    let input = async move {
        // The end of the input is passed on; the command decides what follows from it.
        let copied = tokio::io::copy(&mut tokio::io::stdin(), &mut stdin).await;
        tracing::debug!(?copied, "the input has ended");
        end(&mut stdin).await;
        drop(stdin);
        std::future::pending::<()>().await;
    };
    let sizes = async {
        let mut size = (context.process.terminal.size)();
        let mut watch = tokio::time::interval(std::time::Duration::from_millis(250));
        loop {
            watch.tick().await;
            let now = (context.process.terminal.size)();
            if let Some((columns, rows)) = now.filter(|_| now != size) {
                let resized: Result<(), HostError> = control.resize(columns, rows).await;
                tracing::debug!(?resized, "the terminal has another size");
            }
            size = now;
        }
    };
    tokio::select! {
        ended = output => { ended.map_err(lost)?; }
        () = input => {}
        () = sizes => {}
    }
    Ok(control.exit_code().await?)
}

/// Ends the input of a command; one that ended at once has closed it already.
async fn end(stdin: &mut (impl tokio::io::AsyncWrite + Unpin)) {
    if let Err(error) = stdin.shutdown().await {
        tracing::debug!(%error, "the command has closed its input");
    }
}

async fn pass_on(
    mut from: impl AsyncRead + Unpin,
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let mut buffer = [0_u8; 4096];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(buffer.get(..count).unwrap_or_default()).await?;
        to.flush().await?;
    }
}

fn show(context: &Context, arguments: &Args, host: &HostName, output: &Output) {
    if context.ui.is_json() {
        return;
    }
    if arguments.raw {
        context.ui.write_result(&output.stdout);
        return;
    }
    context.ui.note(Line::new().add(Tone::Strong, host.as_str()));
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        context.ui.note(Line::new().plain(line));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    context.ui.result(&text.lines().map(|line| Line::new().plain(line)).collect::<Vec<_>>());
}

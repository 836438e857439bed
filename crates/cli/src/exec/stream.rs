use freehold_docker::{ExecControl, ExecSpec, OutputStream, SessionInput, SessionOutput};
use freehold_fleet::AttachedControl;
use freehold_model::{HostName, SecretValues};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Container, END, ExecError, Execution, Place};
use crate::context::Context;
use crate::error::CommandError;
use crate::terminal::RawTerminal;

/// What a command wrote and how it ended.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// None for a command that was left alone.
    pub(super) exit_code: Option<i64>,
}

/// A running command, in whichever container.
enum Control {
    Exec(ExecControl),
    Attached(AttachedControl),
}

impl Control {
    async fn resize(&self, (columns, rows): (u16, u16)) {
        let resized = match self {
            Self::Exec(control) => control.resize(columns, rows).await.map_err(|error| error.to_string()),
            Self::Attached(control) => control.resize(columns, rows).await.map_err(|error| error.to_string()),
        };
        if let Err(error) = resized {
            tracing::debug!(error, "cannot resize the terminal of the command");
        }
    }

    async fn finish(self) -> Result<i64, CommandError> {
        match self {
            Self::Exec(control) => Ok(control.exit_code().await?),
            Self::Attached(control) => Ok(control.finish(END).await?),
        }
    }
}

async fn begin(
    place: &Place,
    spec: ExecSpec,
    secrets: &SecretValues,
) -> Result<(SessionOutput, SessionInput, Control), CommandError> {
    match &place.container {
        Container::Running(container) => {
            let session = place.engine.exec(container.as_str(), &spec).await?;
            Ok((session.output, session.input, Control::Exec(session.control)))
        }
        Container::New(command) => {
            let attached = place.engine.run_attached(command, secrets).await?;
            Ok((attached.output, attached.input, Control::Attached(attached.control)))
        }
    }
}

/// Runs a command without input and collects what it writes.
pub(super) async fn collect(
    place: &Place,
    spec: ExecSpec,
    secrets: &SecretValues,
) -> Result<Output, CommandError> {
    let (mut output, mut input, control) = begin(place, spec, secrets).await?;
    let lost = |source| ExecError::Lost { host: place.host.clone(), source };
    // A command that ended at once has closed it already.
    drop(input.shutdown().await);
    let mut collected = Output::default();
    while let Some((stream, bytes)) = output.next().await.map_err(lost)? {
        match stream {
            OutputStream::Stderr => collected.stderr.extend_from_slice(&bytes),
            _ => collected.stdout.extend_from_slice(&bytes),
        }
    }
    collected.exit_code = Some(control.finish().await?);
    Ok(collected)
}

/// Runs a command with the person's own terminal.
pub(super) async fn interactive(execution: &Execution<'_>, place: Place) -> Result<(), CommandError> {
    let context = execution.context;
    let terminal = &context.process.terminal;
    let is_terminal = terminal.is_stdin && terminal.is_stdout;
    let spec = execution.spec(is_terminal, true);
    let (output, input, control) = begin(&place, spec, execution.secrets).await?;
    let raw = if is_terminal { RawTerminal::enter().ok() } else { None };
    let pumped = pump(context, &place.host, output, input, &control).await;
    drop(raw);
    pumped?;
    match control.finish().await? {
        0 => Ok(()),
        code => Err(ExecError::Failed(vec![(place.host, code)]).into()),
    }
}

async fn pump(
    context: &Context,
    host: &HostName,
    mut output: SessionOutput,
    mut input: SessionInput,
    control: &Control,
) -> Result<(), ExecError> {
    let lost = |source| ExecError::Lost { host: host.clone(), source };
    let mut size = (context.process.terminal.size)();
    if let Some(size) = size {
        control.resize(size).await;
    }
    let mut keys = tokio::io::stdin();
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    let mut buffer = [0_u8; 4096];
    let mut has_input = true;
    let mut watch = tokio::time::interval(std::time::Duration::from_millis(250));
    loop {
        tokio::select! {
            piece = output.next() => match piece.map_err(lost)? {
                None => return Ok(()),
                Some((OutputStream::Stderr, bytes)) => {
                    stderr.write_all(&bytes).await.map_err(lost)?;
                    stderr.flush().await.map_err(lost)?;
                }
                Some((_, bytes)) => {
                    stdout.write_all(&bytes).await.map_err(lost)?;
                    stdout.flush().await.map_err(lost)?;
                }
            },
            read = keys.read(&mut buffer), if has_input => match read {
                Ok(0) | Err(_) => {
                    has_input = false;
                    // A command that has ended has closed it already.
                    drop(input.shutdown().await);
                }
                Ok(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    input.write_all(bytes).await.map_err(lost)?;
                    input.flush().await.map_err(lost)?;
                }
            },
            _ = watch.tick() => {
                let now = (context.process.terminal.size)();
                if let Some(new) = now.filter(|_| now != size) {
                    control.resize(new).await;
                }
                size = now;
            }
        }
    }
}

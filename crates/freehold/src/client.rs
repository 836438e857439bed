use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use freehold_cli::{CommandError, Invocation, Parsed, Process, SystemClock, Terminal};
use freehold_model::{Diagnose, ErrorKind};
use tokio_util::sync::CancellationToken;

use crate::failure::Format;
use crate::{environment, fail, interrupt, logs};

/// Reads a command line, does what it says and shows what went wrong.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    let clock = SystemClock::start();
    let environment = environment();
    let terminal = terminal();
    let wants_no_colour = environment.get("NO_COLOR").is_some_and(|value| !value.is_empty())
        || environment.get("TERM").is_some_and(|value| value == "dumb");
    let columns = if terminal.is_stdout { (terminal.size)().map(|(columns, _)| columns) } else { None };
    let has_word = |word: &str| words.iter().take_while(|given| *given != "--").any(|given| given == word);
    let colours = |is_terminal: bool| is_terminal && !wants_no_colour && !has_word("--no-color");
    let format = match (has_word("--json"), colours(terminal.is_stderr)) {
        (true, _) => Format::Json,
        (false, true) => Format::Coloured,
        (false, false) => Format::Plain,
    };
    let outcome = directory().and_then(|directory| {
        let process = process(environment, directory, terminal.clone(), clock)?;
        let words = if Invocation::may_be_alias(words) { expand(words, &process)? } else { words.to_vec() };
        match Invocation::parse(&words, columns)? {
            Parsed::Text(text) => Ok(print(&text, colours(terminal.is_stdout))),
            Parsed::Invocation(invocation) => {
                if invocation.is_verbose() {
                    logs::show_all();
                }
                start(*invocation, process).map(|()| ExitCode::SUCCESS)
            }
        }
    });
    match outcome {
        Ok(code) => code,
        Err(error) => fail(error.diagnose(), format),
    }
}

/// Something that every process needs is not there.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}")]
struct ProcessError {
    operation: &'static str,
    source: std::io::Error,
}

impl Diagnose for ProcessError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }
}

/// Looks for an alias in the deploy file, whose templates may run commands.
fn expand(words: &[OsString], process: &Process) -> Result<Vec<OsString>, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| ProcessError { operation: "start the threads of this program", source })?;
    runtime.block_on(Invocation::expand(words, process))
}

fn start(invocation: Invocation, process: Process) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|source| ProcessError { operation: "start the threads of this program", source })?;
    let outcome = runtime.block_on(async {
        let signals = interrupt::listen(process.stop.clone(), process.abort.clone());
        tokio::select! {
            outcome = invocation.run(process) => outcome,
            // It never ends before the command does, except where signals cannot be caught.
            () = signals => std::future::pending().await,
        }
    });
    // A blocked read of the terminal must not hold the process up.
    runtime.shutdown_background();
    outcome
}

fn directory() -> Result<PathBuf, CommandError> {
    #[expect(clippy::disallowed_methods, reason = "main is where the working directory is read")]
    let directory = std::env::current_dir()
        .map_err(|source| ProcessError { operation: "find the working directory", source })?;
    Ok(directory)
}

fn process(
    environment: BTreeMap<String, String>,
    directory: PathBuf,
    terminal: Terminal,
    clock: SystemClock,
) -> Result<Process, CommandError> {
    let executable = std::env::current_exe()
        .map_err(|source| ProcessError { operation: "find the running executable", source })?;
    let mut seed = [0; 16];
    getrandom::fill(&mut seed).map_err(|error| ProcessError {
        operation: "draw random bytes",
        source: std::io::Error::other(error.to_string()),
    })?;
    Ok(Process {
        environment,
        directory,
        executable,
        id: std::process::id(),
        terminal,
        clock: Arc::new(clock),
        seed,
        logs: Arc::new(logs::LibraryLogs),
        stop: CancellationToken::new(),
        abort: CancellationToken::new(),
    })
}

fn terminal() -> Terminal {
    Terminal {
        is_stdin: std::io::stdin().is_terminal(),
        is_stdout: std::io::stdout().is_terminal(),
        is_stderr: std::io::stderr().is_terminal(),
        size: || {
            let size = rustix::termios::tcgetwinsize(std::io::stderr())
                .or_else(|_| rustix::termios::tcgetwinsize(std::io::stdout()))
                .ok()?;
            (size.ws_col > 0).then_some((size.ws_col, size.ws_row))
        },
    }
}

fn print(text: &str, has_colours: bool) -> ExitCode {
    let text = if has_colours { text.to_owned() } else { without_escapes(text) };
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Removes escape sequences for colours: from ESC to the next letter.
fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut is_escape = false;
    for character in text.chars() {
        match (is_escape, character) {
            (false, '\u{1b}') => is_escape = true,
            (false, other) => plain.push(other),
            (true, other) => is_escape = !other.is_ascii_alphabetic(),
        }
    }
    plain
}

//! The command line: `freehold proxy <verb>` on a host, and all of `kamal-proxy`'s that this version has.

mod api;
mod arguments;
mod content;
pub(crate) mod duration;
mod edge;
mod gate;
mod list;
mod request;
mod rollout;
mod serve;
mod traffic;
mod upgrade;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, FromArgMatches};
use freehold_model::{Diagnose, ErrorKind};
use freehold_wire::ProxyError;

use arguments::{Arguments, MISSING_FLAGS, SocketArgument, Verb};

use crate::server::StartError;

/// By which name the program was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invocation {
    /// `freehold proxy …`: errors are returned to be rendered like all others.
    Freehold,
    /// `kamal-proxy …`: errors are written as kamal-proxy writes them.
    KamalProxy,
}

/// Where a command reads from and writes to.
pub struct Console {
    /// Standard input.
    pub input: Box<dyn Read + Send>,
    /// Standard output.
    pub output: Box<dyn Write + Send>,
    /// Standard error.
    pub errors: Box<dyn Write + Send>,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Console").finish_non_exhaustive()
    }
}

/// A command of the proxy did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The command line is wrong.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
    },
    /// A value on the command line is wrong.
    #[error(transparent)]
    Value(#[from] freehold_wire::InvalidAddress),
    /// The service's name is not one.
    #[error(transparent)]
    Name(#[from] freehold_model::InvalidName),
    /// The server cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The server refused or cannot be reached.
    #[error(transparent)]
    Call(#[from] ProxyError),
    /// The control socket cannot be connected to standard input and output.
    #[error("cannot connect standard input and output to the control socket `{path}`", path = path.display())]
    Bridge {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The process that took over, or was to hand over, has ended.
    #[error("the other process of a hand-over has ended")]
    Deserted,
    /// A file that the command line or the environment names cannot be read.
    #[error("cannot read a file")]
    File {
        /// Which one, and why not.
        source: io::Error,
    },
    /// The result cannot be written.
    #[error("cannot write the result")]
    Output {
        /// Why not.
        source: io::Error,
    },
}

impl Diagnose for CommandError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Usage { .. } | Self::Value(_) | Self::Name(_) => ErrorKind::Usage,
            Self::Start(error) => error.kind(),
            Self::Call(error) => error.kind(),
            Self::File { .. } => ErrorKind::Configuration,
            Self::Bridge { .. } | Self::Output { .. } | Self::Deserted => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Usage { .. } => vec!["see `freehold proxy --help`".to_owned()],
            Self::Start(error) => error.help(),
            Self::Call(error) => error.help(),
            Self::Bridge { .. } => vec!["see whether the proxy runs in this container".to_owned()],
            Self::Value(_) | Self::Name(_) | Self::File { .. } | Self::Output { .. } | Self::Deserted => {
                Vec::new()
            }
        }
    }
}

/// Runs a command: the arguments are those after the program's name (for [`Invocation::Freehold`], after `proxy`).
/// Returns the exit code of the process.
///
/// # Errors
/// [`CommandError`], for [`Invocation::Freehold`] only; called as kamal-proxy it writes the error and returns 1.
pub fn run(
    arguments: Vec<OsString>,
    invocation: Invocation,
    environment: &BTreeMap<String, String>,
    mut console: Console,
) -> Result<u8, CommandError> {
    if invocation == Invocation::Freehold {
        return dispatch(arguments, invocation, environment, &mut console);
    }
    match dispatch(arguments, invocation, environment, &mut console) {
        Ok(code) => Ok(code),
        Err(error) => {
            // Without a standard error there is nobody to tell; the exit code still does.
            writeln!(console.errors, "Error: {}", as_kamal_proxy(&error)).ok();
            Ok(1)
        }
    }
}

fn dispatch(
    arguments: Vec<OsString>,
    invocation: Invocation,
    environment: &BTreeMap<String, String>,
    console: &mut Console,
) -> Result<u8, CommandError> {
    let name = match invocation {
        Invocation::Freehold => "freehold proxy",
        Invocation::KamalProxy => "kamal-proxy",
    };
    let command = Arguments::command().name(name).bin_name(name);
    let given = join_booleans(&arguments, &command);
    let count = count_positionals(&given, &command);
    let usage =
        |error: &clap::Error| CommandError::Usage { message: usage_message(error, invocation, count) };
    let all = std::iter::once(OsString::from(name)).chain(given);
    let matches = match command.try_get_matches_from(all) {
        Ok(matches) => matches,
        Err(error) if is_help(&error) => {
            write!(console.output, "{}", error.render()).map_err(|source| CommandError::Output { source })?;
            return Ok(0);
        }
        Err(error) => return Err(usage(&error)),
    };
    let arguments = Arguments::from_arg_matches(&matches).map_err(|error| usage(&error))?;
    match arguments.verb {
        Verb::Serve(arguments) => return serve::run(arguments, environment, console),
        Verb::Upgrade(arguments) => upgrade::run(&arguments, environment, console)?,
        Verb::Deploy(arguments) => request::deploy(*arguments, environment)?,
        Verb::Remove(arguments) => request::remove(&arguments, environment)?,
        Verb::Pause(arguments) => gate::pause(&arguments, environment)?,
        Verb::Stop(arguments) => gate::stop(arguments, environment)?,
        Verb::Resume(arguments) => gate::resume(&arguments, environment)?,
        Verb::Rollout(verb) => rollout::run(&verb, environment)?,
        Verb::List(arguments) => list::run(&arguments, invocation, environment, console)?,
        Verb::Api(arguments) => api::run(&arguments, environment, console)?,
    }
    Ok(0)
}

/// Joins `--flag` and a following `true` or `false`, which belong together wherever the flag is a switch. Others would be
/// taken for the service.
fn join_booleans(arguments: &[OsString], command: &clap::Command) -> Vec<OsString> {
    let verb = arguments.iter().find_map(|argument| command.find_subcommand(argument));
    let is_switch = |argument: &OsString| {
        let name = argument.to_str().and_then(|argument| argument.strip_prefix("--"));
        let flag = verb
            .zip(name)
            .and_then(|(verb, name)| verb.get_arguments().find(|flag| flag.get_long() == Some(name)));
        flag.is_some_and(|flag| flag.is_require_equals_set())
    };
    let mut joined: Vec<OsString> = Vec::with_capacity(arguments.len());
    for argument in arguments {
        match joined.last_mut() {
            Some(before) if is_switch(before) && (argument == "true" || argument == "false") => {
                before.push("=");
                before.push(argument);
            }
            _ => joined.push(argument.clone()),
        }
    }
    joined
}

fn is_help(error: &clap::Error) -> bool {
    use clap::error::ErrorKind as Kind;
    matches!(error.kind(), Kind::DisplayHelp | Kind::DisplayHelpOnMissingArgumentOrSubcommand)
}

/// Counts what stands on a command line beside its verbs, flags and their values.
fn count_positionals(arguments: &[OsString], command: &clap::Command) -> usize {
    let (mut command, mut count, mut is_value) = (command, 0, false);
    for argument in arguments.iter().filter_map(|argument| argument.to_str()) {
        if std::mem::take(&mut is_value) {
            continue;
        }
        if let Some(name) = argument.strip_prefix("--") {
            let flag = command.get_arguments().find(|flag| flag.get_long() == Some(name));
            is_value =
                flag.is_some_and(|flag| flag.get_action().takes_values() && !flag.is_require_equals_set());
        } else if let Some(verb) = command.find_subcommand(argument) {
            command = verb;
        } else {
            count += 1;
        }
    }
    count
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => Some(texts.join(", ")),
        _ => None,
    }
}

/// Says what is wrong with a command line, in kamal-proxy's words where there are any.
fn usage_message(error: &clap::Error, invocation: Invocation, count: usize) -> String {
    use clap::error::ErrorKind as Kind;
    let argument = context(error, ContextKind::InvalidArg).unwrap_or_default();
    let verb = context(error, ContextKind::InvalidSubcommand).unwrap_or_default();
    let flag = argument.split(['=', ' ']).next().unwrap_or_default();
    match error.kind() {
        Kind::UnknownArgument if MISSING_FLAGS.contains(&flag) => {
            format!("`{flag}` is not supported by this version of the proxy")
        }
        Kind::UnknownArgument if flag.starts_with('-') => format!("unknown flag: {flag}"),
        Kind::UnknownArgument if count < 2 => "accepts 0 arg(s), received 1".to_owned(),
        Kind::UnknownArgument => format!("accepts 1 arg(s), received {count}"),
        Kind::InvalidSubcommand if invocation == Invocation::KamalProxy => {
            format!("unknown command \"{verb}\" for \"kamal-proxy\"\nRun 'kamal-proxy --help' for usage.")
        }
        Kind::MissingRequiredArgument if argument.contains("<SERVICE>") => {
            "accepts 1 arg(s), received 0".to_owned()
        }
        Kind::MissingRequiredArgument => {
            let name = flag.trim_start_matches('-');
            format!("required flag(s) \"{name}\" not set")
        }
        Kind::ValueValidation | Kind::InvalidValue => {
            let value = context(error, ContextKind::InvalidValue).unwrap_or_default();
            let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            format!("invalid argument \"{value}\" for \"{flag}\" flag: {cause}")
        }
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            line.strip_prefix("error: ").unwrap_or(line).to_owned()
        }
    }
}

/// Writes an error as kamal-proxy words it.
fn as_kamal_proxy(error: &CommandError) -> String {
    match error {
        CommandError::Call(ProxyError::Connect { path, source }) | CommandError::Bridge { path, source } => {
            format!("dial unix {}: connect: {}", path.display(), system_text(source))
        }
        CommandError::Call(ProxyError::Closed { .. }) => "unexpected EOF".to_owned(),
        CommandError::Call(ProxyError::UnknownService { .. }) => "service not found".to_owned(),
        CommandError::Call(ProxyError::Unhealthy { message, probes, .. }) => {
            let failures = probes.iter().filter(|probe| !probe.healthy);
            failures.fold(message.clone(), |text, probe| format!("{text}; `{}` {}", probe.target, probe.last))
        }
        CommandError::Call(error) if error.message().is_some() => {
            error.message().unwrap_or_default().to_owned()
        }
        CommandError::Value(error) => format!("{} :invalid host pattern", error.value()),
        CommandError::Start(StartError::Listen { address, source }) => {
            format!("listen tcp {address}: bind: {}", system_text(source))
        }
        error => crate::control::chain(error),
    }
}

/// Writes a system error as C and Go do, without Rust's addition of its number.
fn system_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    text.to_ascii_lowercase()
}

/// Finds the control socket, by the rule that server and clients share.
fn socket_path(argument: &SocketArgument, environment: &BTreeMap<String, String>) -> PathBuf {
    let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    match (&argument.socket, set("KAMAL_PROXY_SOCKET"), set("XDG_RUNTIME_DIR")) {
        (Some(path), _, _) => path.clone(),
        (None, Some(path), _) => PathBuf::from(path),
        (None, None, Some(folder)) => PathBuf::from(folder).join("kamal-proxy.sock"),
        (None, None, None) => temporary_folder(environment).join("kamal-proxy.sock"),
    }
}

fn temporary_folder(environment: &BTreeMap<String, String>) -> PathBuf {
    environment
        .get("TMPDIR")
        .filter(|value| !value.is_empty())
        .map_or_else(|| PathBuf::from("/tmp"), PathBuf::from)
}

//! The command line: `freehold proxy <verb>` on a host, and all of `kamal-proxy`'s that this version has.

mod api;
mod arguments;
mod content;
pub(crate) mod duration;
mod edge;
mod gate;
mod list;
mod number;
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
use freehold_model::{Diagnose, ErrorKind, Evidence};
use freehold_wire::{ProbeOutcome, ProbeReport, ProxyError};

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
    /// Whether standard output is a terminal, so that colours can be seen.
    pub is_terminal: bool,
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
    /// The command line of a verb is wrong.
    #[error("{message}")]
    VerbUsage {
        /// What is wrong.
        message: String,
        /// Which verb it is of.
        verb: String,
    },
    /// Targets did not become healthy in time.
    #[error("{message}{seen}", seen = seen(probes, path.as_deref()))]
    Unhealthy {
        /// What was not done.
        message: String,
        /// The path that was asked for, where it is known.
        path: Option<String>,
        /// What the checks of each target saw.
        probes: Vec<ProbeReport>,
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

/// Says what the last check of each target that is not healthy saw.
fn seen(probes: &[ProbeReport], path: Option<&str>) -> String {
    let failures = probes.iter().filter(|probe| !probe.healthy);
    let path = path.map_or_else(String::new, |path| format!(" to `GET {}`", freehold_model::printable(path)));
    let line = |ProbeReport { target, last, attempts, .. }: &ProbeReport| {
        let checks = if *attempts == 1 { "check" } else { "checks" };
        format!("; `{target}` {last}{path}, the last of {attempts} {checks}")
    };
    failures.map(line).collect()
}

impl CommandError {
    /// Shows what the checks saw, where this is about health.
    fn unhealthy(self, path: Option<String>) -> Self {
        match self {
            Self::Call(ProxyError::Unhealthy { operation, message, probes }) => {
                let message = format!("the proxy did not {operation}: {message}");
                Self::Unhealthy { message, path, probes }
            }
            error => error,
        }
    }
}

impl Diagnose for CommandError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Usage { .. } | Self::VerbUsage { .. } | Self::Value(_) | Self::Name(_) => ErrorKind::Usage,
            Self::Unhealthy { .. } => ErrorKind::Unhealthy,
            Self::Start(error) => error.kind(),
            Self::Call(error) => error.kind(),
            Self::File { .. } => ErrorKind::Configuration,
            Self::Bridge { .. } | Self::Output { .. } | Self::Deserted => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Usage { .. } => vec![
                "a verb tells its flags, as in `freehold proxy serve --help`, and so does `freehold proxy deploy --help`"
                    .to_owned(),
            ],
            Self::VerbUsage { verb, .. } => vec![format!("see `freehold proxy {verb} --help`")],
            Self::Start(error) => error.help(),
            Self::Call(error) => error.help(),
            Self::Bridge { .. } => vec!["see whether the proxy runs in this container".to_owned()],
            Self::Value(_)
            | Self::Name(_)
            | Self::Unhealthy { .. }
            | Self::File { .. }
            | Self::Output { .. }
            | Self::Deserted => Vec::new(),
        }
    }

    fn evidence(&self) -> Vec<Evidence> {
        let Self::Unhealthy { probes, .. } = self else { return Vec::new() };
        let body = |probe: &ProbeReport| match &probe.last {
            ProbeOutcome::Status { body, .. } | ProbeOutcome::NotHttp { received: body }
                if !body.is_empty() =>
            {
                Some(Evidence {
                    title: format!("what `{}` answered", probe.target),
                    lines: vec![body.clone()],
                })
            }
            _ => None,
        };
        probes.iter().filter_map(body).collect()
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
        let verb = verb_of(&arguments);
        return dispatch(arguments, invocation, environment, &mut console).map_err(|error| {
            match (error, verb) {
                (CommandError::Usage { message }, Some(verb)) => CommandError::VerbUsage { message, verb },
                (error, _) => error,
            }
        });
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

/// Returns the words of the verb that a command line begins with.
fn verb_of(arguments: &[OsString]) -> Option<String> {
    let command = Arguments::command();
    let mut words = arguments.iter().map_while(|argument| argument.to_str());
    let first = command.find_subcommand(words.next()?)?;
    let second = words.next().and_then(|word| first.find_subcommand(word));
    let second = second.map_or_else(String::new, |second| format!(" {}", second.get_name()));
    Some(format!("{}{second}", first.get_name()))
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
    let given = join_values(&arguments, &command);
    let count = count_positionals(&given, &command);
    let stray = stray_value(&given, &command);
    let usage = |error: &clap::Error| {
        let message = usage_message(error, invocation, count);
        let stray = stray.as_ref().filter(|_| message.starts_with("accepts "));
        let hint = stray.map_or_else(String::new, |(flag, value)| {
            format!("; `{flag}` takes its value behind `=`: `{flag}={}`", freehold_model::printable(value))
        });
        CommandError::Usage { message: message + &hint }
    };
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

/// Finds the flag that a word names, without a value, of the verb that a command line begins with.
fn find_flag<'c>(
    arguments: &[OsString],
    word: &OsString,
    command: &'c clap::Command,
) -> Option<&'c clap::Arg> {
    let name = word.to_str()?.strip_prefix("--")?;
    let mut verb = command;
    for argument in arguments {
        match verb.find_subcommand(argument) {
            Some(found) => verb = found,
            None => break,
        }
    }
    verb.get_arguments().find(|flag| flag.get_long() == Some(name))
}

/// Joins `--flag` and a following `true` or `false`, which belong together wherever the flag is a switch; others would be
/// taken for the service. So does a negative number behind a flag with a value, which is wrong, but no flag.
fn join_values(arguments: &[OsString], command: &clap::Command) -> Vec<OsString> {
    let is_negative = |argument: &OsString| {
        let rest = argument.to_str().and_then(|argument| argument.strip_prefix('-'));
        rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    let mut joined: Vec<OsString> = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let flag = joined.last().and_then(|before| find_flag(arguments, before, command));
        let belongs = flag.is_some_and(|flag| match flag.is_require_equals_set() {
            true => argument == "true" || argument == "false",
            false => flag.get_action().takes_values() && is_negative(argument),
        });
        match joined.last_mut().filter(|_| belongs) {
            Some(before) => {
                before.push("=");
                before.push(argument);
            }
            None => joined.push(argument.clone()),
        }
    }
    joined
}

/// Finds a word behind a flag that takes a value only behind `=`: it is taken for the service, and may have been meant as the
/// value.
fn stray_value(arguments: &[OsString], command: &clap::Command) -> Option<(String, String)> {
    arguments.windows(2).find_map(|pair| {
        let [word, value] = pair else { return None };
        let flag = find_flag(arguments, word, command)?;
        let value = value.to_str().filter(|value| flag.is_require_equals_set() && !value.starts_with('-'))?;
        Some((word.to_str()?.to_owned(), value.to_owned()))
    })
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
    let flag = argument.split(['=', ' ', '[']).next().unwrap_or_default();
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
        CommandError::Unhealthy { message, probes, .. } => {
            // The words that kamal-proxy has for it stand behind what was not done.
            let message = message.split_once("`: ").map_or(message.as_str(), |(_, message)| message);
            let failures = probes.iter().filter(|probe| !probe.healthy);
            let text = message.to_owned();
            failures.fold(text, |text, probe| format!("{text}; `{}` {}", probe.target, probe.last))
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

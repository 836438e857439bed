use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use freehold_agent::Console;
use tracing_subscriber::EnvFilter;

use crate::fail;
use crate::failure::Format;

/// Says whether a command line is the agent's, and returns the arguments that it gets.
pub(crate) fn role(words: &[OsString]) -> Option<Vec<OsString>> {
    match words {
        [_, first, rest @ ..] if first == "agent" => {
            let is_own = rest.first().and_then(|word| word.to_str()).is_some_and(freehold_agent::is_command);
            is_own.then(|| rest.to_vec())
        }
        _ => None,
    }
}

/// Runs the agent, or speaks with the one that runs.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    if arguments.first().is_some_and(|verb| verb == "serve") {
        let filter = EnvFilter::new("warn,freehold_agent=info");
        let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter);
        // It fails only if there is a subscriber already, which then does the same.
        drop(subscriber.try_init());
    }
    let console = Console { input: Box::new(io::stdin()), output: Box::new(io::stdout()) };
    match freehold_agent::run(arguments, console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, Format::Plain),
    }
}

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use freehold_proxy::{Console, Invocation};

use crate::failure::Format;
use crate::{environment, fail};

/// The verbs of `freehold proxy` that are meant for a host; all others are the client's.
const VERBS: [&str; 9] = ["serve", "run", "deploy", "remove", "rm", "list", "ls", "api", "--help"];

/// Says whether a command line is the proxy's, and returns the arguments that it gets.
pub(crate) fn role(words: &[OsString]) -> Option<(Invocation, Vec<OsString>)> {
    let name = words.first().and_then(|word| Path::new(word).file_name());
    if name.is_some_and(|name| name == "kamal-proxy") {
        return Some((Invocation::KamalProxy, words.iter().skip(1).cloned().collect()));
    }
    match words {
        [_, first, verb, ..] if first == "proxy" && VERBS.iter().any(|known| verb == known) => {
            Some((Invocation::Freehold, words.iter().skip(2).cloned().collect()))
        }
        [_, first] if first == "proxy" => Some((Invocation::Freehold, Vec::new())),
        _ => None,
    }
}

/// Runs the proxy, or speaks with the one that runs.
pub(crate) fn run(invocation: Invocation, arguments: Vec<OsString>) -> ExitCode {
    let console = Console {
        input: Box::new(io::stdin()),
        output: Box::new(io::stdout()),
        errors: Box::new(io::stderr()),
    };
    match freehold_proxy::run(arguments, invocation, &environment(), console) {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error, Format::Plain),
    }
}

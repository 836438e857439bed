use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;

use freehold_proxy::{Console, Invocation};

use crate::failure::Format;
use crate::{environment, fail};

/// The verbs of `freehold proxy` that only the proxy has; of the others, the client's commands have the same names.
const VERBS: [&str; 8] = ["serve", "run", "deploy", "rm", "pause", "resume", "rollout", "api"];

/// The verbs that the client has, too: they are the proxy's where a socket of one is named.
const SHARED_VERBS: [&str; 5] = ["list", "ls", "stop", "remove", "upgrade"];

/// The variable that the proxy's image sets: there every verb is the proxy's.
const ROLE: &str = "FREEHOLD_ROLE";

/// Says whether a command line is the proxy's, and returns the arguments that it gets.
pub(crate) fn role(
    words: &[OsString],
    environment: &BTreeMap<String, String>,
) -> Option<(Invocation, Vec<OsString>)> {
    let name = words.first().and_then(|word| Path::new(word).file_name());
    if name.is_some_and(|name| name == "kamal-proxy") {
        return Some((Invocation::KamalProxy, words.iter().skip(1).cloned().collect()));
    }
    let is_inside = environment.get(ROLE).is_some_and(|role| role == "proxy");
    match words {
        [_, first, rest @ ..] if first == "proxy" => {
            let is_own = rest.first().is_some_and(|verb| VERBS.iter().any(|known| verb == known));
            let names_socket = environment.contains_key("KAMAL_PROXY_SOCKET")
                || rest.iter().any(|word| word.to_str().is_some_and(|word| word.starts_with("--socket")));
            let is_shared = rest.first().is_some_and(|verb| SHARED_VERBS.iter().any(|known| verb == known));
            (is_own || is_inside || (is_shared && names_socket))
                .then(|| (Invocation::Freehold, rest.to_vec()))
        }
        _ => None,
    }
}

/// Runs the proxy, or speaks with the one that runs.
pub(crate) fn run(invocation: Invocation, arguments: Vec<OsString>) -> ExitCode {
    let console = Console {
        input: Box::new(io::stdin()),
        output: Box::new(io::stdout()),
        errors: Box::new(io::stderr()),
        is_terminal: io::stdout().is_terminal(),
    };
    match freehold_proxy::run(arguments, invocation, &environment(), console) {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error, Format::Plain),
    }
}

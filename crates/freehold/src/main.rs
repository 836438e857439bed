//! The `freehold` executable: picks client, proxy or agent, shows the error, exits.
//!
//! This is the only place that reads the environment, the working directory and the terminal, and that ends the process.

#[cfg(feature = "agent")]
mod agent;
#[cfg(feature = "client")]
mod client;
mod failure;
#[cfg(feature = "client")]
mod interrupt;
#[cfg(feature = "client")]
mod logs;
#[cfg(feature = "proxy")]
mod on_host;
#[cfg(feature = "proxy")]
mod proxy;

#[cfg(any(feature = "client", feature = "proxy"))]
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;

use freehold_model::Diagnose;

use failure::Format;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    #[cfg(feature = "proxy")]
    if let [_, first, script] = words.as_slice()
        && first == on_host::WORD
    {
        return on_host::run(script);
    }
    #[cfg(feature = "proxy")]
    if let Some((invocation, arguments)) = proxy::role(&words, &environment()) {
        return proxy::run(invocation, arguments);
    }
    #[cfg(feature = "agent")]
    if let Some(arguments) = agent::role(&words) {
        return agent::run(arguments);
    }
    #[cfg(feature = "client")]
    return client::run(&words);
    #[cfg(not(feature = "client"))]
    fail(&NoClient, Format::Plain)
}

/// This executable was built without the client.
#[cfg(not(feature = "client"))]
#[derive(Debug, thiserror::Error)]
#[error(
    "this executable was built without the client: it knows `proxy` and `agent` only, as far as they are in it"
)]
struct NoClient;

#[cfg(not(feature = "client"))]
impl Diagnose for NoClient {
    fn kind(&self) -> freehold_model::ErrorKind {
        freehold_model::ErrorKind::Usage
    }
}

/// Shows an error and returns its exit code.
fn fail(error: &(dyn Diagnose + Send + Sync), format: Format) -> ExitCode {
    failure::show(error, format);
    ExitCode::from(error.kind().exit_code())
}

/// Returns the environment. Variables that are not UTF-8 are left out.
#[cfg(any(feature = "client", feature = "proxy"))]
fn environment() -> BTreeMap<String, String> {
    #[expect(clippy::disallowed_methods, reason = "main is where the environment is read")]
    let variables = std::env::vars_os();
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

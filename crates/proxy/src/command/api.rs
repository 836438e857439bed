//! `api`: standard input and output as a way to the control socket, for use through `docker exec`.

use std::collections::BTreeMap;
use std::io;

use freehold_wire::bridge;

use super::arguments::ApiArguments;
use super::{CommandError, Console, socket_path};

/// Copies both ways until the proxy has closed its side.
pub(super) fn run(
    arguments: &ApiArguments,
    environment: &BTreeMap<String, String>,
    console: &mut Console,
) -> Result<(), CommandError> {
    let path = socket_path(&arguments.socket, environment);
    let input = std::mem::replace(&mut console.input, Box::new(io::empty()));
    bridge(&path, input, &mut console.output).map_err(|source| CommandError::Bridge { path, source })
}

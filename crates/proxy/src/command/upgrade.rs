//! `upgrade`: a new process in the place of the one that runs.

use std::collections::BTreeMap;

use freehold_wire::UpgradeRequest;

use super::arguments::UpgradeArguments;
use super::request::{CALL_LIMIT, call, milliseconds};
use super::{CommandError, Console, socket_path};
use crate::limits::Limits;

pub(super) fn run(
    arguments: &UpgradeArguments,
    environment: &BTreeMap<String, String>,
    console: &mut Console,
) -> Result<(), CommandError> {
    let path = socket_path(&arguments.socket, environment);
    let request = UpgradeRequest {
        executable: arguments.executable.clone(),
        drain_timeout_ms: milliseconds(arguments.drain_timeout),
    };
    // The proxy waits for a change that is going on, and then for the new process.
    let limit = Limits::default().hand_over * 2 + CALL_LIMIT;
    let reply = call(&path, async |mut client| client.upgrade(&request, limit).await)?;
    let text = format!(
        "handed over to version {} (process {}) in {} ms\n",
        reply.version, reply.process_id, reply.elapsed_ms
    );
    console.output.write_all(text.as_bytes()).map_err(|source| CommandError::Output { source })
}

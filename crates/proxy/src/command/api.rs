//! `api`: standard input and output as a way to the control socket, for use through `docker exec`.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use super::arguments::ApiArguments;
use super::{CommandError, Console, socket_path};

const BLOCK_BYTES: usize = 16 * 1024;

/// Copies both ways until the proxy has closed its side. The end of the input closes only the way to the proxy, so that an
/// answer that is on its way still comes.
pub(super) fn run(
    arguments: &ApiArguments,
    environment: &BTreeMap<String, String>,
    console: &mut Console,
) -> Result<(), CommandError> {
    let path = socket_path(&arguments.socket, environment);
    let failed = |source| CommandError::Bridge { path: path.clone(), source };
    let mut socket = UnixStream::connect(&path).map_err(failed)?;
    let mut upward = socket.try_clone().map_err(failed)?;
    let mut input = std::mem::replace(&mut console.input, Box::new(io::empty()));
    // A read of standard input cannot be interrupted: the thread ends with the input, or with the process.
    let thread = std::thread::Builder::new().name("input".to_owned()).spawn(move || {
        // A failure to send shows as the end of the other direction, which is reported.
        copy(&mut input, &mut upward).ok();
        upward.shutdown(Shutdown::Write).ok();
    });
    drop(thread.map_err(failed)?);
    copy(&mut socket, &mut console.output).map_err(failed)
}

/// Copies until the end, passing on each piece at once.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let length = match from.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(block.get(..length).unwrap_or_default())?;
        to.flush()?;
    }
}

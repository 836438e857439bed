use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

const BLOCK_BYTES: usize = 16 * 1024;

/// Connects an input and an output to a control socket, so that `docker exec` is a way to it.
///
/// It copies both ways until the other side has closed its end. The end of the input closes only the way to there, so that
/// an answer that is on its way still comes.
///
/// # Errors
/// Where the socket cannot be connected to, or reading from it or writing the output fails.
pub fn bridge(
    socket: &Path,
    mut input: Box<dyn Read + Send>,
    output: &mut dyn Write,
) -> Result<(), io::Error> {
    let mut downward = UnixStream::connect(socket)?;
    let mut upward = downward.try_clone()?;
    // A read of standard input cannot be interrupted: the thread ends with the input, or with the process.
    let thread = std::thread::Builder::new().name("input".to_owned()).spawn(move || {
        // A failure to send shows as the end of the other direction, which is reported.
        copy(&mut input, &mut upward).ok();
        upward.shutdown(Shutdown::Write).ok();
    });
    drop(thread?);
    copy(&mut downward, output)
}

/// Copies until the end, passing on each piece at once.
fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
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

//! What is left of the first process after it has handed over: it passes signals on and ends with the last of the others.

use std::collections::BTreeSet;
use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, wait};
use tokio::signal::unix::{SignalKind, signal};

use super::signals::Signals;

/// Stays until every process that this one has left behind has ended; returns the exit code of the last.
///
/// # Errors
/// Where the system gives no signals.
pub(crate) async fn supervise(signals: &mut Signals) -> io::Result<u8> {
    let mut ended = signal(SignalKind::child())?;
    let (mut code, mut is_stopping, mut told) = (0, false, BTreeSet::new());
    loop {
        match reap(&mut code) {
            Ok(()) => {}
            Err(Errno::CHILD) => return Ok(code),
            Err(error) => return Err(error.into()),
        }
        if is_stopping {
            // Also those that an ended one has left behind meanwhile.
            for id in children()? {
                if told.insert(id.as_raw_nonzero()) {
                    // One that has ended already needs no signal.
                    kill_process(id, Signal::TERM).ok();
                }
            }
        }
        tokio::select! {
            _ = ended.recv() => {}
            _ = signals.next() => is_stopping = true,
        }
    }
}

/// Takes note of all that have ended; an error where nobody is left.
fn reap(code: &mut u8) -> rustix::io::Result<()> {
    while let Some((_, status)) = wait(WaitOptions::NOHANG)? {
        let signalled = status.terminating_signal().map(|signal| 128 + signal);
        let ended = status.exit_status().or(signalled).unwrap_or_default();
        *code = u8::try_from(ended).unwrap_or(u8::MAX);
    }
    Ok(())
}

/// Returns the processes whose parent this one is.
fn children() -> io::Result<Vec<Pid>> {
    let own = getpid().as_raw_nonzero().get();
    let mut found = Vec::new();
    for entry in fs_err::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // One that has just ended has no file any more.
        let stat = fs_err::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // The second field is the name in brackets, which may hold anything; the parent is the fourth.
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
        if parent.and_then(|parent| parent.parse().ok()) == Some(own) {
            found.extend(Pid::from_raw(id));
        }
    }
    Ok(found)
}

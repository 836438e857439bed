//! A program whose standard output is its result: bounded in size and time, and ended with all that it started.

use std::collections::VecDeque;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// How many of the last lines of a program that failed are kept.
const LAST_LINES: usize = 20;

/// How much of a line is kept, bytes: what somebody looks at.
const LONGEST_LINE: usize = 4096;

/// How long a program that is to end may tidy up.
const GRACE: Duration = Duration::from_secs(3);

/// What a program may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The longest result that is taken, bytes.
    pub(super) result: usize,
    /// How long it may take.
    pub(super) time: Duration,
}

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// All that it wrote to its standard output.
    pub(super) result: String,
    /// The last lines of everything that it wrote.
    pub(super) last: Vec<String>,
}

/// Why a program did not end by itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutputError {
    #[error("cannot be started")]
    Start(#[source] io::Error),
    #[error("its output was lost")]
    Lost(#[source] io::Error),
    #[error("it wrote more than {0} bytes")]
    TooMuch(usize, Vec<String>),
    #[error("it took longer than {0:?}")]
    TooLong(Duration, Vec<String>),
    #[error("it was to stop")]
    Stopped,
}

/// Runs a program and hands on each line that it writes beside its result.
///
/// # Cancel safety
/// Whoever drops it leaves processes that the program started; `stop` ends them.
pub(super) async fn run(
    mut command: Command,
    bounds: Bounds,
    show: &(dyn Fn(String) + Sync),
    stop: &CancellationToken,
) -> Result<Ended, OutputError> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        // A group of its own: what it starts ends with it.
        .process_group(0)
        .spawn()
        .map_err(OutputError::Start)?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(OutputError::Lost(io::Error::other("it has no pipes")));
    };
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let mut lines = Lines::default();
    let mut result = Vec::new();
    let all = async {
        tokio::try_join!(
            read_result(stdout, &mut result, bounds.result),
            read_lines(stderr, &mut lines, show)
        )?;
        child.wait().await.map_err(OutputError::Lost)
    };
    let ended = tokio::select! {
        ended = tokio::time::timeout(bounds.time, all) => ended,
        () = stop.cancelled() => Ok(Err(OutputError::Stopped)),
    };
    let last = |result: &[u8]| lines.after(&String::from_utf8_lossy(result));
    match ended {
        Ok(Ok(status)) => {
            Ok(Ended { status, last: last(&result), result: String::from_utf8_lossy(&result).into_owned() })
        }
        Ok(Err(error)) => {
            end(&mut child, group).await;
            Err(match error {
                OutputError::TooMuch(limit, _) => OutputError::TooMuch(limit, last(&[])),
                error => error,
            })
        }
        Err(_) => {
            end(&mut child, group).await;
            Err(OutputError::TooLong(bounds.time, last(&result)))
        }
    }
}

/// Ends a program and all that it started: asks first, then does.
async fn end(child: &mut Child, group: Option<Pid>) {
    let Some(group) = group else { return };
    let asked = kill_process_group(group, Signal::TERM);
    let ended = tokio::time::timeout(GRACE, child.wait()).await;
    // Mostly none is left.
    let killed = kill_process_group(group, Signal::KILL);
    tracing::debug!(?asked, ?ended, ?killed, "a program was ended");
}

async fn read_result(
    mut pipe: impl AsyncRead + Unpin,
    result: &mut Vec<u8>,
    limit: usize,
) -> Result<(), OutputError> {
    while pipe.read_buf(result).await.map_err(OutputError::Lost)? > 0 {
        if result.len() > limit {
            return Err(OutputError::TooMuch(limit, Vec::new()));
        }
    }
    Ok(())
}

/// The last lines of what a program wrote.
#[derive(Default)]
struct Lines {
    open: Vec<u8>,
    last: VecDeque<String>,
}

impl Lines {
    fn take(&mut self, bytes: &[u8], show: &(dyn Fn(String) + Sync)) {
        for (index, piece) in bytes.split(|byte| *byte == b'\n').enumerate() {
            if index > 0 {
                self.close(show);
            }
            let room = LONGEST_LINE.saturating_sub(self.open.len()).min(piece.len());
            self.open.extend(piece.get(..room).unwrap_or_default());
        }
    }

    fn close(&mut self, show: &(dyn Fn(String) + Sync)) {
        let line = String::from_utf8_lossy(&self.open).trim_end().to_owned();
        self.open.clear();
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.clone());
        show(line);
    }

    /// Returns the last lines, behind those of a result.
    fn after(&self, result: &str) -> Vec<String> {
        let cut = |line: &str| line.chars().take(LONGEST_LINE).collect::<String>();
        let result: Vec<String> = result.lines().rev().take(LAST_LINES).map(cut).collect();
        let all: Vec<String> = result.into_iter().rev().chain(self.last.iter().cloned()).collect();
        all.get(all.len().saturating_sub(LAST_LINES)..).unwrap_or_default().to_vec()
    }
}

async fn read_lines(
    mut pipe: impl AsyncRead + Unpin,
    lines: &mut Lines,
    show: &(dyn Fn(String) + Sync),
) -> Result<(), OutputError> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = pipe.read(&mut buffer).await.map_err(OutputError::Lost)?;
        if count == 0 {
            break;
        }
        lines.take(buffer.get(..count).unwrap_or_default(), show);
    }
    if !lines.open.is_empty() {
        lines.close(show);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { result: 1 << 20, time: Duration::from_secs(60) };

    async fn shell(script: &str, bounds: Bounds, stop: &CancellationToken) -> Result<Ended, OutputError> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        run(command, bounds, &|_| (), stop).await
    }

    #[tokio::test]
    async fn the_result_and_the_last_lines_are_kept() {
        let stop = CancellationToken::new();
        let script = "echo one; for i in $(seq 30); do echo line $i >&2; done; printf end >&2; exit 3";
        let ended = shell(script, BOUNDS, &stop).await.unwrap();
        assert_eq!((ended.status.code(), ended.result.as_str()), (Some(3), "one\n"));
        assert_eq!((ended.last.len(), ended.last[0].as_str()), (20, "line 12"));
        assert_eq!(ended.last[19], "end");
        let ended = shell("echo '{}'; echo warning >&2", BOUNDS, &stop).await.unwrap();
        assert_eq!(ended.last, ["{}", "warning"]);
    }

    #[tokio::test]
    async fn floods_are_bounded() {
        let stop = CancellationToken::new();
        // Far more than may be kept, as one line and as many.
        let flood =
            "head -c 20000000 /dev/zero | tr '\\0' x >&2; echo >&2; yes | head -n 200000 >&2; echo all";
        let ended = shell(flood, BOUNDS, &stop).await.unwrap();
        assert_eq!((ended.result.as_str(), ended.last.len()), ("all\n", 20));
        let ended = shell("head -c 20000000 /dev/zero | tr '\\0' x >&2", BOUNDS, &stop).await.unwrap();
        assert_eq!(ended.last[0].len(), LONGEST_LINE);
        let refused = shell("echo why >&2; exec yes", BOUNDS, &stop).await.unwrap_err();
        assert!(matches!(&refused, OutputError::TooMuch(1_048_576, _)), "{refused:?}");
    }

    /// Opening a pipe without waiting for its other end.
    const O_NONBLOCK: i32 = 0o4000;

    /// Runs a script that is not to end by itself, does something at its first line, and waits until all that it started has
    /// gone.
    async fn ended(script: &str, at_first: impl Fn() + Sync, stop: &CancellationToken) -> OutputError {
        use std::os::unix::fs::OpenOptionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("exec 7> {}; {script}", pipe.display())]);
        // The end of the pipe comes when the last of those has ended that inherited it.
        let read = pipe.clone();
        let gone = std::thread::spawn(move || fs_err::read(read).unwrap());
        let error = run(command, BOUNDS, &|_| at_first(), stop).await.unwrap_err();
        // If it came to no writer at all, this is the first.
        drop(std::fs::OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(&pipe));
        gone.join().unwrap();
        error
    }

    #[tokio::test]
    async fn what_takes_too_long_ends_with_all_that_it_started() {
        let stop = CancellationToken::new();
        // The second does not let itself be asked.
        for script in
            ["echo begun >&2; sleep 600 & wait", "echo begun >&2; trap '' TERM; sleep 600 & sleep 600"]
        {
            // With the clock stopped, all waiting is over as soon as nothing else happens.
            let error = ended(script, tokio::time::pause, &stop).await;
            tokio::time::resume();
            assert!(matches!(&error, OutputError::TooLong(_, last) if last == &["begun"]), "{error:?}");
        }
    }

    #[tokio::test]
    async fn what_prints_too_much_or_is_to_stop_ends_with_all_that_it_started() {
        let stop = CancellationToken::new();
        let error = ended("sleep 600 & exec yes", || (), &stop).await;
        assert!(matches!(error, OutputError::TooMuch(..)), "{error:?}");
        let error = ended("echo begun >&2; sleep 600 & wait", || stop.cancel(), &stop).await;
        assert!(matches!(error, OutputError::Stopped), "{error:?}");
    }
}

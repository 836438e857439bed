use std::any::Any;
use std::time::Duration;

use freehold_ssh::quote;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Mutex;

/// A `/bin/sh` on a host that stays open, so that a script costs a round trip and not a login.
///
/// Scripts run one after another, each in a subshell with an empty standard input. What they print comes back whole;
/// they must print little.
pub(super) struct HostShell {
    process: Mutex<Option<ShellProcess>>,
}

/// The three streams of a running `/bin/sh`.
pub(super) struct ShellStreams {
    /// Its standard input.
    pub(super) stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its standard output.
    pub(super) stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard error.
    pub(super) stderr: Box<dyn AsyncRead + Send + Unpin>,
    /// Whatever must live as long as the shell.
    pub(super) _guard: Box<dyn Any + Send>,
}

struct ShellProcess {
    streams: ShellStreams,
    marker: String,
    count: u64,
}

/// What a script printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShellOutput {
    /// Its exit code.
    pub(super) code: i32,
    /// Its standard output.
    pub(super) stdout: String,
    /// Its standard error.
    pub(super) stderr: String,
}

/// Why a script's end is not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShellError {
    /// The stream broke.
    #[error("the shell's connection broke")]
    Io(#[from] std::io::Error),
    /// The shell ended.
    #[error("the shell ended")]
    Ended,
    /// It took too long.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// The script printed more than we take.
    #[error("the script printed more than {0} bytes")]
    TooMuch(usize),
}

const OUTPUT_LIMIT_BYTES: usize = 16 * 1024 * 1024;

impl HostShell {
    /// Takes over a running shell. The marker separates the outputs of scripts and must be hard to guess.
    pub(super) fn new(streams: ShellStreams, marker: String) -> Self {
        Self { process: Mutex::new(Some(ShellProcess { streams, marker, count: 0 })) }
    }

    /// Runs a script.
    ///
    /// # Errors
    /// [`ShellError`]; the shell cannot be used any more then.
    pub(super) async fn run(&self, script: &str, deadline: Duration) -> Result<ShellOutput, ShellError> {
        let mut slot = self.process.lock().await;
        // Taken out while it works: a caller that is dropped half-way leaves no shell with an unread answer behind.
        let mut process = slot.take().ok_or(ShellError::Ended)?;
        let output = tokio::time::timeout(deadline, process.run(script))
            .await
            .map_err(|_| ShellError::Deadline(deadline))??;
        *slot = Some(process);
        Ok(output)
    }
}

impl ShellProcess {
    async fn run(&mut self, script: &str) -> Result<ShellOutput, ShellError> {
        self.count += 1;
        let end = format!("{}-{}", self.marker, self.count);
        let line = format!(
            "( eval {} ) </dev/null; printf '\\n%s %s\\n' {end} $?; printf '\\n%s\\n' {end} >&2\n",
            quote(script)
        );
        self.streams.stdin.write_all(line.as_bytes()).await?;
        self.streams.stdin.flush().await?;
        let (out_marker, error_marker) = (format!("\n{end} "), format!("\n{end}"));
        let (stdout, stderr) = tokio::try_join!(
            read_until(&mut self.streams.stdout, &out_marker),
            read_until(&mut self.streams.stderr, &error_marker)
        )?;
        let code = stdout.1.trim().parse().map_err(|_| ShellError::Ended)?;
        Ok(ShellOutput { code, stdout: stdout.0, stderr: stderr.0 })
    }
}

/// Reads up to a marker and the end of its line. Returns what stood before it and the rest of its line.
async fn read_until(
    reader: &mut (dyn AsyncRead + Send + Unpin),
    marker: &str,
) -> Result<(String, String), ShellError> {
    let mut seen: Vec<u8> = Vec::new();
    let mut buffer = vec![0_u8; 16 * 1024];
    loop {
        let count = reader.read(&mut buffer).await?;
        if count == 0 {
            return Err(ShellError::Ended);
        }
        let searched_from = seen.len().saturating_sub(marker.len());
        seen.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if seen.len() > OUTPUT_LIMIT_BYTES {
            return Err(ShellError::TooMuch(OUTPUT_LIMIT_BYTES));
        }
        // The rest of the marker's line may come in a later read: look again from where the marker may begin.
        let from = searched_from.saturating_sub(64);
        if let Some(found) = find(seen.get(from..).unwrap_or_default(), marker.as_bytes()) {
            let start = from + found;
            let rest = seen.get(start + marker.len()..).unwrap_or_default();
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let before = String::from_utf8_lossy(seen.get(..start).unwrap_or_default()).into_owned();
                let line = String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).into_owned();
                return Ok((before, line));
            }
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

impl std::fmt::Debug for HostShell {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HostShell").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    fn shell() -> HostShell {
        let mut child = tokio::process::Command::new("/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a shell");
        let streams = ShellStreams {
            stdin: Box::new(child.stdin.take().expect("stdin")),
            stdout: Box::new(child.stdout.take().expect("stdout")),
            stderr: Box::new(child.stderr.take().expect("stderr")),
            _guard: Box::new(child),
        };
        HostShell::new(streams, "marker-4711".to_owned())
    }

    const SOON: Duration = Duration::from_secs(10);

    /// kamal-compat §18 row 12: one shell for all scripts, one round trip each.
    #[tokio::test]
    async fn scripts_do_not_disturb_one_another() {
        let shell = shell();
        let first = shell.run("cat; echo out; echo err >&2; exit 3", SOON).await.expect("runs");
        assert_eq!(first, ShellOutput { code: 3, stdout: "out\n".into(), stderr: "err\n".into() });
        let broken = shell.run("if then ((", SOON).await.expect("a syntax error ends only the script");
        assert_ne!(broken.code, 0);
        let quoted = shell.run("printf '%s' 'it'\\''s \"$HOME\"'", SOON).await.expect("runs");
        assert_eq!(quoted.stdout, "it's \"$HOME\"");
        let large = shell.run("yes 0123456789 | head -n 100000", SOON).await.expect("runs");
        assert_eq!(large.stdout.len(), 1_100_000);
    }

    #[tokio::test]
    async fn a_script_that_hangs_ends_the_shell() {
        let shell = shell();
        let hung = shell.run("sleep 5", Duration::from_millis(50)).await;
        assert!(matches!(hung, Err(ShellError::Deadline(_))));
        assert!(matches!(shell.run("true", SOON).await, Err(ShellError::Ended)));
    }
}

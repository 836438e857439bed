use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::LabError;

/// What a finished program left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit code; `None` where a signal ended the program.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// Runs a program to its end and returns whatever it did, also when that is a failure.
pub(super) async fn attempt(
    program: &str,
    arguments: &[&str],
    input: Option<&[u8]>,
    limit: Duration,
) -> Result<Output, LabError> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| LabError::Spawn { program: program.to_owned(), source })?;
    let stdin = child.stdin.take();
    let feed = async {
        if let (Some(mut stdin), Some(bytes)) = (stdin, input) {
            // A program that ends before it has read everything says why by its exit code.
            stdin.write_all(bytes).await.ok();
            stdin.shutdown().await.ok();
        }
    };
    let (output, ()) = tokio::time::timeout(limit, async { tokio::join!(child.wait_with_output(), feed) })
        .await
        .map_err(|_| LabError::TooSlow { what: line(program, arguments), limit })?;
    let output = output?;
    Ok(Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a program that has to succeed and returns what it wrote to stdout.
pub(super) async fn run(program: &str, arguments: &[&str], limit: Duration) -> Result<String, LabError> {
    checked(program, arguments, attempt(program, arguments, None, limit).await?)
}

/// Turns an exit code other than 0 into an error.
pub(super) fn checked(program: &str, arguments: &[&str], output: Output) -> Result<String, LabError> {
    if output.code == Some(0) {
        return Ok(output.stdout);
    }
    let status = output.code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
    let stderr = format!("{}{}", output.stderr, output.stdout).trim().to_owned();
    Err(LabError::Command { command: line(program, arguments), status, stderr })
}

fn line(program: &str, arguments: &[&str]) -> String {
    let mut line = program.to_owned();
    for argument in arguments {
        line.push(' ');
        line.push_str(argument);
    }
    line
}

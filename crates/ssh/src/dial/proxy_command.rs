use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinSet;

use crate::deadline::Deadline;
use crate::text::printable;

/// A command whose standard input and output are the connection. Dropped, it and its children are killed.
#[derive(Debug)]
pub(crate) struct ProxyCommand {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    complaints: Complaints,
}

/// The end of what a command wrote to standard error.
#[derive(Debug, Clone, Default)]
pub(crate) struct Complaints(Arc<Collected>);

#[derive(Debug, Default)]
struct Collected {
    text: Mutex<Vec<u8>>,
    /// Reads while somebody has an interest in it: a closed pipe could end the command.
    reader: Mutex<JoinSet<()>>,
}

impl Complaints {
    const LIMIT_BYTES: usize = 4096;

    /// Returns them as text that can be shown, all of them if the command ends before the deadline.
    pub(crate) async fn text(&self, deadline: &Deadline) -> String {
        let mut reader = std::mem::take(&mut *self.0.reader.lock());
        if deadline.within(reader.join_next()).await.is_none() {
            tracing::debug!("the proxy command is still writing");
        }
        printable(String::from_utf8_lossy(&self.0.text.lock()).trim())
    }

    fn collect(&self, mut from: ChildStderr) {
        // The task must not keep alive what ends it.
        let collected = Arc::downgrade(&self.0);
        self.0.reader.lock().spawn(async move {
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = from.read(&mut buffer).await {
                let Some(collected) = collected.upgrade() else { return };
                let mut kept = collected.text.lock();
                kept.extend_from_slice(buffer.get(..count).unwrap_or_default());
                let excess = kept.len().saturating_sub(Self::LIMIT_BYTES);
                kept.drain(..excess);
            }
        });
    }
}

impl ProxyCommand {
    /// Starts a command in the shell, as OpenSSH does.
    pub(crate) fn start(command: &str) -> io::Result<Self> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", &format!("exec {command}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (Some(input), Some(output), Some(error)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("the command has no standard streams"));
        };
        let complaints = Complaints::default();
        complaints.collect(error);
        Ok(Self { child, input, output, complaints })
    }

    pub(crate) fn complaints(&self) -> Complaints {
        self.complaints.clone()
    }
}

impl Drop for ProxyCommand {
    fn drop(&mut self) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = id
            && let Err(error) = kill_process_group(group, Signal::KILL)
        {
            tracing::trace!(%error, "the proxy command had ended");
        }
    }
}

impl AsyncRead for ProxyCommand {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(context, buffer)
    }
}

impl AsyncWrite for ProxyCommand {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.input).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_shutdown(context)
    }
}

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Transport;

/// Hears the beginning of what the other side says, on the way to the protocol.
pub(crate) struct Greeting<T> {
    stream: T,
    heard: Heard,
    /// How many bytes are still of interest.
    left: usize,
}

/// The beginning of what the other side has said.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<u8>>>);

/// One line of this length at most counts as a word of farewell.
const FAREWELL_BYTES: usize = 64;

impl Heard {
    /// Says whether the other side has said nothing, or one short line that does not identify an SSH server: so sshd
    /// drops connections that are too many (`MaxStartups`, `PerSourcePenalties`).
    pub(crate) fn is_brushed_off(&self) -> bool {
        let heard = self.0.lock();
        let lines = heard.iter().filter(|byte| **byte == b'\n').count();
        heard.len() < FAREWELL_BYTES && lines <= 1 && !heard.starts_with(b"SSH-")
    }
}

impl<T: Transport> Greeting<T> {
    pub(crate) fn new(stream: T, heard: &Heard) -> Self {
        Self { stream, heard: heard.clone(), left: FAREWELL_BYTES }
    }
}

impl<T: Transport> AsyncRead for Greeting<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.left > 0 {
            let new = buffer.filled().get(before..).unwrap_or_default();
            self.heard.0.lock().extend(new.iter().take(self.left));
            self.left = self.left.saturating_sub(new.len());
        }
        polled
    }
}

impl<T: Transport> AsyncWrite for Greeting<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

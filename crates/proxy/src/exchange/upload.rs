//! The request's way to the target.

use std::future::{pending, poll_fn};
use std::time::Duration;

use freehold_wire::Reason;
use tokio::io::ReadBuf;

use super::hold::HeldBody;
use super::{Failure, Progress};
use crate::http1::Framing;
use crate::http1::body::{Body, write_chunk, write_last_chunk};
use crate::inlet::{Inlet, send};
use crate::link::TargetWriter;
use crate::pace::Pace;
use crate::spool::SpoolError;
use crate::stream::ClientReader;
use crate::watch::Watch;
use crate::worker::Worker;

/// Tells the client to send its body.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How much body is sent together with the head.
const MAX_BODY_WITH_HEAD: usize = 16 * 1024;

pub(super) struct Upload<'u, 's> {
    pub(super) client: &'u mut ClientReader<'s>,
    pub(super) target: &'u mut TargetWriter<'s>,
    pub(super) inlet: &'u mut Inlet,
    pub(super) body: &'u mut Body,
    /// The body, where it was received before.
    pub(super) held: Option<&'u mut HeldBody>,
    pub(super) framing: Framing,
    pub(super) head: &'u [u8],
    /// How many bytes at the front of the inlet are the head itself, kept because it may be sent again.
    pub(super) skip: usize,
    pub(super) progress: &'u Progress,
    pub(super) watch: &'u Watch,
    pub(super) worker: &'u Worker,
    pub(super) response_limit: Option<Duration>,
}

impl Upload<'_, '_> {
    /// Sends the request and then watches for the client to leave. It ends only by a failure.
    pub(super) async fn run(mut self, expects_continue: bool) -> Failure {
        match self.send_request(expects_continue).await {
            Ok(()) => {
                self.progress.uploaded.set(true);
                self.progress.waits_for_client.set(false);
                if self.progress.status.get() == 0 {
                    self.await_answer();
                } else {
                    self.watch.disarm();
                }
                self.client_leaves().await
            }
            Err(failure) => {
                if matches!(failure, Failure::Target(_)) {
                    self.await_answer();
                }
                failure
            }
        }
    }

    fn await_answer(&self) {
        self.progress.waits_for_client.set(false);
        match self.response_limit {
            Some(limit) => self.watch.arm(limit),
            None => self.watch.disarm(),
        }
    }

    async fn send_request(&mut self, expects_continue: bool) -> Result<(), Failure> {
        const CLOSED: Failure = Failure::Target(Reason::TargetClosed);
        if let Some(held) = self.held.take() {
            return self.send_held(held).await;
        }
        if self.body.is_done() {
            return send(self.target, self.head).await.map_err(|_| CLOSED);
        }
        let (mut out, mut pace) = (self.head.to_vec(), Pace::new());
        self.watch.arm(self.worker.limits.upload);
        self.take_body(&mut out)?;
        let mut awaits_continue = expects_continue && !self.body.is_done();
        loop {
            send(self.target, &out).await.map_err(|_| CLOSED)?;
            out.clear();
            if self.body.is_done() {
                return Ok(());
            }
            if std::mem::take(&mut awaits_continue) && !self.progress.head_sent.get() {
                // The answer's half of the connection is another's; nothing can be in it yet but this.
                self.client.send_aside(CONTINUE).await.map_err(|_| Failure::ClientGone)?;
            }
            if self.inlet.is_empty() {
                self.progress.waits_for_client.set(true);
                self.watch.arm(pace.begin(&self.worker.limits));
                match self.inlet.fill(self.client).await {
                    Ok(length) if length > 0 => pace.received(length),
                    _ => return Err(Failure::ClientGone),
                }
                self.progress.waits_for_client.set(false);
                self.watch.arm(self.worker.limits.upload);
            }
            self.take_body(&mut out)?;
        }
    }

    /// Sends a body that was received before.
    async fn send_held(&mut self, held: &mut HeldBody) -> Result<(), Failure> {
        held.spool.rewind().await.map_err(|error| {
            let is_full = matches!(error, SpoolError::Full { .. });
            Failure::Buffer(if is_full { Reason::BufferFull } else { Reason::BufferFailed })
        })?;
        let mut out = self.head.to_vec();
        self.write_piece(held.spool.memory(), &mut out);
        loop {
            self.watch.arm(self.worker.limits.upload);
            send(self.target, &out).await.map_err(|_| Failure::Target(Reason::TargetClosed))?;
            out.clear();
            let block = held.spool.next_block().await.map_err(|_| Failure::Buffer(Reason::BufferFailed))?;
            if block.is_empty() {
                break;
            }
            self.write_piece(&block, &mut out);
        }
        if self.framing == Framing::Chunked {
            write_last_chunk(&held.trailers, &mut out);
            send(self.target, &out).await.map_err(|_| Failure::Target(Reason::TargetClosed))?;
        }
        Ok(())
    }

    fn write_piece(&self, data: &[u8], out: &mut Vec<u8>) {
        if self.framing == Framing::Chunked {
            write_chunk(data, out);
        } else {
            out.extend_from_slice(data);
        }
    }

    /// Takes what was received of the body, at most so much that it is worth copying.
    fn take_body(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        while !self.body.is_done() && !self.inlet.is_empty() && out.len() < MAX_BODY_WITH_HEAD * 4 {
            let filled = self.inlet.filled();
            let step = self.body.step(filled).map_err(|_| Failure::Malformed)?;
            let data = filled.get(step.data).unwrap_or_default();
            self.progress.request_bytes.update(|bytes| bytes + data.len() as u64);
            if self.framing == Framing::Chunked {
                write_chunk(data, out);
            } else {
                out.extend_from_slice(data);
            }
            self.inlet.consume(step.consumed);
        }
        if self.body.is_done() && self.framing == Framing::Chunked {
            write_last_chunk(self.body.trailers(), out);
        }
        Ok(())
    }

    /// Ends when the client has closed its side, as long as it has sent nothing further.
    async fn client_leaves(&mut self) -> Failure {
        if self.inlet.filled().len() > self.skip {
            return pending().await;
        }
        if let Some(stream) = self.client.stream() {
            poll_fn(|context| stream.poll_gone(context)).await;
            return Failure::ClientGone;
        }
        let mut byte = [0];
        let seen = match self.client.plain() {
            Some(client) => poll_fn(|context| client.poll_peek(context, &mut ReadBuf::new(&mut byte))).await,
            // What comes cannot be looked at without taking it; the next request is kept for later.
            None => self.inlet.fill(self.client).await,
        };
        match seen {
            Ok(0) | Err(_) => Failure::ClientGone,
            Ok(_) => pending().await,
        }
    }
}

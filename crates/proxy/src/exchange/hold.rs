//! Receiving a request's body as a whole before a target is asked.

use std::sync::Arc;

use freehold_wire::{Buffering, Reason};

use super::upload::CONTINUE;
use super::{Failure, Run};
use crate::http1::Framing;
use crate::http1::body::Body;
use crate::inlet::send;
use crate::pace::Pace;
use crate::serve::Connection;
use crate::spool::{Spool, SpoolError, SpoolLimits};
use crate::worker::Worker;

/// A body that was received as a whole.
#[derive(Debug)]
pub(super) struct HeldBody {
    pub(super) spool: Spool,
    /// The lines behind it, where it is in chunks.
    pub(super) trailers: Vec<u8>,
    /// The head that came before it, as it came.
    pub(super) head: Vec<u8>,
}

/// Returns how much may be held back.
pub(super) fn limits(worker: &Worker, buffering: &Buffering, total: u64) -> SpoolLimits {
    SpoolLimits {
        memory: usize::try_from(buffering.memory_bytes).unwrap_or(usize::MAX),
        total: (total > 0).then_some(total),
        folder: worker.spill_folder.clone(),
        budget: Arc::clone(&worker.spill_budget),
    }
}

impl Run<'_> {
    /// Receives the body, if the service's bodies are to be held back and there is one.
    pub(super) async fn hold_body(&mut self) -> Result<Option<HeldBody>, Failure> {
        let Some(service) = self.admitted.record.service.clone() else { return Ok(None) };
        let buffering = &service.settings.buffering;
        let framing = self.admitted.framing;
        if !buffering.requests || self.admitted.asked.websocket || framing == Framing::None {
            return Ok(None);
        }
        let limits = limits(&self.connection.worker, buffering, buffering.max_request_bytes);
        if let (Framing::Length(length), Some(limit)) = (framing, limits.total)
            && length > limit
        {
            return Err(Failure::RequestTooLarge);
        }
        let head = self.connection.inlet.filled().get(..self.admitted.head_len).unwrap_or_default().to_vec();
        self.progress.take_head(&mut self.connection.inlet, self.admitted);
        let (mut body, mut spool) = (Body::new(framing), Spool::new(limits));
        self.receive(&mut body, &mut spool).await?;
        self.progress.received.set(true);
        Ok(Some(HeldBody { spool, trailers: body.trailers().to_vec(), head }))
    }

    async fn receive(&mut self, body: &mut Body, spool: &mut Spool) -> Result<(), Failure> {
        let Connection { client, inlet, watch, worker, .. } = &mut *self.connection;
        let mut pace = Pace::new();
        watch.arm(worker.limits.upload);
        if self.admitted.expects_continue && inlet.is_empty() && !body.is_done() {
            send(client, CONTINUE).await.map_err(|_| Failure::ClientGone)?;
        }
        while !body.is_done() {
            if inlet.is_empty() {
                self.progress.waits_for_client.set(true);
                watch.arm(pace.begin(&worker.limits));
                match inlet.fill(client).await {
                    Ok(length) if length > 0 => pace.received(length),
                    _ => return Err(Failure::ClientGone),
                }
                self.progress.waits_for_client.set(false);
                watch.arm(worker.limits.upload);
            }
            let filled = inlet.filled();
            let step = body.step(filled).map_err(|_| Failure::Malformed)?;
            let data = filled.get(step.data).unwrap_or_default();
            self.progress.request_bytes.update(|bytes| bytes + data.len() as u64);
            spool.push(data).await.map_err(|error| match error {
                SpoolError::TooLarge { .. } => Failure::RequestTooLarge,
                SpoolError::File { .. } => Failure::Buffer(Reason::BufferFailed),
                SpoolError::Full { .. } => Failure::Buffer(Reason::BufferFull),
            })?;
            inlet.consume(step.consumed);
        }
        watch.disarm();
        Ok(())
    }
}

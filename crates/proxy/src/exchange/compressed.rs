//! The body of an answer, compressed on its way to the client.

use freehold_wire::{Compression, Reason};

use super::Failure;
use super::download::Download;
use crate::compress::encoder::Encoder;
use crate::http1::Framing;
use crate::http1::body::{Body, write_chunk, write_last_chunk};
use crate::spool::Spool;

const CUT: Failure = Failure::Target(Reason::TargetCutBody);
const UNKEPT: Failure = Failure::Buffer(Reason::BufferFailed);

impl Download<'_, '_> {
    /// Sends the head that is in `out` and the body behind it; says whether nothing came after its end.
    ///
    /// What comes in pieces of an unknown number, as events do, is readable for the client as soon as it is there.
    pub(super) async fn send_compressed(
        &mut self,
        framing: Framing,
        compression: Compression,
        mut out: Vec<u8>,
    ) -> Result<bool, Failure> {
        let mut encoder = Encoder::new(compression).map_err(|_| UNKEPT)?;
        self.progress.head_sent.set(true);
        let streams = !matches!(framing, Framing::Length(_));
        let mut body = Body::new(framing);
        let mut has_ended = false;
        loop {
            while !body.is_done() && !self.inlet.is_empty() {
                let filled = self.inlet.filled();
                let step = body.step(filled).map_err(|_| CUT)?;
                encoder.push(filled.get(step.data).unwrap_or_default()).map_err(|_| UNKEPT)?;
                self.inlet.consume(step.consumed);
            }
            if body.is_done() || has_ended {
                self.end(encoder, body.trailers(), out).await?;
                return Ok(!has_ended && self.inlet.is_empty());
            }
            if streams {
                encoder.flush().map_err(|_| UNKEPT)?;
            }
            self.emit(&encoder.take(), &mut out);
            self.send(&out).await?;
            out.clear();
            match self.inlet.fill(self.target).await {
                Ok(0) if body.may_end_with_connection() => has_ended = true,
                Ok(0) | Err(_) => return Err(CUT),
                Ok(_) => {}
            }
        }
    }

    /// Sends the head that is in `out` and a body that was received as a whole.
    pub(super) async fn send_held_compressed(
        &mut self,
        spool: &mut Spool,
        compression: Compression,
        mut out: Vec<u8>,
    ) -> Result<(), Failure> {
        let mut encoder = Encoder::new(compression).map_err(|_| UNKEPT)?;
        self.progress.head_sent.set(true);
        encoder.push(spool.memory()).map_err(|_| UNKEPT)?;
        loop {
            self.emit(&encoder.take(), &mut out);
            self.send(&out).await?;
            out.clear();
            let block = spool.next_block().await.map_err(|_| UNKEPT)?;
            if block.is_empty() {
                return self.end(encoder, &[], out).await;
            }
            encoder.push(&block).map_err(|_| UNKEPT)?;
        }
    }

    async fn end(&mut self, encoder: Encoder, trailers: &[u8], mut out: Vec<u8>) -> Result<(), Failure> {
        let rest = encoder.finish().map_err(|_| UNKEPT)?;
        self.emit(&rest, &mut out);
        write_last_chunk(trailers, &mut out);
        self.send(&out).await?;
        self.worker.recycle(out);
        Ok(())
    }

    fn emit(&self, data: &[u8], out: &mut Vec<u8>) {
        self.progress.response_bytes.update(|bytes| bytes + data.len() as u64);
        write_chunk(data, out);
    }
}

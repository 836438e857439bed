//! The answer's way to the client.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use freehold_wire::{Compression, Reason};
use tokio::io::AsyncWrite as _;

use super::hold::limits;
use super::{Failure, Progress};
use crate::access::write_headers;
use crate::admit::Admitted;
use crate::compress::{self, Wish};
use crate::http1::body::{Body, BodyError, write_chunk, write_last_chunk};
use crate::http1::header::Kind;
use crate::http1::response::{Coding, Delivery, InvalidResponse, Response, parse_upgraded};
use crate::http1::{Framing, Version, slots};
use crate::inlet::{Inlet, send};
use crate::link::TargetReader;
use crate::spool::{Spool, SpoolError};
use crate::stream::ClientWriter;
use crate::watch::Watch;
use crate::worker::Worker;

/// Up to this size a piece of a body is copied behind what is to be sent anyway; larger ones are sent from where they are.
const MAX_COPY: usize = 16 * 1024;

const INVALID: Failure = Failure::Target(Reason::TargetInvalidResponse);

pub(super) struct Download<'d, 's> {
    pub(super) client: &'d mut ClientWriter<'s>,
    pub(super) target: &'d mut TargetReader<'s>,
    pub(super) inlet: &'d mut Inlet,
    pub(super) admitted: &'d Admitted,
    pub(super) progress: &'d Progress,
    pub(super) watch: &'d Watch,
    pub(super) worker: &'d Worker,
}

/// What a download came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Downloaded {
    /// A whole answer; the connections may be used again, as far as it goes.
    Answer { keep_target: bool, keep_client: bool },
    /// The connection is a tunnel from now on.
    Upgrade,
}

/// What a head at the front of the inlet says.
enum Head {
    /// 1xx; to be sent on or not.
    Interim,
    Upgrade,
    Final {
        framing: Framing,
        coding: Coding,
        keep_target: bool,
        keep_client: bool,
        /// Whether the body may be held back.
        holds: bool,
        /// How the body is compressed.
        compression: Option<Compression>,
    },
}

impl Download<'_, '_> {
    pub(super) async fn run(mut self) -> Result<Downloaded, Failure> {
        let mut out = self.worker.text();
        loop {
            match self.take_head(&mut out).map_err(|_| INVALID)? {
                None => {
                    if !matches!(self.inlet.fill(self.target).await, Ok(length) if length > 0) {
                        return Err(Failure::Target(Reason::TargetClosed));
                    }
                    self.progress.answered.set(true);
                }
                Some(Head::Interim) => {
                    self.send(&out).await?;
                    out.clear();
                }
                Some(Head::Upgrade) => {
                    self.progress.head_sent.set(true);
                    self.send(&out).await?;
                    return Ok(Downloaded::Upgrade);
                }
                Some(Head::Final { framing, coding, keep_target, keep_client, holds, compression }) => {
                    let whole = match (framing, compression) {
                        (Framing::Length(length), _) if holds => {
                            Box::pin(self.send_held(length, compression, out)).await?
                        }
                        (_, Some(compression)) => {
                            Box::pin(self.send_compressed(framing, compression, out)).await?
                        }
                        (_, None) => {
                            self.progress.head_sent.set(true);
                            self.send_body(framing, coding, out).await?
                        }
                    };
                    return Ok(Downloaded::Answer { keep_target: keep_target && whole, keep_client });
                }
            }
        }
    }

    /// Reads a head from the inlet and writes what the client gets of it; none where it is not complete.
    fn take_head(&mut self, out: &mut Vec<u8>) -> Result<Option<Head>, InvalidResponse> {
        let mut slots = slots();
        let filled = self.inlet.filled();
        if filled.is_empty() {
            return Ok(None);
        }
        let upgrade = self.admitted.upgrade.as_deref();
        let response = parse_upgraded(filled, &mut slots, self.admitted.asked, upgrade)?;
        let Some(response) = response else { return Ok(None) };
        let version = self.admitted.version;
        let head_len = response.head_len;
        let head = match response.status {
            101 => {
                self.progress.status.set(101);
                response.write_interim(self.admitted.cookies.as_deref(), out);
                Head::Upgrade
            }
            // The client was told to continue by the proxy itself, or did not ask.
            100 => Head::Interim,
            102..200 => {
                if version == Version::Http11 {
                    response.write_interim(None, out);
                }
                Head::Interim
            }
            status => {
                let (coding, can_keep) = response.coding(version);
                let uploaded = self.progress.uploaded.get();
                let whole = self.progress.has_whole_request();
                let keep_client = self.admitted.keep_alive && can_keep && whole && !self.worker.is_quitting();
                self.progress.status.set(status);
                let kind = response.first(Kind::ContentType).unwrap_or_default();
                self.progress.response_type.replace(kind.to_vec());
                let settings = self.admitted.record.service.as_ref().map(|service| &service.settings);
                if let Some(names) = settings.map(|settings| &settings.log_response_headers) {
                    write_headers("resp", &response.headers, names, &mut self.progress.further.borrow_mut());
                }
                let start = out.len();
                self.worker.clock.with_date(|date| {
                    let cookies = self.admitted.cookies.as_deref();
                    response.write(&Delivery { version, keep_alive: keep_client, date, cookies }, out);
                });
                let compression = match self.admitted.wish {
                    Wish::Off => None,
                    wish => compress::apply(wish, &response, out),
                };
                if let Some(edits) = self.admitted.edits() {
                    edits.apply(out, start, self.admitted.is_secure);
                }
                if uploaded {
                    self.watch.disarm();
                }
                Head::Final {
                    framing: response.framing,
                    coding,
                    keep_target: response.keep_alive,
                    keep_client,
                    holds: settings.is_some_and(|settings| settings.buffering.responses)
                        && may_be_held(&response),
                    compression,
                }
            }
        };
        self.inlet.consume(head_len);
        Ok(Some(head))
    }

    /// Sends the head that is in `out` and the body behind it; says whether nothing came after its end.
    async fn send_body(
        &mut self,
        framing: Framing,
        coding: Coding,
        mut out: Vec<u8>,
    ) -> Result<bool, Failure> {
        const CUT: Failure = Failure::Target(Reason::TargetCutBody);
        let mut body = Body::new(framing);
        loop {
            while !body.is_done() && !self.inlet.is_empty() {
                self.take_piece(&mut body, coding, &mut out).await?;
            }
            if body.is_done() && coding == Coding::Chunked {
                write_last_chunk(body.trailers(), &mut out);
            }
            self.send(&out).await?;
            out.clear();
            if body.is_done() {
                self.worker.recycle(out);
                return Ok(self.inlet.is_empty());
            }
            match self.inlet.fill(self.target).await {
                Ok(0) if body.may_end_with_connection() => {
                    if coding == Coding::Chunked {
                        write_last_chunk(&[], &mut out);
                        self.send(&out).await?;
                    }
                    return Ok(false);
                }
                Ok(0) | Err(_) => return Err(CUT),
                Ok(_) => {}
            }
        }
    }

    /// Receives a body of a known length as a whole, and then sends it; says whether nothing came after its end.
    async fn send_held(
        &mut self,
        length: u64,
        compression: Option<Compression>,
        mut out: Vec<u8>,
    ) -> Result<bool, Failure> {
        let service = self.admitted.record.service.as_ref();
        let buffering = service.map(|service| service.settings.buffering.clone()).unwrap_or_default();
        let limits = limits(self.worker, &buffering, buffering.max_response_bytes);
        if limits.total.is_some_and(|limit| length > limit) {
            return Err(Failure::Target(Reason::ResponseTooLarge));
        }
        let (mut body, mut spool) = (Body::new(Framing::Length(length)), Spool::new(limits));
        while !body.is_done() {
            if self.inlet.is_empty()
                && !matches!(self.inlet.fill(self.target).await, Ok(length) if length > 0)
            {
                return Err(Failure::Target(Reason::TargetCutBody));
            }
            let filled = self.inlet.filled();
            let step = body.step(filled).map_err(|_| INVALID)?;
            spool.push(filled.get(step.data).unwrap_or_default()).await.map_err(unkept)?;
            self.inlet.consume(step.consumed);
        }
        spool.rewind().await.map_err(unkept)?;
        if let Some(compression) = compression {
            self.send_held_compressed(&mut spool, compression, out).await?;
            return Ok(self.inlet.is_empty());
        }
        self.progress.head_sent.set(true);
        self.progress.response_bytes.set(length);
        let stall = self.stall();
        if spool.memory().len() <= MAX_COPY {
            out.extend_from_slice(spool.memory());
            send_all(self.client, self.watch, stall, &out).await?;
        } else {
            send_all(self.client, self.watch, stall, &out).await?;
            send_all(self.client, self.watch, stall, spool.memory()).await?;
        }
        loop {
            let block = spool.next_block().await.map_err(unkept)?;
            if block.is_empty() {
                return Ok(self.inlet.is_empty());
            }
            send_all(self.client, self.watch, stall, &block).await?;
        }
    }

    async fn take_piece(
        &mut self,
        body: &mut Body,
        coding: Coding,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let filled = self.inlet.filled();
        let step = body.step(filled).map_err(|_: BodyError| Failure::Target(Reason::TargetCutBody))?;
        let data = filled.get(step.data).unwrap_or_default();
        self.progress.response_bytes.update(|bytes| bytes + data.len() as u64);
        match coding {
            Coding::Chunked => write_chunk(data, out),
            Coding::Plain if data.len() <= MAX_COPY => out.extend_from_slice(data),
            Coding::Plain => {
                send_all(self.client, self.watch, self.stall(), out).await?;
                out.clear();
                send_all(self.client, self.watch, self.stall(), data).await?;
            }
        }
        self.inlet.consume(step.consumed);
        Ok(())
    }

    fn stall(&self) -> Option<std::time::Duration> {
        // While the request is still being sent, the deadline belongs to that.
        self.progress.uploaded.get().then_some(self.worker.limits.stalled_client)
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let limit = self.stall().filter(|_| self.progress.head_sent.get());
        send_all(self.client, self.watch, limit, bytes).await
    }
}

/// Says why a body cannot be held back.
fn unkept(error: SpoolError) -> Failure {
    Failure::Buffer(match error {
        SpoolError::Full { .. } => Reason::BufferFull,
        SpoolError::TooLarge { .. } | SpoolError::File { .. } => Reason::BufferFailed,
    })
}

/// Says whether an answer may be held back: not one that wants to be sent at once.
fn may_be_held(response: &Response<'_, '_>) -> bool {
    let streams = response.first(Kind::ContentType).is_some_and(|kind| {
        let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    });
    let declines = response.headers.iter().any(|(_, line)| {
        line.name.eq_ignore_ascii_case("x-accel-buffering") && line.value.eq_ignore_ascii_case(b"no")
    });
    !streams && !declines
}

async fn send_all(
    client: &mut ClientWriter<'_>,
    watch: &Watch,
    limit: Option<std::time::Duration>,
    mut bytes: &[u8],
) -> Result<(), Failure> {
    if bytes.is_empty() {
        return Ok(());
    }
    let Some(limit) = limit else {
        return send(client, bytes).await.map_err(|_| Failure::ClientGone);
    };
    // Whoever takes some of it has the whole time again for the next piece.
    let sent: io::Result<()> = async {
        while !bytes.is_empty() {
            watch.arm(limit);
            match poll_fn(|context| Pin::new(&mut *client).poll_write(context, bytes)).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                length => bytes = bytes.get(length..).unwrap_or_default(),
            }
        }
        send(client, bytes).await
    }
    .await;
    watch.disarm();
    sent.map_err(|_| Failure::ClientGone)
}

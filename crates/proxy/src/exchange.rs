//! One request from its head to the end of its answer.

mod compressed;
mod connect;
mod download;
mod ending;
mod hold;
mod upload;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use freehold_wire::{Gate, Reason};

use crate::access::Record;
use crate::admit::{Admitted, Again, Local, LocalBody, Passage, Tried};
use crate::http1::Framing;
use crate::http1::body::Body;
use crate::http2::head::Unsendable;
use crate::inlet::{Inlet, pump, send};
use crate::link::TargetStream;
use crate::page;
use crate::pool::Link;
use crate::serve::Connection;
use crate::watch::Phase;
use crate::worker::Worker;

use download::{Download, Downloaded};
use ending::Ending;
use hold::HeldBody;
use upload::Upload;

/// What is to become of the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// It takes the next request.
    KeepAlive,
    /// It is closed.
    Close,
    /// It is closed once the client has had time to take the answer while it still sends.
    Linger,
    /// It is closed so that the client cannot take the answer for a whole one.
    Abort,
}

/// Why an exchange did not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// Something is wrong at the target.
    Target(Reason),
    /// The client's body is malformed, or its head for a target that speaks HTTP/2.
    Malformed,
    /// The client's head is too large for a target that speaks HTTP/2.
    HeadTooLarge,
    /// The client is gone.
    ClientGone,
    /// The client's body is longer than may be held back.
    RequestTooLarge,
    /// A body that is to be held back cannot be kept.
    Buffer(Reason),
}

/// How far an exchange got; what is left of it when it is interrupted.
#[derive(Debug, Default)]
struct Progress {
    /// The request's head was taken out of the inlet; until then it may be sent again.
    head_taken: Cell<bool>,
    /// The request was received to its last byte before it was sent.
    received: Cell<bool>,
    /// The request was sent to the target to its last byte.
    uploaded: Cell<bool>,
    /// The sending waits for the client, and not for the target.
    waits_for_client: Cell<bool>,
    /// The target has sent something.
    answered: Cell<bool>,
    /// The client may have got a part of the final answer.
    head_sent: Cell<bool>,
    status: Cell<u16>,
    /// Of the request's body.
    request_bytes: Cell<u64>,
    response_bytes: Cell<u64>,
    response_type: RefCell<Vec<u8>>,
    /// The fields of answer headers that are logged.
    further: RefCell<Vec<u8>>,
}

impl Progress {
    /// Says whether nothing of the request is still to come from the client.
    fn has_whole_request(&self) -> bool {
        self.uploaded.get() || self.received.get()
    }

    fn take_head(&self, inlet: &mut Inlet, admitted: &Admitted) {
        if !self.head_taken.replace(true) {
            inlet.consume(admitted.head_len);
        }
    }
}

/// How an exchange ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finished {
    KeepAlive,
    Close,
    /// The answer was complete before the request was.
    Early,
    /// An upgraded connection has ended.
    Tunnel,
}

/// Answers a request here. The body that belongs to it is skipped if it is there already.
pub(crate) async fn answer(connection: &mut Connection, mut admitted: Admitted, local: Local) -> After {
    connection.inlet.consume(admitted.head_len);
    let complete = skip_body(&mut connection.inlet, admitted.framing);
    let is_redirect = matches!(local.body, LocalBody::Redirect(_));
    let keep_alive = admitted.keep_alive && complete && !is_redirect && !connection.worker.is_quitting();
    admitted.record.reason = local.reason;
    admitted.lines = local.lines;
    let sent = match &local.body {
        LocalBody::Page => send_page(connection, &mut admitted, local.status, keep_alive).await,
        LocalBody::Redirect(location) => {
            send_redirect(connection, &mut admitted, (local.status, location)).await
        }
        LocalBody::Text(text) => send_text(connection, &mut admitted, (local.status, text), keep_alive).await,
    };
    if let Some(flight) = &local.flight {
        flight.count(local.status, local.reason);
    }
    connection.worker.log_request(admitted.record);
    match (sent, keep_alive, complete) {
        (false, _, _) => After::Close,
        (true, true, _) => After::KeepAlive,
        (true, false, true) => After::Close,
        (true, false, false) => After::Linger,
    }
}

/// Skips a body that was received together with its head; says whether it was there as a whole.
fn skip_body(inlet: &mut Inlet, framing: Framing) -> bool {
    let mut body = Body::new(framing);
    while !body.is_done() {
        match body.step(inlet.filled()) {
            Ok(step) if step.consumed > 0 => inlet.consume(step.consumed),
            Ok(_) | Err(_) => return false,
        }
    }
    true
}

/// Sends a page of the proxy's own; says whether the client took it.
async fn send_page(
    connection: &mut Connection,
    admitted: &mut Admitted,
    status: u16,
    keep_alive: bool,
) -> bool {
    let mut out = Vec::with_capacity(512);
    let service = admitted.record.service.as_deref();
    let message = match service.map(|service| &service.gate) {
        Some(Gate::Stopped { message }) if status == 503 => message,
        _ => "",
    };
    let content = page::Content { message, pages: service.and_then(|service| service.pages.as_deref()) };
    let length = connection.worker.clock.with_date(|date| {
        let form = page::Form { version: admitted.version, head: admitted.asked.head, keep_alive, date };
        page::write(status, &content, &form, &mut out)
    });
    send_own(connection, admitted, Own { status, length, kind: page::HTML, text: out }).await
}

/// Sends the client elsewhere; says whether it took the answer.
async fn send_redirect(
    connection: &mut Connection,
    admitted: &mut Admitted,
    (status, location): (u16, &str),
) -> bool {
    let mut out = Vec::with_capacity(512);
    let length = connection.worker.clock.with_date(|date| {
        let form =
            page::Form { version: admitted.version, head: admitted.asked.head, keep_alive: false, date };
        page::write_redirect((status, location), &form, admitted.asked.get, &mut out)
    });
    send_own(connection, admitted, Own { status, length, kind: page::HTML, text: out }).await
}

/// Sends plain text; says whether the client took it.
async fn send_text(
    connection: &mut Connection,
    admitted: &mut Admitted,
    (status, body): (u16, &str),
    keep_alive: bool,
) -> bool {
    let mut out = Vec::with_capacity(512);
    let length = connection.worker.clock.with_date(|date| {
        let form = page::Form { version: admitted.version, head: admitted.asked.head, keep_alive, date };
        page::write_text(status, body, &form, &mut out)
    });
    let own = Own { status, length, kind: page::TEXT, text: out };
    send_own(connection, admitted, own).await
}

/// An answer of the proxy's own.
struct Own {
    status: u16,
    /// The kind of its body.
    kind: &'static str,
    /// Of its body.
    length: u64,
    text: Vec<u8>,
}

async fn send_own(connection: &mut Connection, admitted: &mut Admitted, mut own: Own) -> bool {
    if !admitted.lines.is_empty() {
        page::add_lines(&mut own.text, &admitted.lines);
    }
    if let Some(edits) = admitted.edits() {
        edits.apply(&mut own.text, 0, admitted.is_secure);
    }
    admitted.record.status = own.status;
    admitted.record.response_bytes = own.length;
    admitted.record.response_type = if own.length > 0 { own.kind.as_bytes().to_vec() } else { Vec::new() };
    connection.watch.arm(connection.worker.limits.stalled_client);
    let sent = connection.watch.guard(send(&mut connection.client, &own.text)).await;
    matches!(sent, Ok(Ok(())))
}

/// Sends a request to its target and the answer to the client.
pub(crate) async fn forward(
    connection: &mut Connection,
    mut admitted: Admitted,
    mut passage: Passage,
) -> After {
    let progress = Progress::default();
    let watch = Rc::clone(&connection.watch);
    watch.enter(Phase::Request, passage.flight.generation.number());
    watch.disarm();
    let run =
        Run { connection, admitted: &mut admitted, passage: &mut passage, progress: &progress, body: None };
    let outcome = watch.guard(pin!(run.run())).await;
    admitted.record.status = progress.status.get();
    admitted.record.request_bytes = progress.request_bytes.get();
    admitted.record.response_bytes = progress.response_bytes.get();
    admitted.record.response_type = progress.response_type.take();
    admitted.record.further.append(&mut progress.further.borrow_mut());
    let failure = match outcome {
        Ok(Ok(finished)) => {
            passage.flight.count(admitted.record.status, None);
            passage.judge(&connection.worker, &passage.target, None);
            connection.worker.log_request(admitted.record);
            connection.worker.recycle(passage.head);
            return match finished {
                Finished::KeepAlive => After::KeepAlive,
                Finished::Close | Finished::Tunnel => After::Close,
                Finished::Early => After::Linger,
            };
        }
        Ok(Err(failure)) => Ending::of(failure, &progress),
        Err(signal) => Ending::of_signal(signal, &progress),
    };
    // What is rare is in a box of its own here and below: the room of an exchange is copied for each request.
    Box::pin(conclude(connection, admitted, &passage, &progress, failure)).await
}

async fn conclude(
    connection: &mut Connection,
    mut admitted: Admitted,
    passage: &Passage,
    progress: &Progress,
    ending: Ending,
) -> After {
    let Ending { status, reason } = ending;
    admitted.record.reason = Some(reason);
    let after = if reason == Reason::ClientGone {
        if !progress.head_sent.get() {
            admitted.record.status = status;
        }
        After::Close
    } else if progress.status.get() == 101 {
        After::Close
    } else if progress.head_sent.get() {
        After::Abort
    } else {
        let complete = if progress.head_taken.get() {
            progress.has_whole_request()
        } else {
            progress.take_head(&mut connection.inlet, &admitted);
            skip_body(&mut connection.inlet, admitted.framing)
        };
        let keep_alive = complete && admitted.keep_alive && !connection.worker.is_quitting();
        match send_page(connection, &mut admitted, status, keep_alive).await {
            false => After::Close,
            true if keep_alive => After::KeepAlive,
            true if complete => After::Close,
            true => After::Linger,
        }
    };
    let counted = if admitted.record.status == 499 { 0 } else { admitted.record.status };
    passage.flight.count(counted, Some(reason));
    passage.judge(&connection.worker, &passage.target, Some(reason));
    connection.worker.log_request(admitted.record);
    after
}

/// Everything that one exchange works on.
struct Run<'r> {
    connection: &'r mut Connection,
    admitted: &'r mut Admitted,
    passage: &'r mut Passage,
    progress: &'r Progress,
    /// The request's body, where it is held back.
    body: Option<HeldBody>,
}

impl Run<'_> {
    async fn run(mut self) -> Result<Finished, Failure> {
        self.body = self.hold_body().await?;
        let mut tried = Tried { targets: Vec::new(), reason: Reason::TargetClosed };
        let mut fresh = false;
        loop {
            let link = match self.connect(fresh).await {
                Ok(link) => link,
                Err(reason) => {
                    tried.reason = reason;
                    self.turn(&mut tried, Passage::turn)?;
                    continue;
                }
            };
            let was_reused = link.reused;
            match self.attempt(link).await {
                Err(Failure::Target(reason @ Reason::TargetClosed))
                    if self.passage.repeatable && !self.progress.answered.get() =>
                {
                    if was_reused {
                        fresh = true;
                    } else {
                        // It took the connection and died: what was asked changes nothing, so another may be asked.
                        tried.reason = reason;
                        self.turn(&mut tried, Passage::step_aside)?;
                    }
                }
                result => return result,
            }
        }
    }

    /// Goes on at another target, found by one of the passage's ways, or fails for the last reason.
    fn turn(
        &mut self,
        tried: &mut Tried,
        way: fn(&mut Passage, &Worker, &Tried, &Again<'_>, &mut Record) -> bool,
    ) -> Result<(), Failure> {
        tried.targets.push(self.passage.target.id);
        let Connection { worker, inlet, watch, peer, .. } = &*self.connection;
        let head = self.body.as_ref().map_or(inlet.filled(), |body| &body.head);
        let again = Again { peer, head };
        let (generation, target) =
            (Arc::clone(&self.passage.flight.generation), Arc::clone(&self.passage.target));
        if !way(self.passage, worker, tried, &again, &mut self.admitted.record) {
            return Err(Failure::Target(tried.reason));
        }
        if let Some(pause) = generation.judge(&target, Some(tried.reason)) {
            worker.log_left_out(&target, pause, Some(tried.reason));
        }
        watch.enter(Phase::Request, self.passage.flight.generation.number());
        watch.disarm();
        Ok(())
    }

    /// Does the exchange over one connection to the target.
    async fn attempt(&mut self, mut link: Link) -> Result<Finished, Failure> {
        if let TargetStream::Http2(stream) = &mut link.stream {
            stream.prepare(&self.passage.head).map_err(|unsendable| match unsendable {
                Unsendable::Malformed => Failure::Malformed,
                Unsendable::TooLarge => Failure::HeadTooLarge,
            })?;
        }
        let Connection { client, inlet, worker, watch, .. } = &mut *self.connection;
        if !self.passage.repeatable {
            self.progress.take_head(inlet, self.admitted);
        }
        let framing = if self.body.is_some() { Framing::None } else { self.admitted.framing };
        let mut body = Body::new(framing);
        let mut target_inlet = Inlet::new(&worker.buffers);
        let downloaded = {
            let (mut client_reader, mut client_writer) = client.split();
            let (mut target_reader, mut target_writer) = link.stream.split();
            let upload = Upload {
                client: &mut client_reader,
                target: &mut target_writer,
                inlet,
                body: &mut body,
                held: self.body.as_mut(),
                framing: self.admitted.framing,
                head: &self.passage.head,
                skip: if self.passage.repeatable { self.admitted.head_len } else { 0 },
                progress: self.progress,
                watch,
                worker,
                response_limit: self.admitted.response_limit(),
            };
            let mut upload = pin!(upload.run(self.admitted.expects_continue));
            let download = Download {
                client: &mut client_writer,
                target: &mut target_reader,
                inlet: &mut target_inlet,
                admitted: self.admitted,
                progress: self.progress,
                watch,
                worker,
            };
            let mut download = pin!(download.run());
            let mut refused = false;
            poll_fn(|context| {
                if !refused && let Poll::Ready(failure) = upload.as_mut().poll(context) {
                    match failure {
                        // The target takes no more. It may have answered before it closed, so its answer decides.
                        Failure::Target(_) => refused = true,
                        failure => return Poll::Ready(Err(failure)),
                    }
                }
                download.as_mut().poll(context)
            })
            .await?
        };
        self.progress.take_head(inlet, self.admitted);
        match downloaded {
            Downloaded::Upgrade => match link.stream {
                TargetStream::Http1(_) => Box::pin(self.tunnel(link.stream, target_inlet)).await,
                TargetStream::Http2(_) => Err(Failure::Target(Reason::TargetInvalidResponse)),
            },
            Downloaded::Answer { keep_target, keep_client } => {
                Ok(self.settle(link, keep_target, keep_client))
            }
        }
    }

    /// Keeps what can be used again.
    fn settle(&self, link: Link, keep_target: bool, keep_client: bool) -> Finished {
        let uploaded = self.progress.uploaded.get();
        if keep_target && uploaded && !self.passage.flight.generation.is_retired() {
            self.connection.worker.targets.put(self.passage.target.id, link.stream);
        }
        match (self.progress.has_whole_request(), keep_client) {
            (true, true) => Finished::KeepAlive,
            (true, false) => Finished::Close,
            (false, _) => Finished::Early,
        }
    }

    /// Carries an upgraded connection until one side ends it, or both have said all they had to.
    async fn tunnel(
        &mut self,
        mut target: TargetStream,
        mut target_inlet: Inlet,
    ) -> Result<Finished, Failure> {
        let Connection { client, inlet, watch, .. } = &mut *self.connection;
        self.passage.flight.become_tunnel();
        watch.enter(Phase::Tunnel, self.passage.flight.generation.number());
        watch.disarm();
        let (mut client_reader, mut client_writer) = client.split();
        let (mut target_reader, mut target_writer) = target.split();
        let mut up = pin!(pump(inlet, &mut client_reader, &mut target_writer));
        let mut down = pin!(pump(&mut target_inlet, &mut target_reader, &mut client_writer));
        let (mut up_ended, mut down_ended) = (false, false);
        poll_fn(|context| {
            if !up_ended && let Poll::Ready(result) = up.as_mut().poll(context) {
                up_ended = true;
                if result.is_err() {
                    return Poll::Ready(());
                }
            }
            if !down_ended && let Poll::Ready(result) = down.as_mut().poll(context) {
                down_ended = true;
                if result.is_err() {
                    return Poll::Ready(());
                }
            }
            if up_ended && down_ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        Ok(Finished::Tunnel)
    }
}

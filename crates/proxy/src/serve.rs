//! One client connection: requests after each other until one side ends it.

use std::fmt::Display;
use std::future::{poll_fn, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use freehold_wire::Reason;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::access::{Peer, Record};
use crate::admit::{Admission, Arrival, Local, admit};
use crate::certificate::{asks_for_proof, awaited, choose, clients_of, to_ask};
use crate::client_auth::ClientIdentity;
use crate::dropped::Dropped;
use crate::edge::Counted;
use crate::exchange::{After, answer, forward};
use crate::http1::Version;
use crate::http2::{self, Beginning};
use crate::inlet::{Inlet, send};
use crate::page;
use crate::stream::{ClientStream, say_goodbye};
use crate::watch::{Phase, Registered, Signal, Watch};
use crate::worker::{Leaving, Worker};

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: ClientStream,
    pub(crate) peer: Rc<Peer>,
    pub(crate) inlet: Inlet,
    pub(crate) worker: Rc<Worker>,
    pub(crate) watch: Rc<Watch>,
}

/// Who connects.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) address: SocketAddr,
    /// Its place among the connections of its address, where those are counted.
    pub(crate) counted: Option<Counted>,
}

/// Serves a connection to its end.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    socket: TcpStream,
    caller: Caller,
    tls: Option<Arc<ServerConfig>>,
) {
    let registered = worker.watches.register();
    let mut identity = None;
    let client = match tls {
        None => ClientStream::Plain(socket),
        Some(config) => {
            registered.watch.arm(worker.limits.handshake);
            // In a box, so that a connection that has agreed holds no room for it. One that does not agree is closed.
            let handshake = Box::pin(agree(&worker, &registered.watch, socket, config));
            let agreed = match registered.watch.guard(handshake).await {
                Ok(Ok(agreed)) => agreed,
                Ok(Err(Unagreed { dropped, error, name })) => {
                    let (error, name) =
                        (error.as_ref().map_or_else(String::new, Dropped::explain), name.as_str());
                    let fields: [(&str, &dyn Display); 2] = [("host", &name), ("error", &error)];
                    worker.drop_connection(&caller.address, dropped, &fields);
                    return;
                }
                Err(Signal::Expired) => {
                    return worker.drop_connection(&caller.address, Dropped::TlsTimeout, &[]);
                }
                Err(_) => return,
            };
            let Some(agreed) = agreed else { return };
            identity = agreed.identity;
            ClientStream::Tls(Box::new(agreed.stream))
        }
    };
    let inlet = Inlet::new(&worker.buffers);
    let mut peer = Peer::new(caller.address);
    peer.identity = identity;
    let mut connection =
        Connection { client, peer: Rc::new(peer), inlet, watch: Rc::clone(&registered.watch), worker };
    if connection.client.is_agreed_on_http2() {
        // In a box, so that a connection by HTTP/1 holds no room for it.
        return Box::pin(http2::connection::serve(connection)).await;
    }
    let mut is_first = true;
    let after = loop {
        let Some(admission) = connection.next(std::mem::take(&mut is_first)).await else {
            break After::Close;
        };
        if matches!(admission, Admission::Http2) {
            // What is not gone before a wait has its room in every connection.
            drop(admission);
            return Box::pin(http2::connection::serve(connection)).await;
        }
        match connection.exchange(admission).await {
            After::KeepAlive => {}
            after => break after,
        }
    };
    match after {
        After::KeepAlive | After::Close => connection.close().await,
        After::Linger => connection.linger().await,
        After::Abort => connection.client.abort(),
    }
    drop(caller.counted);
}

/// Serves the one request of a stream of HTTP/2.
pub(crate) async fn serve_stream(mut connection: Connection, _registered: Registered) {
    if connection.client.is_gone() {
        // Nobody has asked for it by the time it is begun.
        return;
    }
    let Some(admission) = connection.next(false).await else { return };
    if connection.exchange(admission).await == After::Abort {
        connection.client.abort();
    }
}

/// Answers a stream of HTTP/2 whose head is not taken.
pub(crate) async fn refuse_stream(mut connection: Connection, _registered: Registered, status: u16) {
    connection.refuse(status, Reason::InvalidRequest).await;
}

/// An encrypted connection, and what is known of its client.
struct Agreed {
    stream: TlsStream<TcpStream>,
    identity: Option<Arc<ClientIdentity>>,
}

/// Why there is no encrypted connection.
struct Unagreed {
    dropped: Dropped,
    error: Option<io::Error>,
    /// Which the client asked for; empty where it did not say so.
    name: String,
}

impl Unagreed {
    fn of(error: io::Error, name: Option<&str>) -> Self {
        let name = name.unwrap_or_default().to_owned();
        Self { dropped: Dropped::of_handshake(&error), error: Some(error), name }
    }

    fn plainly(dropped: Dropped, name: &str) -> Self {
        Self { dropped, error: None, name: name.to_owned() }
    }
}

/// Agrees with a client on an encrypted connection; there is none where all that was wanted is a proof. It waits for a certificate that is just being ordered for the first
/// time, as whoever has deployed wants to see the result.
async fn agree(
    worker: &Worker,
    watch: &Watch,
    socket: TcpStream,
    config: Arc<ServerConfig>,
) -> Result<Option<Agreed>, Unagreed> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), socket).await;
    let mut start = start.map_err(|error| Unagreed::of(error, None))?;
    let hello = start.client_hello();
    let name = hello.server_name().map(str::to_owned);
    let is_proof = asks_for_proof(&hello);
    if let Some(name) = &name {
        if !is_proof && let Some(on_demand) = to_ask(&worker.table().1, name) {
            watch.arm(worker.limits.first_certificate);
            tokio::select! {
                () = on_demand.ask(name) => {}
                () = left(&start.io) => return Err(Unagreed::plainly(Dropped::TlsClosed, name)),
            }
            watch.arm(worker.limits.handshake);
        }
        if !is_proof && let Some(managed) = awaited(&worker.table().1, name) {
            watch.arm(worker.limits.first_certificate);
            managed.settle().await;
            watch.arm(worker.limits.handshake);
        }
        if choose(&worker.table().1, &worker.challenges, Some(name), is_proof).is_none() {
            send(&mut start.io, &UNRECOGNIZED_NAME).await.ok();
            return Err(Unagreed::plainly(Dropped::TlsUnknownName, name));
        }
    }
    let name = name.as_deref();
    let clients = name.filter(|_| !is_proof).and_then(|name| clients_of(&worker.table().1, name));
    if let Some(clients) = clients {
        let check = clients.check();
        let stream = start.into_stream(Arc::clone(&check.config)).await;
        let stream = stream.map_err(|error| Unagreed::of(error, name))?;
        let identity = Some(Arc::new(check.identity(stream.get_ref().1.peer_certificates())));
        return Ok(Some(Agreed { stream, identity }));
    }
    let mut stream = start.into_stream(config).await.map_err(|error| Unagreed::of(error, name))?;
    if is_proof {
        // The certificate was all that the authority wanted to see.
        stream.shutdown().await.ok();
        return Ok(None);
    }
    Ok(Some(Agreed { stream, identity: None }))
}

/// Waits until a client that has nothing more to say for now ends the connection.
async fn left(socket: &TcpStream) {
    if matches!(socket.peek(&mut [0]).await, Ok(1..)) {
        std::future::pending().await
    }
}

/// The fatal alert for a name that nobody here has, RFC 6066, section 3.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

impl Connection {
    /// Waits for the next request's head; none where the connection is to be closed. Only the first one may turn out to be
    /// the beginning of HTTP/2.
    async fn next(&mut self, is_first: bool) -> Option<Admission> {
        let limits = self.worker.limits;
        self.watch.enter(Phase::Idle, 0);
        let mut is_first_byte = self.inlet.is_empty();
        self.watch.arm(if is_first_byte { limits.idle } else { limits.head });
        loop {
            if !self.inlet.is_empty() {
                match self.admit(Instant::now(), false) {
                    Admission::Incomplete => {}
                    // As a whole: what only a part is taken of keeps its room in every connection that waits.
                    admission @ Admission::Held(_) => return Box::pin(self.hold(admission)).await,
                    Admission::Refused(refusal) if is_first => match http2::begins(self.inlet.filled()) {
                        Some(Beginning::Whole) => return Some(Admission::Http2),
                        Some(Beginning::Part) => {}
                        None => return Some(Admission::Refused(refusal)),
                    },
                    admission => return Some(admission),
                }
            }
            let received = if self.worker.leaving() == Leaving::Now && self.inlet.is_empty() {
                // A request that came before the client could know is still served.
                self.inlet.fill_now(&mut self.client).await
            } else {
                match self.watch.guard(self.inlet.fill(&mut self.client)).await {
                    Ok(received) => Some(received),
                    Err(Signal::Quit) => continue,
                    Err(Signal::Expired) if !self.inlet.is_empty() => {
                        Box::pin(self.refuse(408, Reason::ClientTimeout)).await;
                        return None;
                    }
                    Err(Signal::Expired | Signal::Cut) => None,
                }
            };
            match received {
                Some(Ok(length)) if length > 0 => {}
                Some(Ok(_) | Err(_)) | None => return None,
            }
            if std::mem::take(&mut is_first_byte) {
                self.watch.arm(limits.head);
            }
        }
    }

    fn admit(&self, at: Instant, is_again: bool) -> Admission {
        let (port, scheme) = match self.client.is_encrypted() {
            true => (self.worker.https_port, "https"),
            false => (self.worker.port, "http"),
        };
        let protocol = self.client.protocol();
        let arrival = Arrival { peer: &self.peer, at, port, scheme, protocol, is_again };
        admit(&self.worker, &arrival, self.inlet.filled())
    }

    /// Lets a request wait until its service is resumed, stopped or gone, its password was looked at, or it has waited for
    /// too long; none where the client is known to have given up.
    async fn hold(&mut self, admission: Admission) -> Option<Admission> {
        let Admission::Held(mut held) = admission else { return Some(admission) };
        let arrived = Instant::now();
        // A later pause does not change how long this one waits; only where it waits for something else, the time begins anew.
        self.watch.arm(held.limit);
        loop {
            let gate_moved = Arc::clone(&held.gate_moved);
            let mut moved = pin!(gate_moved.notified());
            moved.as_mut().enable();
            if self.worker.shared.is_current(held.version) {
                let client = &self.client;
                let is_gone = poll_fn(|context| match client.poll_gone(context) {
                    Poll::Ready(()) => Poll::Ready(true),
                    Poll::Pending => moved.as_mut().poll(context).map(|()| false),
                });
                match self.watch.guard(is_gone).await {
                    Ok(false) => {}
                    Ok(true) => {
                        self.log_gone(held.admitted.record);
                        return None;
                    }
                    // A password is looked at soon. The routes of a process that took over are followed here, so that it
                    // can be resumed there.
                    Err(Signal::Quit)
                        if held.too_long.1 == Reason::AuthUnavailable || self.worker.has_handed_over() =>
                    {
                        continue;
                    }
                    Err(_) => {
                        self.watch.disarm();
                        let (status, reason) = held.too_long;
                        return Some(Admission::Local(held.admitted, Local::new(status, reason)));
                    }
                }
            }
            match self.admit(arrived, true) {
                Admission::Held(again) => {
                    if again.too_long != held.too_long {
                        self.watch.arm(again.limit);
                    }
                    held = again;
                }
                admission => return Some(admission),
            }
        }
    }

    /// Writes the line of a request that its client gave up before it was passed on.
    fn log_gone(&self, mut record: Record) {
        self.watch.disarm();
        record.status = 499;
        record.reason = Some(Reason::ClientGone);
        self.worker.log_request(record);
    }

    /// Does an exchange. It is in a box, so that a connection that waits for its next request holds no room for one; what is
    /// put there is copied once, so each kind has its own and is kept small.
    fn exchange(&mut self, admission: Admission) -> Pin<Box<dyn Future<Output = After> + '_>> {
        match admission {
            Admission::Forward(admitted, passage) => Box::pin(forward(self, admitted, passage)),
            Admission::Local(admitted, local) => Box::pin(answer(self, admitted, local)),
            Admission::Refused(refusal) => Box::pin(async move {
                self.refuse(refusal.status, Reason::InvalidRequest).await;
                After::Linger
            }),
            Admission::Incomplete | Admission::Held(_) | Admission::Http2 => Box::pin(ready(After::Close)),
        }
    }

    /// Answers what cannot be read as a request; nothing behind it can be trusted.
    async fn refuse(&mut self, status: u16, reason: Reason) {
        let mut out = Vec::with_capacity(512);
        let mut record = Record::unread(&self.peer, self.client.protocol());
        record.response_bytes = self.worker.clock.with_date(|date| {
            let form = page::Form { version: Version::Http11, head: false, keep_alive: false, date };
            page::write(status, &page::Content::default(), &form, &mut out)
        });
        record.status = status;
        record.reason = Some(reason);
        self.worker.log_request(record);
        self.watch.arm(self.worker.limits.linger);
        // Whether a client that broke the rules takes the answer changes nothing.
        self.watch.guard(send(&mut self.client, &out)).await.ok();
    }

    /// Closes in good order.
    async fn close(&mut self) {
        if self.client.is_encrypted() {
            self.watch.arm(self.worker.limits.linger);
            // The connection is closed in any case.
            self.watch.guard(say_goodbye(&mut self.client)).await.ok();
        }
    }

    /// Ends the sending side and throws away what still comes, for a while. Closing at once would make the system answer
    /// what comes with a reset, on which the client loses the answer that it has not read yet.
    async fn linger(&mut self) {
        self.watch.arm(self.worker.limits.linger);
        let drained = async {
            self.client.shutdown().await?;
            loop {
                let length = self.inlet.filled().len();
                self.inlet.consume(length);
                if self.inlet.fill(&mut self.client).await? == 0 {
                    return std::io::Result::Ok(());
                }
            }
        };
        // The connection is closed in any case.
        self.watch.guard(drained).await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a future takes that is made of such arguments.
    fn size<A, B, C, D, F: Future>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    // Each connection has one for as long as it is open. The bound is what it was when it was last brought down, with little to spare.
    #[test]
    fn a_connection_that_waits_takes_little_room() {
        let size = size(serve);
        assert!(size <= 1024, "{size}");
    }
}

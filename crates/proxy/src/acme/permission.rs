//! Asking whether a certificate may be ordered: the service itself, or a server elsewhere.

use std::error::Error as StdError;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use freehold_model::ProxyServiceName;
use freehold_wire::{Gate, Reason, TargetAddress};
use futures_util::future::{Either, select};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Keeper;
use super::client::describe;
use super::demand::OnDemand;
use super::question::Recipient;
use crate::duty::Duty;
use crate::generation::{Flight, Target};
use crate::pool::connect;
use crate::table::Shared;

/// How much of a denial's body is told.
const MAX_EXCERPT_BYTES: usize = 256;

/// The thread's share of a generation's counters that is used here.
const LANE: usize = 0;

/// Why a certificate is not ordered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Denial {
    #[error("denied with status {status}: {body}")]
    Status { status: u16, body: String },
    #[error("denied with status 503: service `{service}` is stopped")]
    Stopped { service: ProxyServiceName },
    #[error("service `{service}` is gone")]
    Gone { service: ProxyServiceName },
    #[error("denied with status 503: service `{service}` has no healthy target")]
    NoTarget { service: ProxyServiceName },
    #[error("`{host}` is not the name of a server")]
    Server { host: String },
    #[error("cannot reach `{host}`: {}", describe(*reason))]
    Connect { host: String, reason: Reason },
    #[error("cannot agree with `{host}` on an encrypted connection")]
    Agree { host: String, source: std::io::Error },
    #[error("`{host}` did not answer as it should")]
    Exchange { host: String, source: Box<dyn StdError + Send + Sync> },
    #[error("there was no answer within {milliseconds} ms")]
    Late { milliseconds: u128 },
}

impl Keeper {
    /// Asks whether a name's certificate may be ordered.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub(super) async fn ask_permission(
        &self,
        shared: &Arc<Shared>,
        on_demand: &OnDemand,
        name: &str,
    ) -> Result<(), Denial> {
        let limit = self.limits.question;
        let asked = async {
            match &on_demand.question.to {
                Recipient::Service => self.ask_service(shared, on_demand, name).await,
                Recipient::Server { is_encrypted, host, port } => {
                    let address = TargetAddress::parse(&format!("{host}:{port}"));
                    let address = address.map_err(|_| Denial::Server { host: host.clone() })?;
                    let request = question(on_demand, (name, &server_text(host, *port, *is_encrypted)), &[]);
                    let stream = self.connect_to(&address).await?;
                    if !is_encrypted {
                        return exchange(stream, request?, host).await;
                    }
                    let server = ServerName::try_from(host.clone());
                    let server = server.map_err(|_| Denial::Server { host: host.clone() })?;
                    let stream = self.question_tls.connect(server, stream).await;
                    let stream = stream.map_err(|source| Denial::Agree { host: host.clone(), source })?;
                    exchange(stream, request?, host).await
                }
            }
        };
        let late = |_| Denial::Late { milliseconds: limit.as_millis() };
        match timeout(limit, asked).await.map_err(late)?? {
            (200, _) => Ok(()),
            (status, body) => Err(Denial::Status { status, body }),
        }
    }

    /// Asks the service itself, as a visitor of the name would who is not redirected.
    async fn ask_service(
        &self,
        shared: &Arc<Shared>,
        on_demand: &OnDemand,
        name: &str,
    ) -> Result<(u16, String), Denial> {
        // The flight lasts as long as the exchange, so that a drain waits for it.
        let (_flight, target) = enter(shared, &on_demand.service).await?;
        let address = &target.address;
        let lines =
            [("x-forwarded-host", name), ("x-forwarded-proto", "http"), ("x-kamal-target", address.as_str())];
        let request = question(on_demand, (name, name), &lines)?;
        exchange(self.connect_to(address).await?, request, address.as_str()).await
    }

    async fn connect_to(&self, address: &TargetAddress) -> Result<TcpStream, Denial> {
        let stream = connect(&self.resolver, address, self.limits.question).await;
        stream.map_err(|reason| Denial::Connect { host: address.host().to_owned(), reason })
    }
}

/// Chooses a target of a service, as for a visitor's read; waits while the service is paused.
async fn enter(shared: &Shared, name: &ProxyServiceName) -> Result<(Flight, Arc<Target>), Denial> {
    loop {
        let (version, table) = shared.load();
        let service = table.service(name).ok_or_else(|| Denial::Gone { service: name.clone() })?;
        match &service.gate {
            Gate::Open => {}
            Gate::Stopped { .. } => return Err(Denial::Stopped { service: name.clone() }),
            Gate::Paused { .. } => {
                let gate_moved = Arc::clone(&service.gate_moved);
                let mut moved = pin!(gate_moved.notified());
                moved.as_mut().enable();
                if shared.is_current(version) {
                    moved.await;
                }
                continue;
            }
        }
        let flight = service.generation.enter(LANE);
        if !shared.is_current(version) {
            continue;
        }
        let target = service.generation.choose(LANE, &[], Duty::Read).cloned();
        return target
            .map(|target| (flight, target))
            .ok_or_else(|| Denial::NoTarget { service: name.clone() });
    }
}

fn server_text(host: &str, port: u16, is_encrypted: bool) -> String {
    match (is_encrypted, port) {
        (false, 80) | (true, 443) => host.to_owned(),
        _ => format!("{host}:{port}"),
    }
}

fn question(
    on_demand: &OnDemand,
    (name, host): (&str, &str),
    lines: &[(&str, &str)],
) -> Result<Request<Empty<Bytes>>, Denial> {
    let mut request = Request::get(on_demand.question.path_for(name)).header("host", host);
    request = request.header("user-agent", "kamal-proxy");
    for (line, value) in lines {
        request = request.header(*line, *value);
    }
    let failed = |error: http::Error| Denial::Exchange { host: host.to_owned(), source: error.into() };
    request.body(Empty::new()).map_err(failed)
}

/// Sends the question and returns the status of the answer with the begin of its body.
async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>, host: &str) -> Result<(u16, String), Denial>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let failed = |error: hyper::Error| Denial::Exchange { host: host.to_owned(), source: error.into() };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let exchange = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        Ok((parts.status.as_u16(), excerpt(body).await))
    };
    match select(pin!(exchange), pin!(connection)).await {
        Either::Left((answer, _)) => answer.map_err(failed),
        // What was received as a whole is still handed over after the connection has ended.
        Either::Right((Ok(()), exchange)) => exchange.await.map_err(failed),
        Either::Right((Err(error), _)) => Err(failed(error)),
    }
}

/// Reads the first bytes of a body.
async fn excerpt(mut body: Incoming) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < MAX_EXCERPT_BYTES {
        let Some(Ok(frame)) = body.frame().await else { break };
        bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
    }
    bytes.truncate(MAX_EXCERPT_BYTES);
    String::from_utf8_lossy(&bytes).into_owned()
}

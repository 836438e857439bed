//! The control API over a Unix socket.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use freehold_model::ProxyServiceName;
use freehold_wire::{
    CanaryRequest, ConfirmRequest, DrainRequest, ErrorCode, ErrorReply, GateRequest, ProbeRequest,
    ServiceList, SplitRequest,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::{Control, bounds, chain, refusal};
use crate::health::probe;
use crate::log::Level;

const MAX_REQUEST_BYTES: usize = 1024 * 1024;

/// How long answers may take that are on their way when the proxy has handed over.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Serves the API until the proxy stops. Only the proxy's own user and root are let in.
pub(crate) async fn serve(control: Arc<Control>, listener: UnixListener, own_uid: u32) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = control.stopping.cancelled() => break,
            Some(ended) = connections.join_next() => report(&control, ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if is_allowed(&stream, own_uid) => {
                    connections.spawn(serve_connection(Arc::clone(&control), stream));
                }
                Ok(_) => control.log.line(Level::Warn, "Control connection refused: another user", &[]),
                Err(error) => {
                    control.log.error("Control connection not accepted", &[("error", &error)]);
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            },
        }
    }
    if control.departure.get().is_some() {
        // Whoever asked for the hand-over is to get the answer.
        let all = async { while connections.join_next().await.is_some() {} };
        tokio::time::timeout(ANSWER_LIMIT, all).await.ok();
    }
}

fn is_allowed(stream: &UnixStream, own_uid: u32) -> bool {
    stream.peer_cred().is_ok_and(|peer| may_speak(peer.uid(), own_uid))
}

fn may_speak(peer_uid: u32, own_uid: u32) -> bool {
    peer_uid == own_uid || peer_uid == 0
}

fn report(control: &Control, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        control.log.error("Control connection panicked", &[("error", &error)]);
    }
}

async fn serve_connection(control: Arc<Control>, stream: UnixStream) {
    let (log, stopping) = (control.log.clone(), control.stopping.clone());
    let service = service_fn(move |request| {
        let control = Arc::clone(&control);
        async move { Ok::<_, Infallible>(respond(&control, request).await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        log.line(Level::Debug, "Control connection ended", &[("error", &error)]);
    }
}

async fn respond(control: &Arc<Control>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    match route(control, request).await {
        Ok(body) => reply(StatusCode::OK, body),
        Err(error) => {
            let status =
                StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            reply(status, serde_json::to_vec(&error).unwrap_or_default())
        }
    }
}

fn reply(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

async fn route(control: &Arc<Control>, request: Request<Incoming>) -> Result<Vec<u8>, ErrorReply> {
    control.check_not_stopping()?;
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    if let (&Method::POST, [_, "upgrade"]) = (&method, segments.as_slice()) {
        return json(&control.upgrade(read(request).await?).await?);
    }
    let _change = match segments.as_slice() {
        // These change nothing, and may take long.
        [_, "probe"] | [_, "services", _, "drain"] => None,
        _ if method == Method::GET => None,
        _ => Some(control.changes.read().await),
    };
    control.check_not_stopping()?;
    match (&method, segments.as_slice()) {
        (&Method::GET, ["v1" | "v2" | "v3" | "v4", "version"]) => json(&control.version()),
        (&Method::GET, ["v1" | "v2" | "v3" | "v4", "services"]) => {
            json(&ServiceList { services: control.statuses() })
        }
        (&Method::GET, ["v1" | "v2" | "v3" | "v4", "services", name]) => {
            json(&control.status(&service(name)?)?)
        }
        (&Method::POST, ["v1" | "v2" | "v3" | "v4", "probe"]) => {
            let body: ProbeRequest = read(request).await?;
            bounds::probe(&body)?;
            json(&probe(&control.resolver, &body).await)
        }
        (&Method::PUT, ["v1" | "v2" | "v3" | "v4", "services", name]) => {
            let name = service(name)?;
            json(&control.deploy(name, read(request).await?).await?)
        }
        (&Method::POST, ["v1" | "v2" | "v3" | "v4", "services", name, "drain"]) => {
            let body: DrainRequest = read(request).await?;
            json(&control.drain(&service(name)?, &body).await?)
        }
        (&Method::POST, ["v1" | "v2" | "v3" | "v4", "services", name, "confirm"]) => {
            let body: ConfirmRequest = read(request).await?;
            json(&control.confirm(&service(name)?, &body)?)
        }
        (&Method::POST, ["v1" | "v2" | "v3" | "v4", "services", name, "gate"]) => {
            let body: GateRequest = read(request).await?;
            json(&control.set_gate(&service(name)?, &body).await?)
        }
        (&Method::PUT, ["v1" | "v2" | "v3" | "v4", "services", name, "canary"]) => {
            let body: CanaryRequest = read(request).await?;
            json(&control.install_canary(&service(name)?, &body).await?)
        }
        (&Method::POST, ["v1" | "v2" | "v3" | "v4", "services", name, "split"]) => {
            let body: SplitRequest = read(request).await?;
            json(&control.split(&service(name)?, &body)?)
        }
        (&Method::POST, ["v4", "services", name, "promote"]) => {
            let body: SplitRequest = read(request).await?;
            json(&control.promote_by_hand(&service(name)?, &body)?)
        }
        (&Method::DELETE, ["v4", "services", name, "canary"]) => {
            json(&control.remove_canary(&service(name)?, fence(request.uri().query())?)?)
        }
        (&Method::DELETE, ["v1" | "v2" | "v3" | "v4", "services", name]) => {
            json(&control.remove(&service(name)?, fence(request.uri().query())?)?)
        }
        _ => Err(refusal(ErrorCode::UnknownRequest, format!("there is no `{method} {path}` in this API"))),
    }
}

fn service(name: &str) -> Result<ProxyServiceName, ErrorReply> {
    ProxyServiceName::parse(name).map_err(|error| refusal(ErrorCode::Invalid, error.to_string()))
}

fn fence(query: Option<&str>) -> Result<Option<u64>, ErrorReply> {
    let Some(query) = query else { return Ok(None) };
    match query.strip_prefix("fence=").map(str::parse) {
        Some(Ok(fence)) => Ok(Some(fence)),
        _ => Err(refusal(ErrorCode::Invalid, format!("`{query}` is not `fence=` and a number"))),
    }
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, ErrorReply> {
    let body = Limited::new(request.into_body(), MAX_REQUEST_BYTES).collect().await;
    let body =
        body.map_err(|error| refusal(ErrorCode::Invalid, format!("the body cannot be read: {error}")))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| {
        refusal(ErrorCode::Invalid, format!("the body is not acceptable: {}", chain(&error)))
    })
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, ErrorReply> {
    serde_json::to_vec(value)
        .map_err(|error| refusal(ErrorCode::State, format!("the answer cannot be written: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_proxys_user_and_root_may_speak() {
        for (peer, own, may) in [(1001, 1001, true), (0, 1001, true), (1002, 1001, false), (1001, 0, false)] {
            assert_eq!(may_speak(peer, own), may, "{peer} {own}");
        }
    }
}

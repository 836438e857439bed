//! Checks of targets that speak HTTP/2.

use bytes::{Bytes, BytesMut};
use freehold_wire::ProbeOutcome;
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, header};

use super::{MAX_ANSWER_BYTES, excerpt};
use crate::http2::links::settings;
use crate::link::TargetSocket;

/// The path by which gRPC's own health check is asked for, instead of a `GET`.
/// <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>
const GRPC_CHECK: &str = "/grpc.health.v1.Health/Check";

/// A message of gRPC without fields: not compressed, no bytes. It asks for the server as a whole.
const EMPTY_MESSAGE: &[u8] = &[0; 5];

/// A message of gRPC whose field 1 is 1: `SERVING`.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

/// Asks once, on a connection of its own.
pub(super) async fn ask(stream: TargetSocket, path: &str, host: &str) -> ProbeOutcome {
    let place = Place { scheme: stream.scheme(), host };
    let Ok((requests, connection)) = settings().handshake::<_, Bytes>(stream).await else {
        return ProbeOutcome::ClosedEarly;
    };
    let asked = async {
        match path {
            GRPC_CHECK => ask_grpc(requests, place).await,
            _ => get(requests, path, place).await,
        }
    };
    tokio::select! {
        biased;
        outcome = asked => outcome.unwrap_or_else(|error| unusable(&error)),
        ended = connection => ended.err().map_or(ProbeOutcome::ClosedEarly, |error| unusable(&error)),
    }
}

fn unusable(error: &h2::Error) -> ProbeOutcome {
    if error.is_io() {
        return ProbeOutcome::ClosedEarly;
    }
    ProbeOutcome::NotHttp { received: excerpt(format!("not HTTP/2: {error}").as_bytes()) }
}

/// Where a check goes.
#[derive(Debug, Clone, Copy)]
struct Place<'p> {
    scheme: &'static str,
    host: &'p str,
}

fn request(method: Method, path: &str, Place { scheme, host }: Place<'_>) -> Option<Request<()>> {
    let uri = http::Uri::builder().scheme(scheme).authority(host).path_and_query(path).build().ok()?;
    Request::builder().method(method).uri(uri).header(header::USER_AGENT, "kamal-proxy").body(()).ok()
}

fn nowhere(host: &str) -> ProbeOutcome {
    ProbeOutcome::Unreachable { message: format!("`{host}` cannot be asked for") }
}

async fn get(
    mut requests: SendRequest<Bytes>,
    path: &str,
    place: Place<'_>,
) -> Result<ProbeOutcome, h2::Error> {
    let Some(request) = request(Method::GET, path, place) else { return Ok(nowhere(place.host)) };
    let answer = requests.send_request(request, true)?.0.await?;
    let status = answer.status();
    if status.is_success() {
        return Ok(ProbeOutcome::Healthy { status: status.as_u16() });
    }
    let location = answer.headers().get(header::LOCATION).map(|value| excerpt(value.as_bytes()));
    // The status says it all; the body is only for people.
    let body = read(&mut answer.into_body()).await.unwrap_or_default();
    Ok(ProbeOutcome::Status { code: status.as_u16(), location, body: excerpt(&body) })
}

async fn ask_grpc(mut requests: SendRequest<Bytes>, place: Place<'_>) -> Result<ProbeOutcome, h2::Error> {
    let Some(mut request) = request(Method::POST, GRPC_CHECK, place) else {
        return Ok(nowhere(place.host));
    };
    request.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert(header::TE, header::HeaderValue::from_static("trailers"));
    let (answer, mut body) = requests.send_request(request, false)?;
    body.send_data(Bytes::from_static(EMPTY_MESSAGE), true)?;
    let (head, mut body) = answer.await?.into_parts();
    let message = read(&mut body).await?;
    let trailers = body.trailers().await?.unwrap_or_default();
    let outcome = status(&trailers).or_else(|| status(&head.headers)).unwrap_or_default();
    if head.status.is_success() && outcome == "0" && message == SERVING {
        return Ok(ProbeOutcome::Healthy { status: head.status.as_u16() });
    }
    let said = match outcome {
        "0" => "gRPC: it is not serving".to_owned(),
        outcome => format!("gRPC: status {outcome} for {GRPC_CHECK}"),
    };
    Ok(ProbeOutcome::Status { code: 503, location: None, body: excerpt(said.as_bytes()) })
}

fn status(headers: &HeaderMap) -> Option<&str> {
    headers.get("grpc-status")?.to_str().ok()
}

async fn read(body: &mut RecvStream) -> Result<BytesMut, h2::Error> {
    let mut all = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
        if all.len() > MAX_ANSWER_BYTES {
            break;
        }
    }
    Ok(all)
}

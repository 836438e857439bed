//! HTTP calls over one byte stream, one after the other.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

type Connection = Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>;

/// What a connection can run over.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that calls are made over. After a call that got no answer there is none.
pub(crate) struct CallLine {
    requests: http1::SendRequest<Full<Bytes>>,
    // Driven by the calls themselves, so that no task outlives its owner.
    connection: Option<Connection>,
}

/// One request, with what it is for in words.
pub(crate) struct Call {
    pub(crate) operation: String,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Bytes,
}

/// What was answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Why nothing was answered.
pub(crate) enum CallFailure {
    Request(http::Error),
    Closed,
    Deadline,
    Transport(hyper::Error),
}

impl Call {
    pub(crate) fn with_body<B: Serialize>(
        operation: String,
        method: Method,
        path: String,
        body: &B,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self { operation, method, path, body: serde_json::to_vec(body)?.into() })
    }
}

impl CallLine {
    pub(crate) async fn over<S>(stream: S) -> Result<Self, hyper::Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        // Boxed, so that the protocol's code is there once and not for each kind of stream.
        let stream: Box<dyn Stream> = Box::new(stream);
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { requests, connection: Some(Box::pin(connection)) })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    pub(crate) async fn call(&mut self, call: Call, deadline: Duration) -> Result<Answer, CallFailure> {
        let request = Request::builder()
            .method(call.method)
            .uri(call.path)
            .header("host", "freehold")
            .header("content-type", "application/json")
            .body(Full::new(call.body))
            .map_err(CallFailure::Request)?;
        // Taken out for the time of the call: if the call is dropped half-way, the next one finds no connection.
        let mut connection = self.connection.take();
        if connection.is_none() {
            return Err(CallFailure::Closed);
        }
        let exchange = drive(&mut connection, exchange(&mut self.requests, request));
        let answer = match timeout(deadline, exchange).await {
            Err(_) => return Err(CallFailure::Deadline),
            Ok(Err(error)) if error.is_incomplete_message() || error.is_canceled() || error.is_closed() => {
                return Err(CallFailure::Closed);
            }
            Ok(Err(source)) => return Err(CallFailure::Transport(source)),
            Ok(Ok(answer)) => answer,
        };
        self.connection = connection;
        Ok(answer)
    }
}

async fn exchange(
    requests: &mut http1::SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Answer, hyper::Error> {
    requests.ready().await?;
    let response: Response<Incoming> = requests.send_request(request).await?;
    let status = response.status();
    Ok(Answer { status, body: response.into_body().collect().await?.to_bytes() })
}

/// Polls the connection beside the exchange that needs it, until the exchange has ended.
async fn drive<T>(
    connection: &mut Option<Connection>,
    exchange: impl Future<Output = Result<T, hyper::Error>>,
) -> Result<T, hyper::Error> {
    let mut exchange = pin!(exchange);
    poll_fn(|context| {
        if let Poll::Ready(result) = exchange.as_mut().poll(context) {
            return Poll::Ready(result);
        }
        if let Some(open) = connection
            && let Poll::Ready(result) = open.as_mut().poll(context)
        {
            *connection = None;
            if let Err(error) = result {
                return Poll::Ready(Err(error));
            }
        }
        // What the connection received may have completed the exchange without waking it.
        exchange.as_mut().poll(context)
    })
    .await
}

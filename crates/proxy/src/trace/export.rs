//! The way of spans to a collector: OTLP over HTTP with JSON, in batches, from the thread that serves no traffic.

use std::error::Error as StdError;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use freehold_wire::TargetAddress;
use futures_util::future::{Either, select};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::Receiver;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::{Finished, TraceConfig, TraceCounts};
use crate::log::{Level, Log};
use crate::pool::connect;
use crate::resolve::Resolver;

/// How many spans go in one message at most.
const BATCH_SPANS: usize = 512;

/// How long spans wait for others to go with.
const BATCH_TIME: Duration = Duration::from_secs(1);

/// For one message and its answer.
const MESSAGE_LIMIT: Duration = Duration::from_secs(10);

/// For what is left when the proxy stops.
const LAST_LIMIT: Duration = Duration::from_secs(2);

const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Spans do not reach the collector.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    #[error("`{url}` is not the `http` or `https` address of a collector")]
    Url { url: String },
    #[error("cannot reach `{host}`: {reason}")]
    Connect { host: String, reason: freehold_wire::Reason },
    #[error("cannot agree with `{host}` on an encrypted connection")]
    Agree { host: String, source: std::io::Error },
    #[error("`{host}` did not answer as it should")]
    Exchange { host: String, source: Box<dyn StdError + Send + Sync> },
    #[error("`{host}` answered {status}")]
    Refused { host: String, status: StatusCode },
    #[error("`{host}` did not answer within {limit:?}")]
    Late { host: String, limit: Duration },
}

/// Sends spans to a collector.
pub(crate) struct Exporter {
    pub(crate) config: TraceConfig,
    pub(crate) queue: Receiver<Finished>,
    pub(crate) counts: Arc<TraceCounts>,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) tls: TlsConnector,
    pub(crate) log: Log,
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Exporter").field("endpoint", &self.config.endpoint).finish_non_exhaustive()
    }
}

impl Exporter {
    /// Sends what comes until the proxy stops, and then what is left.
    pub(crate) async fn run(mut self, stopping: &CancellationToken) {
        let (mut batch, mut was_well) = (Vec::new(), true);
        while stopping.run_until_cancelled(self.collect(&mut batch)).await.is_some() {
            self.send(&mut batch, MESSAGE_LIMIT, &mut was_well).await;
        }
        while let Ok(span) = self.queue.try_recv() {
            batch.push(span);
        }
        self.send(&mut batch, LAST_LIMIT, &mut was_well).await;
    }

    /// Waits for spans, and then for more of them.
    async fn collect(&mut self, batch: &mut Vec<Finished>) {
        if self.queue.recv_many(batch, BATCH_SPANS).await == 0 {
            return std::future::pending().await;
        }
        let mut end = pin!(sleep(BATCH_TIME));
        while batch.len() < BATCH_SPANS {
            let left = BATCH_SPANS - batch.len();
            tokio::select! {
                () = &mut end => return,
                _ = self.queue.recv_many(batch, left) => {}
            }
        }
    }

    async fn send(&self, batch: &mut Vec<Finished>, limit: Duration, was_well: &mut bool) {
        if batch.is_empty() {
            return;
        }
        let count = batch.len() as u64;
        let body = message(batch);
        batch.clear();
        let host = self.config.endpoint.host().unwrap_or_default().to_owned();
        let sent = timeout(limit, self.post(body)).await;
        match sent.unwrap_or(Err(TraceError::Late { host, limit })) {
            Ok(()) => {
                *was_well = true;
                self.counts.sent.fetch_add(count, Ordering::Relaxed);
            }
            Err(error) => {
                self.counts.dropped.fetch_add(count, Ordering::Relaxed);
                // One line for each time that the collector goes away, not one for each message.
                if std::mem::take(was_well) {
                    let text = crate::control::chain(&error);
                    self.log.line(Level::Warn, "Traces do not reach the collector", &[("error", &text)]);
                }
            }
        }
    }

    async fn post(&self, body: String) -> Result<(), TraceError> {
        let endpoint = &self.config.endpoint;
        let wrong = || TraceError::Url { url: endpoint.to_string() };
        let host = endpoint.host().ok_or_else(wrong)?.to_owned();
        let is_encrypted = endpoint.scheme_str() == Some("https");
        let port = endpoint.port_u16().unwrap_or(if is_encrypted { 443 } else { 80 });
        let address = TargetAddress::parse(&format!("{host}:{port}")).map_err(|_| wrong())?;
        let stream = connect(&self.resolver, &address, MESSAGE_LIMIT)
            .await
            .map_err(|reason| TraceError::Connect { host: host.clone(), reason })?;
        if !is_encrypted {
            return self.exchange(stream, &host, body).await;
        }
        let server = ServerName::try_from(host.clone()).map_err(|_| wrong())?;
        let stream = self.tls.connect(server, stream).await;
        let stream = stream.map_err(|source| TraceError::Agree { host: host.clone(), source })?;
        self.exchange(stream, &host, body).await
    }

    async fn exchange<S>(&self, stream: S, host: &str, body: String) -> Result<(), TraceError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let failed = |source| TraceError::Exchange { host: host.to_owned(), source };
        let request = self.request(body).map_err(|error| failed(error.into()))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(error.into()))?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await?;
            Ok::<_, Box<dyn StdError + Send + Sync>>(status)
        };
        let status = match select(pin!(exchange), pin!(connection)).await {
            Either::Left((status, _)) => status,
            // What was received as a whole is still handed over after the connection has ended.
            Either::Right((Ok(()), exchange)) => exchange.await,
            Either::Right((Err(error), _)) => Err(error.into()),
        };
        let status = status.map_err(failed)?;
        if status.is_success() { Ok(()) } else { Err(TraceError::Refused { host: host.to_owned(), status }) }
    }

    fn request(&self, body: String) -> Result<Request<Full<Bytes>>, http::Error> {
        let endpoint = &self.config.endpoint;
        let path = endpoint.path().trim_end_matches('/');
        let path: Uri = format!("{path}/v1/traces").parse().map_err(http::Error::from)?;
        let authority = endpoint.authority().map_or("", |authority| authority.as_str());
        let request =
            Request::post(path).header("host", authority).header("content-type", "application/json");
        let request = self
            .config
            .headers
            .iter()
            .fold(request, |request, (name, value)| request.header(name, value.expose_secret()));
        request.body(Full::new(Bytes::from(body)))
    }
}

fn text(digits: &[u8]) -> &str {
    std::str::from_utf8(digits).unwrap_or_default()
}

fn attribute(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// Writes spans as OTLP has them in JSON.
fn message(batch: &[Finished]) -> String {
    let spans: Vec<Value> = batch.iter().map(span).collect();
    let version = env!("CARGO_PKG_VERSION");
    json!({ "resourceSpans": [{
        "resource": { "attributes": [attribute("service.name", "freehold-proxy"), attribute("service.version", version)] },
        "scopeSpans": [{ "scope": { "name": "freehold-proxy", "version": version }, "spans": spans }],
    }]})
    .to_string()
}

fn span(finished: &Finished) -> Value {
    let Finished { span, end_unix_nanos, duration, status, service, target, reason } = finished;
    let start = end_unix_nanos.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    let mut attributes = vec![
        attribute("http.request.method", &span.method),
        attribute("url.scheme", span.scheme),
        attribute("url.path", &span.path),
        attribute("server.address", &span.host),
        json!({ "key": "http.response.status_code", "value": { "intValue": status.to_string() } }),
        attribute("freehold.service", service),
        attribute("freehold.target", target),
    ];
    attributes.extend(reason.map(|reason| attribute("error.type", reason)));
    json!({
        "traceId": text(span.header.get(3..35).unwrap_or_default()),
        "spanId": text(span.header.get(36..52).unwrap_or_default()),
        "parentSpanId": span.parent.as_ref().map_or("", |parent| text(parent)),
        "name": span.method,
        // A server's.
        "kind": 2,
        "startTimeUnixNano": start.to_string(),
        "endTimeUnixNano": end_unix_nanos.to_string(),
        "attributes": attributes,
        "status": if *status >= 500 { json!({ "code": 2 }) } else { json!({}) },
    })
}

use std::fmt;
use std::time::Duration;

use freehold_model::{Diagnose, ErrorKind};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::post::{AddressError, Place, PostError};
use super::{About, Severity, chain};
use crate::context::Context;

/// How many records go in one request, and how long the first of them waits for the others (Kamal 2.12's).
const BATCH: usize = 100;
const PERIOD: Duration = Duration::from_secs(5);

/// How many records may wait for a collector that is slow. A build prints some thousand lines.
const WAITING: usize = 10_000;

/// How long the command waits at its end for what was not sent yet.
const LAST: Duration = Duration::from_secs(15);

/// How often a request is tried.
const TRIES: u32 = 3;

/// The variable with headers for every OTLP request, as OpenTelemetry's own exporters read it: `NAME=VALUE,NAME=VALUE`.
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";

/// The commands that deploy, which OpenTelemetry has attributes for.
const DEPLOYMENTS: [&str; 4] = ["deploy", "redeploy", "rollback", "setup"];

/// The address of the collector cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`output: otel: endpoint:` cannot be used")]
struct EndpointError(#[source] AddressError);

impl Diagnose for EndpointError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Configuration
    }
}

/// The variable with headers makes no sense. Its text may be a password.
#[derive(Debug, thiserror::Error)]
#[error("`{HEADERS}` is not a list of headers")]
struct HeadersError;

impl Diagnose for HeadersError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Configuration
    }

    fn help(&self) -> Vec<String> {
        vec!["write it like `api-key=secret,other=value`".to_owned()]
    }
}

/// Log records that did not arrive. The command went on without.
#[derive(Debug, thiserror::Error)]
#[error("{lost} of {} log records did not reach `{endpoint}`", lost + sent)]
pub(super) struct Undelivered {
    endpoint: String,
    lost: u64,
    sent: u64,
    source: Option<PostError>,
}

/// Sends what a command shows to an OpenTelemetry collector, OTLP over HTTP with JSON.
pub(super) struct Collector {
    endpoint: String,
    about: About,
    records: mpsc::Sender<Value>,
    /// Records that found no room.
    lost: u64,
    delivery: JoinSet<Delivered>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Collector").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// What became of the records.
#[derive(Debug, Default)]
struct Delivered {
    sent: u64,
    lost: u64,
    error: Option<PostError>,
}

impl Collector {
    /// Begins to deliver, with the event that the command began.
    ///
    /// # Errors
    /// The address or the headers cannot be used.
    pub(super) fn start(
        endpoint: &str,
        about: &About,
        context: &Context,
    ) -> Result<Self, crate::error::CommandError> {
        let headers = headers(context.process.variable(HEADERS).unwrap_or_default()).ok_or(HeadersError)?;
        let url = format!("{endpoint}/v1/logs");
        let place = Place::new(&url, headers, &context.process).map_err(EndpointError)?;
        let (records, waiting) = mpsc::channel(WAITING);
        let mut delivery = JoinSet::new();
        delivery.spawn(deliver(place, resource(about), waiting));
        let (endpoint, about) = (endpoint.to_owned(), about.clone());
        let mut collector = Self { endpoint, about, records, lost: 0, delivery };
        let hosts = collector.about.hosts.join(",");
        let started = collector.about.started;
        collector.event("kamal.start", Severity::Info, started, vec![("kamal.hosts", hosts)]);
        Ok(collector)
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(super) fn line(&mut self, text: &str, severity: Severity, at: Timestamp) {
        self.put(record(text, severity, at));
    }

    /// Sends how the command ended and what is left.
    ///
    /// # Errors
    /// [`Undelivered`] when something did not arrive.
    ///
    /// # Cancel safety
    /// Dropping the future leaves what was not sent yet.
    pub(super) async fn end(
        mut self,
        error: Option<&(dyn Diagnose + Send + Sync)>,
        took: Duration,
        at: Timestamp,
    ) -> Result<(), Undelivered> {
        let runtime = ("kamal.runtime", format!("{:.1}", took.as_secs_f64()));
        let is_deployment = DEPLOYMENTS.contains(&self.about.command);
        let status = |text: &str| is_deployment.then(|| ("deployment.status", text.to_owned()));
        match error {
            None => {
                let attributes = [Some(runtime), status("succeeded")].into_iter().flatten().collect();
                self.event("kamal.complete", Severity::Info, at, attributes);
            }
            Some(error) => {
                let kind = ("exception.type", format!("{:?}", error.kind()));
                let message = ("exception.message", chain(error));
                let all = [Some(runtime), Some(kind), Some(message), status("failed")];
                self.event("kamal.failed", Severity::Error, at, all.into_iter().flatten().collect());
            }
        }
        let Self { endpoint, records, lost, mut delivery, .. } = self;
        drop(records);
        let ended = tokio::time::timeout(LAST, delivery.join_next()).await;
        let delivered = match ended {
            Ok(Some(Ok(delivered))) => delivered,
            Ok(Some(Err(_)) | None) | Err(_) => {
                Delivered { lost: 1, error: Some(PostError::TimedOut), sent: 0 }
            }
        };
        match lost + delivered.lost {
            0 => Ok(()),
            lost => Err(Undelivered { endpoint, lost, sent: delivered.sent, source: delivered.error }),
        }
    }

    fn event(&mut self, name: &str, severity: Severity, at: Timestamp, more: Vec<(&str, String)>) {
        let about = &self.about;
        let mut attributes = vec![("kamal.command", about.command.to_owned())];
        if DEPLOYMENTS.contains(&about.command) {
            attributes.push(("deployment.id", about.run_id.clone()));
            attributes.push(("deployment.name", format!("{} {}", about.command, about.service)));
        }
        attributes.extend(more);
        let mut record = record(name, severity, at);
        if let Some(fields) = record.as_object_mut() {
            fields.insert("eventName".to_owned(), name.into());
            fields.insert("attributes".to_owned(), attributes_of(attributes));
        }
        self.put(record);
    }

    fn put(&mut self, record: Value) {
        if self.records.try_send(record).is_err() {
            self.lost += 1;
        }
    }
}

/// Sends records in batches until there will be no more.
async fn deliver(place: Place, resource: Value, mut waiting: mpsc::Receiver<Value>) -> Delivered {
    let mut delivered = Delivered::default();
    let mut is_open = true;
    while is_open {
        let mut batch = Vec::new();
        let Some(first) = waiting.recv().await else { break };
        batch.push(first);
        let due = tokio::time::Instant::now() + PERIOD;
        while batch.len() < BATCH && is_open {
            match tokio::time::timeout_at(due, waiting.recv()).await {
                Ok(Some(record)) => batch.push(record),
                Ok(None) => is_open = false,
                Err(_) => break,
            }
        }
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let scope = json!({ "name": "freehold", "version": env!("CARGO_PKG_VERSION") });
        let logs = json!([{ "resource": resource, "scopeLogs": [{ "scope": scope, "logRecords": batch }] }]);
        match send(&place, json!({ "resourceLogs": logs }).to_string()).await {
            Ok(()) => delivered.sent += count,
            Err(error) => {
                tracing::debug!(%error, count, "log records not delivered");
                delivered.lost += count;
                delivered.error.get_or_insert(error);
            }
        }
    }
    delivered
}

/// Sends one batch, again where that may help.
async fn send(place: &Place, body: String) -> Result<(), PostError> {
    let mut attempt = 1;
    loop {
        match place.post(body.clone()).await {
            Err(error) if attempt < TRIES && error.may_pass() => {
                tracing::debug!(%error, attempt, "log records not taken, trying again");
                tokio::time::sleep(Duration::from_millis(200).saturating_mul(attempt)).await;
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Describes the sender of all records; the attributes are Kamal's, so that what reads them goes on working.
fn resource(about: &About) -> Value {
    let optional = [
        ("kamal.deploy_version", about.version.clone()),
        ("deployment.environment.name", about.destination.clone()),
    ];
    let mut attributes = vec![
        ("service.name", "kamal".to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.namespace", about.service.clone()),
        ("kamal.run_id", about.run_id.clone()),
        ("kamal.performer", about.performer.clone()),
    ];
    attributes.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
    json!({ "attributes": attributes_of(attributes) })
}

fn record(text: &str, severity: Severity, at: Timestamp) -> Value {
    let time = at.as_nanosecond().to_string();
    json!({
        "timeUnixNano": time,
        "observedTimeUnixNano": time,
        "severityNumber": severity as u8,
        "severityText": severity.name(),
        "body": { "stringValue": text },
    })
}

fn attributes_of(attributes: Vec<(&str, String)>) -> Value {
    attributes
        .into_iter()
        .map(|(name, value)| json!({ "key": name, "value": { "stringValue": value } }))
        .collect()
}

fn headers(text: &str) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let mut value = HeaderValue::from_str(value.trim()).ok()?;
        value.set_sensitive(true);
        headers.insert(name.trim().parse::<HeaderName>().ok()?, value);
    }
    Some(headers)
}

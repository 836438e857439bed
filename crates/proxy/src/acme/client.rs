//! HTTP requests to certificate authorities.

use std::error::Error as StdError;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use freehold_wire::{Reason, TargetAddress};
use futures_util::future::{Either, select};
use http::header::{HOST, RETRY_AFTER};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::pool::connect;
use crate::resolve::Resolver;

/// The longest answer: a chain of certificates is a few thousand bytes.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// How requests are sent; cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) resolver: Arc<Resolver>,
    pub(super) tls: TlsConnector,
    /// For one request and its answer.
    pub(super) limit: Duration,
    /// Before when the authority wants to hear nothing more, by its last refusal.
    pub(super) not_before: Arc<Mutex<Option<SystemTime>>>,
}

/// A request to an authority has no answer.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("`{url}` is no `https` address of a certificate authority")]
    Url { url: String },
    #[error("cannot reach `{host}`: {}", describe(*reason))]
    Connect { host: String, reason: Reason },
    #[error("cannot agree with `{host}` on an encrypted connection")]
    Agree { host: String, source: std::io::Error },
    #[error("`{host}` did not answer as it should")]
    Exchange { host: String, source: Box<dyn StdError + Send + Sync> },
    #[error("`{host}` did not answer within {} s", limit.as_secs())]
    Late { host: String, limit: Duration },
}

pub(super) fn describe(reason: Reason) -> &'static str {
    match reason {
        Reason::TargetRefused => "it refuses connections",
        Reason::TargetUnresolvable => "its name has no address",
        Reason::TargetConnectTimeout => "it did not take a connection in time",
        _ => "there is no way to it",
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            let host = request.uri().host().unwrap_or_default().to_owned();
            let limit = client.limit;
            let response = match timeout(limit, client.send(request)).await {
                Ok(response) => response,
                Err(_) => Err(RequestError::Late { host, limit }),
            };
            response.map(BytesResponse::from).map_err(|error| Error::Other(Box::new(error)))
        })
    }
}

impl Client {
    async fn send(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<Full<Bytes>>, RequestError> {
        let url = request.uri().clone();
        let not_https = || RequestError::Url { url: url.to_string() };
        let host = url.host().filter(|_| url.scheme_str() == Some("https")).ok_or_else(not_https)?;
        let address = format!("{host}:{}", url.port_u16().unwrap_or(443));
        let address = TargetAddress::parse(&address).map_err(|_| not_https())?;
        let server = ServerName::try_from(host.to_owned()).map_err(|_| not_https())?;
        let host = host.to_owned();
        let stream = connect(&self.resolver, &address, self.limit)
            .await
            .map_err(|reason| RequestError::Connect { host: host.clone(), reason })?;
        let stream = self
            .tls
            .connect(server, stream)
            .await
            .map_err(|source| RequestError::Agree { host: host.clone(), source })?;
        let failed = |source| RequestError::Exchange { host: host.clone(), source };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(error.into()))?;
        let exchange = async {
            let response = sender.send_request(in_origin_form(request)).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await?.to_bytes();
            Ok(Response::from_parts(parts, Full::new(body)))
        };
        let response = match select(pin!(exchange), pin!(connection)).await {
            Either::Left((response, _)) => response,
            // What was received as a whole is still handed over after the connection has ended.
            Either::Right((Ok(()), exchange)) => exchange.await,
            Either::Right((Err(error), _)) => Err(error.into()),
        };
        let response = response.map_err(failed)?;
        self.take_note(&response);
        Ok(response)
    }

    /// Remembers for how long an authority that refuses does not want to be asked.
    fn take_note(&self, response: &Response<Full<Bytes>>) {
        if response.status().as_u16() != 429 && response.status().as_u16() != 503 {
            return;
        }
        let value = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let Some(value) = value else { return };
        let now = SystemTime::now();
        let until = match value.trim().parse() {
            Ok(seconds) => now.checked_add(Duration::from_secs(seconds)),
            Err(_) => httpdate(value),
        };
        *self.not_before.lock() = until;
    }
}

/// Reads a date as HTTP has it.
fn httpdate(text: &str) -> Option<SystemTime> {
    let time = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
    Some(time.timestamp().into())
}

/// Writes a request as it is sent to the server itself: the address as path and `Host`.
fn in_origin_form(mut request: Request<BodyWrapper<Bytes>>) -> Request<BodyWrapper<Bytes>> {
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    if let Some(host) = authority.and_then(|authority| HeaderValue::from_str(&authority).ok()) {
        request.headers_mut().insert(HOST, host);
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if let Ok(uri) = path.parse::<Uri>() {
        *request.uri_mut() = uri;
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_of_http_is_read() {
        let time = httpdate("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 784_111_777);
        assert_eq!(httpdate("tomorrow"), None);
    }

    #[test]
    fn a_request_names_its_server_and_carries_the_path() {
        let request = Request::get("https://ca.example:14000/dir?x=1").body(BodyWrapper::default()).unwrap();
        let request = in_origin_form(request);
        assert_eq!(request.uri(), &Uri::from_static("/dir?x=1"));
        assert_eq!(request.headers()[HOST], "ca.example:14000");
    }
}

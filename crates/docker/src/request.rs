use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{EngineError, EngineMessage};

pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// The greatest answer that is read whole. Lists of thousands of containers stay far below it.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// One request of the Engine API as a value.
pub(crate) struct EngineRequest {
    pub(crate) action: String,
    pub(crate) method: Method,
    pub(crate) path_and_query: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Body,
}

impl EngineRequest {
    pub(crate) fn new(action: impl Into<String>, method: Method, path: impl Into<String>) -> Self {
        Self {
            action: action.into(),
            method,
            path_and_query: path.into(),
            headers: Vec::new(),
            body: Empty::new().map_err(|never| match never {}).boxed_unsync(),
        }
    }

    pub(crate) fn get(action: impl Into<String>, path: impl Into<String>) -> Self {
        Self::new(action, Method::GET, path)
    }

    pub(crate) fn post(action: impl Into<String>, path: impl Into<String>) -> Self {
        Self::new(action, Method::POST, path)
    }

    pub(crate) fn delete(action: impl Into<String>, path: impl Into<String>) -> Self {
        Self::new(action, Method::DELETE, path)
    }

    pub(crate) fn query(mut self, name: &str, value: impl AsRef<str>) -> Self {
        let separator = if self.path_and_query.contains('?') { '&' } else { '?' };
        self.path_and_query.push(separator);
        self.path_and_query.push_str(&escape(name));
        self.path_and_query.push('=');
        self.path_and_query.push_str(&escape(value.as_ref()));
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn json(self, body: Vec<u8>) -> Self {
        let mut request = self.header("content-type", "application/json");
        request.body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
        request
    }

    pub(crate) fn tar(self, body: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static) -> Self {
        let mut request = self.header("content-type", "application/x-tar");
        request.body = BodyExt::boxed_unsync(StreamBody::new(body.map(|chunk| chunk.map(Frame::data))));
        request
    }
}

/// Escapes a query's name or value, or one segment of a path.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~:/@".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// An answer whose status and headers are known.
pub(crate) struct Answer {
    pub(crate) action: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Incoming,
}

#[derive(Deserialize)]
struct ErrorBody {
    message: String,
}

impl Answer {
    /// Reads the whole body.
    pub(crate) async fn bytes(self) -> Result<Bytes, EngineError> {
        let Self { action, mut body, .. } = self;
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| EngineError::connection(&action, error))?;
            if let Ok(data) = frame.into_data() {
                if whole.len() + data.len() > LARGEST_ANSWER {
                    return Err(EngineError::answer(&action, "it is longer than 64 MiB"));
                }
                whole.extend_from_slice(&data);
            }
        }
        Ok(whole.freeze())
    }

    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<T, EngineError> {
        let action = self.action.clone();
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|error| EngineError::answer(action, error))
    }

    /// Turns an answer that is neither success, "not modified" nor an upgrade into the engine's refusal.
    pub(crate) async fn accepted(self) -> Result<Self, EngineError> {
        let fine = self.status.is_success()
            || self.status == StatusCode::NOT_MODIFIED
            || self.status == StatusCode::SWITCHING_PROTOCOLS;
        if fine {
            return Ok(self);
        }
        let (action, status) = (self.action.clone(), self.status.as_u16());
        let bytes = self.bytes().await?;
        let message = match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(body) => body.message,
            Err(_) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        };
        let message = if message.is_empty() { "no reason given".to_owned() } else { message };
        Err(EngineError::Refused { action, status, source: EngineMessage(message) })
    }

    /// Returns the body as a stream in which no pause may be longer than `idle`.
    pub(crate) fn chunks(self, idle: Duration) -> Chunks {
        Chunks { action: self.action, body: self.body, idle: Some(idle) }
    }

    /// Returns the body as a stream that may be silent for ever, such as a followed log.
    pub(crate) fn endless(self) -> Chunks {
        Chunks { action: self.action, body: self.body, idle: None }
    }
}

/// The body of an answer, piece by piece.
pub(crate) struct Chunks {
    pub(crate) action: String,
    body: Incoming,
    idle: Option<Duration>,
}

impl Chunks {
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, EngineError>> {
        loop {
            let frame = match self.idle {
                Some(limit) => match tokio::time::timeout(limit, self.body.frame()).await {
                    Ok(frame) => frame,
                    Err(_) => {
                        return Some(Err(EngineError::Timeout { action: self.action.clone(), limit }));
                    }
                },
                None => self.body.frame().await,
            };
            match frame? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(error) => return Some(Err(EngineError::connection(&self.action, error))),
            }
        }
    }
}

/// The JSON values of an answer that is a sequence of them (build, load, pull).
pub(crate) struct JsonLines {
    chunks: Chunks,
    buffer: BytesMut,
    ended: bool,
}

impl JsonLines {
    pub(crate) fn new(chunks: Chunks) -> Self {
        Self { chunks, buffer: BytesMut::new(), ended: false }
    }

    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Option<Result<T, EngineError>> {
        loop {
            // The engine ends every value with a line feed, and JSON holds none inside a value.
            let line = match self.buffer.iter().position(|byte| *byte == b'\n') {
                Some(end) => self.buffer.split_to(end + 1),
                None if self.ended && self.buffer.is_empty() => return None,
                None if self.ended => self.buffer.split(),
                None => {
                    match self.chunks.next().await {
                        Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                        Some(Err(error)) => return Some(Err(error)),
                        None => self.ended = true,
                    }
                    if self.buffer.len() > LARGEST_ANSWER {
                        return Some(Err(EngineError::answer(
                            &self.chunks.action,
                            "a line is longer than 64 MiB",
                        )));
                    }
                    continue;
                }
            };
            let text = line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            return Some(
                serde_json::from_slice(text).map_err(|error| EngineError::answer(&self.chunks.action, error)),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        let request = EngineRequest::get("list", "/containers/json")
            .query("filters", r#"{"label":["a=b&c"]}"#)
            .query("all", "1");
        assert_eq!(
            request.path_and_query,
            "/containers/json?filters=%7B%22label%22:%5B%22a%3Db%26c%22%5D%7D&all=1"
        );
    }
}

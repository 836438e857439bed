use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{Connection, RequestError};
use super::{Kind, LoadOptions, Report, websocket};

const SLOW_MILLISECONDS: u64 = 500;
const UPLOAD_BYTES: usize = 256 * 1024;
const UPLOAD_PIECES: usize = 10;
const UPLOAD_PAUSE: Duration = Duration::from_millis(25);

/// Sends one request after the other, of one kind to one target.
pub(super) struct Worker {
    pub(super) target: SocketAddr,
    pub(super) kind: Kind,
    pub(super) options: Arc<LoadOptions>,
    pub(super) report: Arc<Mutex<Report>>,
    pub(super) started: Instant,
}

impl Worker {
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut kept = None;
        while !stop.is_cancelled() {
            let begun = Instant::now();
            let deadline = self.options.deadline;
            let outcome = tokio::time::timeout(deadline, self.send(&mut kept)).await;
            let outcome = outcome.unwrap_or(Err(RequestError::TooSlow(deadline)));
            if outcome.is_err() {
                kept = None;
            }
            let at = begun.duration_since(self.started);
            self.report.lock().kind(self.kind).count(at, begun.elapsed(), outcome);
            tokio::select! {
                () = tokio::time::sleep(self.options.pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Sends one request and returns the version that answered it.
    async fn send(&self, kept: &mut Option<Connection>) -> Result<Option<String>, RequestError> {
        match self.kind {
            Kind::KeepAlive => self.keep_alive(kept).await,
            Kind::NewConnection => self.get(&mut self.open().await?, "/", "close").await,
            Kind::Slow => {
                let path = format!("/slow?ms={SLOW_MILLISECONDS}");
                self.get(&mut self.open().await?, &path, "close").await
            }
            Kind::Upload => self.upload().await,
            Kind::WebSocket => websocket::session(self.open().await?, &self.options.host).await,
        }
    }

    async fn open(&self) -> Result<Connection, RequestError> {
        Connection::open(self.target).await
    }

    async fn keep_alive(&self, kept: &mut Option<Connection>) -> Result<Option<String>, RequestError> {
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => self.open().await?,
        };
        let mut version = self.get(&mut connection, "/", "keep-alive").await;
        // A server may close an idle connection just as the next request is sent. A GET may then be sent again.
        if connection.is_used && matches!(version, Err(RequestError::NoAnswer(_))) {
            self.report.lock().kind(self.kind).retried += 1;
            connection = self.open().await?;
            version = self.get(&mut connection, "/", "keep-alive").await;
        }
        if !connection.is_closing {
            *kept = Some(connection);
        }
        version
    }

    async fn get(
        &self,
        connection: &mut Connection,
        path: &str,
        keep: &str,
    ) -> Result<Option<String>, RequestError> {
        let host = &self.options.host;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {keep}\r\n\r\n");
        connection.send(request.as_bytes()).await?;
        let answer = connection.answer().await?;
        if answer.body.is_empty() {
            return Err(RequestError::WrongAnswer(String::new()));
        }
        Ok(answer.version())
    }

    async fn upload(&self) -> Result<Option<String>, RequestError> {
        let mut connection = self.open().await?;
        let host = &self.options.host;
        let head = format!(
            "POST /upload HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {UPLOAD_BYTES}\r\n\r\n"
        );
        connection.send(head.as_bytes()).await?;
        for piece in vec![b'x'; UPLOAD_BYTES].chunks(UPLOAD_BYTES.div_ceil(UPLOAD_PIECES)) {
            connection.send(piece).await?;
            tokio::time::sleep(UPLOAD_PAUSE).await;
        }
        let answer = connection.answer().await?;
        let counted = String::from_utf8_lossy(&answer.body).trim().to_owned();
        if counted == UPLOAD_BYTES.to_string() {
            Ok(answer.version())
        } else {
            Err(RequestError::WrongAnswer(counted))
        }
    }
}

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use serde::Deserialize;

use crate::byte_channel::ByteFlow;
use crate::request::{EngineRequest, JsonLines, escape};
use crate::{Engine, EngineError, EngineMessage};

/// Notes when bytes last moved, so that a stalled transfer ends and a slow one does not.
#[derive(Clone)]
pub(crate) struct Activity(Arc<Mutex<Instant>>);

impl Activity {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(crate) fn touch(&self) {
        *self.0.lock() = Instant::now();
    }

    /// Runs a future for as long as bytes move.
    pub(crate) async fn bound<T>(
        &self,
        idle: Duration,
        action: &str,
        future: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let stalled = async {
            loop {
                let last = *self.0.lock();
                let quiet = last.elapsed();
                if quiet >= idle {
                    return;
                }
                tokio::time::sleep(idle - quiet).await;
            }
        };
        tokio::select! {
            outcome = future => outcome,
            () = stalled => Err(EngineError::Timeout { action: action.to_owned(), limit: idle }),
        }
    }
}

/// One line of the answer to a load.
#[derive(Debug, Deserialize)]
pub(crate) struct ProgressLine {
    #[serde(default)]
    error: Option<String>,
    #[serde(default, rename = "errorDetail")]
    error_detail: Option<ErrorDetail>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ErrorDetail {
    #[serde(default)]
    message: Option<String>,
}

impl ProgressLine {
    pub(crate) fn failure(&self) -> Option<EngineMessage> {
        failure(self.error.as_ref(), self.error_detail.as_ref())
    }
}

/// Takes what went wrong from the two places where engines say it.
pub(crate) fn failure(error: Option<&String>, detail: Option<&ErrorDetail>) -> Option<EngineMessage> {
    let detail = detail.and_then(|detail| detail.message.clone());
    error.cloned().or(detail).map(EngineMessage)
}

/// Finds what went wrong in the answer to a load that another program asked for.
#[must_use]
pub fn load_failure(answer: &str) -> Option<EngineMessage> {
    let lines = answer.lines().filter_map(|line| serde_json::from_str::<ProgressLine>(line).ok());
    lines.filter_map(|line| line.failure()).next_back()
}

impl Engine {
    /// Loads a docker-format archive. It may leave out the blobs of layers that the engine has.
    ///
    /// # Errors
    /// [`EngineError::Failed`] with the engine's words if it did not take the archive; an error of the stream itself is
    /// [`EngineError::Connection`].
    ///
    /// # Cancel safety
    /// Some layers may stay behind without a name; the names of the archive are given last.
    pub async fn load_archive(&self, archive: ByteFlow) -> Result<(), EngineError> {
        let activity = Activity::new();
        let action = "load an image";
        let moved = activity.clone();
        let body = archive.inspect(move |_| moved.touch());
        // Not quiet, the engine would answer while it reads, and Go's HTTP server may then drop a part of the body.
        let request = EngineRequest::post(action, "/images/load").query("quiet", "1").tar(body);
        let idle = self.deadlines().transfer_idle;
        activity
            .bound(idle, action, async {
                // The bound above ends it; this one only has to be longer.
                let answer = self.send(request, Duration::MAX).await?;
                let mut lines = JsonLines::new(answer.chunks(idle));
                while let Some(line) = lines.next::<ProgressLine>().await {
                    activity.touch();
                    if let Some(source) = line?.failure() {
                        return Err(EngineError::Failed { action: action.to_owned(), source });
                    }
                }
                Ok(())
            })
            .await
    }

    /// Reads an image as a docker-format archive, over a connection of its own.
    ///
    /// # Errors
    /// [`EngineError`], at once or in the stream; status 404 if there is no such image.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn save_image(
        &self,
        image: &str,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + Unpin + use<>, EngineError> {
        let action = format!("save image `{image}`");
        let idle = self.deadlines().transfer_idle;
        let request = EngineRequest::get(action, format!("/images/{}/get", escape(image)));
        // Some engines gather the whole image before the first byte.
        let (answer, connection) = self.send_apart(request, idle).await?;
        let chunks = answer.chunks(idle);
        Ok(Box::pin(futures_util::stream::unfold(
            (chunks, connection),
            |(mut chunks, connection)| async move {
                let next = chunks.next().await?.map_err(io::Error::other);
                Some((next, (chunks, connection)))
            },
        )))
    }
}

//! A process of this build in the place of the proxy's, inside the same container.
//!
//! The container stays, and with it its ports: its first process hands its sockets to the new one and lives on as the
//! supervisor of it. That needs a running proxy of ours that knows how; every other is replaced with its container.

use std::time::Duration;

use bytes::Bytes;
use freehold_docker::{ContainerFile, Owner};
use freehold_wire::UpgradeRequest;

use crate::engine_host::EngineHost;
use crate::engine_host::image::unreadable;
use crate::engine_host::link::Link;
use crate::engine_host::proxy::{CONTROL_DEADLINE, PROXY_CONTAINER, status};
use crate::event::milliseconds;
use crate::host::{Outcome, StepContext, StepError};

/// The executable of the image: what the container starts with, now and after a restart.
const EXECUTABLE: &str = "freehold";

/// The one that takes over.
const NEXT: &str = "freehold.next";

/// For how long the proxy may wait for a change that is going on, and then for the new process.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(70);

impl EngineHost {
    /// Brings our executable into the proxy's container and lets the proxy hand over to it.
    pub(super) async fn upgrade_proxy(
        &self,
        drain: Duration,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let (_, executable) = self.proxy_executable(&link).await?;
        let path = executable.to_owned();
        let content = tokio::task::spawn_blocking(move || fs_err::read(path)).await;
        let content = content.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let content = Bytes::from(content.map_err(unreadable)?);
        status(context, "sending the executable");
        self.place_executable(&link, NEXT, content.clone()).await?;
        let request =
            UpgradeRequest { executable: Some(format!("/{NEXT}")), drain_timeout_ms: milliseconds(drain) };
        status(context, "handing over");
        let limit = HAND_OVER_LIMIT + CONTROL_DEADLINE;
        let answer =
            self.ask_proxy(&link, "hand over", async |client| client.upgrade(&request, limit).await).await;
        let reply = answer.map_err(|failure| failure.into_step_error(&self.name))?;
        // The way to the earlier process leads nowhere now.
        *link.proxy.lock().await = None;
        self.await_proxy(&link).await?;
        // A container that is restarted starts with the image's executable, unless there is another one in its place.
        self.place_executable(&link, EXECUTABLE, content).await?;
        Ok(Outcome::Done(Some(format!(
            "handed over to version {} in {} ms",
            reply.version, reply.elapsed_ms
        ))))
    }

    async fn place_executable(&self, link: &Link, name: &str, content: Bytes) -> Result<(), StepError> {
        let file = ContainerFile { name: name.to_owned(), mode: 0o755, owner: Owner::default(), content };
        let written = link.engine.write_files(PROXY_CONTAINER, "/", &[file]).await;
        Ok(written
            .map_err(|error| self.engine_error("bring the executable into the proxy's container", error))?)
    }
}

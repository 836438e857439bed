use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::agent::Agent;

const INTERVAL: Duration = Duration::from_secs(10);

/// How long the engine may be away.
const PATIENCE: Duration = Duration::from_secs(60);

impl Agent {
    /// Waits until the engine has been away for too long.
    ///
    /// An engine that was started again has a new socket, which a container that runs on never sees: the old one is
    /// mounted. Ending makes the engine start the agent again, with the new one.
    pub(crate) async fn miss_engine(&self) {
        let mut answered = Instant::now();
        while answered.elapsed() < PATIENCE {
            sleep(INTERVAL).await;
            match tokio::time::timeout(INTERVAL, self.containers.answers()).await {
                Ok(Ok(())) => answered = Instant::now(),
                Ok(Err(error)) => tracing::warn!(%error, "the engine does not answer"),
                Err(_) => tracing::warn!("the engine does not answer"),
            }
        }
    }
}

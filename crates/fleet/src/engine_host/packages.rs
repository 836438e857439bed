mod scripts;

use std::sync::Arc;
use std::time::Duration;

use freehold_ssh::RemoteForward;
use tokio::task::JoinSet;

use crate::egress::Egress;
use crate::engine_host::EngineHost;
use crate::engine_host::connection::Connection;
use crate::engine_host::shell::ShellOutput;
use crate::event::Event;
use crate::host::HostError;

pub(super) use scripts::ROOT;

/// How long installing packages may take on a slow machine.
const INSTALL_DEADLINE: Duration = Duration::from_secs(900);

impl EngineHost {
    /// Runs a script that installs packages with the functions of [`scripts::FETCH`].
    ///
    /// If the host does not reach its package sources, the script runs once more, and gets them through this computer.
    pub(super) async fn install(&self, operation: &str, script: &str) -> Result<ShellOutput, HostError> {
        let direct = scripts::install(script, None);
        let output = self.long_script(operation, &direct, INSTALL_DEADLINE).await?;
        if output.code != scripts::NO_SOURCES {
            return self.successful(operation, output);
        }
        let link = self.link().await?;
        let Connection::Ssh(session) = &link.connection else { return self.successful(operation, output) };
        let named = scripts::sources(&output.stdout);
        let list = named.iter().cloned().collect::<Vec<_>>().join(", ");
        let message = format!("does not reach its package sources ({list}): they come through this computer");
        self.watch.event(Event::Warning { host: Some(self.name.clone()), message });
        let lost = |source: Arc<dyn std::error::Error + Send + Sync>| HostError::Lost {
            host: self.name.clone(),
            operation: operation.to_owned(),
            source: Some(source),
        };
        // A connection of its own: packages come at the pace of the host's disk.
        let session = self.another_session(&link, session).await.unwrap_or_else(|| session.clone());
        let forward = session.forward_remote_port().await.map_err(|error| lost(Arc::new(error)))?;
        let password = Egress::password().map_err(|error| lost(Arc::new(error)))?;
        let egress = Arc::new(Egress::new(password, named));
        let proxied = scripts::install(script, Some(&egress.url(forward.port())));
        let outcome = through(forward, egress, self.long_script(operation, &proxied, INSTALL_DEADLINE)).await;
        drop(session);
        self.successful(operation, outcome?)
    }

    fn successful(&self, operation: &str, output: ShellOutput) -> Result<ShellOutput, HostError> {
        if output.code == 0 { Ok(output) } else { Err(self.refused(operation, &output)) }
    }
}

/// Does something while what comes to the forwarded port is proxied.
async fn through<T>(mut forward: RemoteForward, egress: Arc<Egress>, work: impl Future<Output = T>) -> T {
    let mut connections = JoinSet::new();
    let serve = async {
        while let Some(stream) = forward.accept().await {
            while connections.try_join_next().is_some() {}
            let egress = Arc::clone(&egress);
            connections.spawn(async move {
                if let Err(error) = egress.serve(stream).await {
                    // The package manager tries again, and says what it misses.
                    tracing::debug!(%error, "a proxied connection broke");
                }
            });
        }
        // The connection to the host is gone; the work on it will say so.
        std::future::pending::<std::convert::Infallible>().await
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        never = serve => match never {},
    };
    forward.close().await;
    outcome
}

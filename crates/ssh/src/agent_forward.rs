use std::sync::Arc;

use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::channel::{ByteStream, ChannelGuard};
use crate::connection::Connection;

/// How many requests to the agent may wait to be connected.
const BACKLOG: usize = 16;

impl Connection {
    /// Says whether an agent is to be forwarded to sessions with a terminal.
    pub(crate) fn forwards_agent(&self) -> bool {
        self.hop().forward_agent && !self.hop().identities.agents.is_empty()
    }

    /// Connects what the host asks our agent to the agent, from now on.
    pub(crate) fn serve_agent(self: &Arc<Self>) {
        let Some(socket) = self.hop().identities.agents.first().cloned() else { return };
        let (sender, mut incoming) = mpsc::channel(BACKLOG);
        if !self.shared().forward_agent(sender) {
            return;
        }
        // It must not keep the connection open: the sender, which lives there, ends the loop.
        let connection = Arc::downgrade(self);
        self.in_background(async move {
            while let Some(half) = incoming.recv().await {
                let Some(connection) = connection.upgrade() else { return };
                let mut stream = ByteStream::new(&ChannelGuard::new(half, Arc::clone(&connection), None));
                let socket = socket.clone();
                connection.in_background(async move {
                    let Ok(mut agent) = UnixStream::connect(&socket).await else { return };
                    if let Err(error) = tokio::io::copy_bidirectional(&mut stream, &mut agent).await {
                        tracing::debug!(%error, "forwarded agent ended");
                    }
                });
            }
        });
    }
}

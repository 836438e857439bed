use std::sync::Arc;

use freehold_model::{Diagnose, ErrorKind, HostName};
use tokio::sync::mpsc;

use crate::channel::{ByteStream, ChannelGuard};
use crate::client::Incoming;
use crate::connection::Connection;

/// A port on a host's loopback address whose connections come to us. Dropped, it is closed.
pub struct RemoteForward {
    port: u16,
    incoming: mpsc::Receiver<Incoming>,
    connection: Arc<Connection>,
    closed: bool,
}

/// How many connections may wait to be accepted; more are refused.
const BACKLOG: usize = 128;

/// The host's side of every forward of ours: no other machine reaches it.
const ADDRESS: &str = "127.0.0.1";

impl RemoteForward {
    /// Opens the port that is asked for, or a free one for 0.
    pub(crate) async fn open(connection: &Arc<Connection>, wanted: u16) -> Result<Self, ForwardError> {
        let hop = connection.hop();
        let host = || hop.name.clone();
        let limit = hop.connect_timeout;
        let asked =
            tokio::time::timeout(limit, connection.handle().tcpip_forward(ADDRESS, u32::from(wanted))).await;
        let port = match asked {
            Err(_) => return Err(ForwardError::TimedOut { host: host(), after: limit }),
            Ok(Err(russh::Error::RequestDenied)) => {
                return Err(ForwardError::Refused { host: host(), port: wanted });
            }
            Ok(Err(error)) => {
                let reason = connection.ended().unwrap_or_else(|| error.to_string());
                return Err(ForwardError::Disconnected { host: host(), reason });
            }
            Ok(Ok(port)) => port,
        };
        // The answer names the port only where the server chose it.
        let port =
            if wanted == 0 { u16::try_from(port).ok().filter(|port| *port != 0) } else { Some(wanted) };
        let port = port.ok_or_else(|| ForwardError::Refused { host: host(), port: wanted })?;
        let (sender, incoming) = mpsc::channel(BACKLOG);
        connection.shared().forward(port, sender);
        Ok(Self { port, incoming, connection: Arc::clone(connection), closed: false })
    }

    /// Returns the port on the host.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits for the next connection; none if the connection to the host has ended.
    ///
    /// # Cancel safety
    /// No connection is lost.
    pub async fn accept(&mut self) -> Option<ByteStream> {
        let half = self.incoming.recv().await?;
        Some(ByteStream::new(&ChannelGuard::new(half, Arc::clone(&self.connection), None)))
    }

    /// Closes the port and waits until the host has done so, at most as long as opening it may take. Streams that were
    /// accepted go on.
    pub async fn close(mut self) {
        self.closed = true;
        self.connection.shared().stop_forward(self.port);
        let limit = self.connection.hop().connect_timeout;
        let cancel = self.connection.handle().cancel_tcpip_forward(ADDRESS, u32::from(self.port));
        if !matches!(tokio::time::timeout(limit, cancel).await, Ok(Ok(()))) {
            tracing::debug!(port = self.port, "forwarded port not closed");
        }
    }
}

impl Drop for RemoteForward {
    fn drop(&mut self) {
        // The host may have given the port to another forward since.
        if self.closed {
            return;
        }
        self.connection.shared().stop_forward(self.port);
        let connection = Arc::clone(&self.connection);
        let port = self.port;
        self.connection.in_background(async move {
            // A connection that has ended has closed the port as well.
            drop(connection.handle().cancel_tcpip_forward(ADDRESS, u32::from(port)).await);
        });
    }
}

impl std::fmt::Debug for RemoteForward {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RemoteForward").field("port", &self.port).finish_non_exhaustive()
    }
}

fn port_name(port: u16) -> String {
    if port == 0 { "a port".to_owned() } else { format!("its port {port}") }
}

/// A host did not forward a port to us.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The host's sshd does not allow it.
    #[error("`{host}` refuses to forward {}", port_name(*.port))]
    Refused {
        /// The host.
        host: HostName,
        /// The port, or 0 for any.
        port: u16,
    },
    /// The host did not answer in time.
    #[error("`{host}` did not forward a port within {} s", after.as_secs_f32())]
    TimedOut {
        /// The host.
        host: HostName,
        /// The deadline.
        after: std::time::Duration,
    },
    /// The connection to the host ended.
    #[error("the connection to `{host}` ended: {reason}")]
    Disconnected {
        /// The host.
        host: HostName,
        /// Why.
        reason: String,
    },
}

impl Diagnose for ForwardError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { .. } => ErrorKind::Failed,
            Self::TimedOut { .. } | Self::Disconnected { .. } => ErrorKind::Unreachable,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Refused { port: 1.., .. } => vec![
                "something else on the host may have that port: choose another one".to_owned(),
                "the host's sshd_config must allow it: `AllowTcpForwarding yes`".to_owned(),
            ],
            Self::Refused { .. } => vec!["set `AllowTcpForwarding yes` in the host's sshd_config".to_owned()],
            Self::TimedOut { .. } | Self::Disconnected { .. } => Vec::new(),
        }
    }
}

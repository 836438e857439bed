use std::sync::Arc;

use freehold_docker::ByteStream;
use freehold_model::Diagnose;
use tokio::net::TcpStream;

use crate::engine_host::EngineHost;
use crate::engine_host::connection::Connection;
use crate::host::HostError;

impl EngineHost {
    /// Opens a stream to a port that the host reaches, over a connection of its own: one that is read slowly holds up no
    /// other.
    ///
    /// Where only a person can open another connection, with a code that counts once, it goes over the one that is open.
    ///
    /// # Errors
    /// [`HostError`] when the host cannot be reached, does not allow it, or reaches nothing there.
    ///
    /// # Cancel safety
    /// Dropping the future closes the stream.
    pub async fn open_port(&self, address: &str, port: u16) -> Result<Box<dyn ByteStream>, HostError> {
        let link = self.link().await?;
        let operation = || format!("connect to `{}`", place(address, port));
        match &link.connection {
            Connection::Local { .. } => {
                let stream = TcpStream::connect((address, port)).await;
                let stream = stream.map_err(|error| HostError::Refused {
                    host: self.name.clone(),
                    operation: operation(),
                    message: error.to_string(),
                })?;
                Ok(Box::new(stream))
            }
            Connection::Ssh(session) => {
                let own = session.reconnect().await;
                if let Err(error) = &own {
                    tracing::info!(host = %self.name, %error, "no connection of its own; the open one carries it");
                }
                let stream = own.as_ref().unwrap_or(session).open_tcp(address, port).await;
                let stream = stream.map_err(|error| HostError::Engine {
                    host: self.name.clone(),
                    operation: operation(),
                    source: Arc::new(error) as Arc<dyn Diagnose + Send + Sync>,
                })?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// Writes an address with its port, an IPv6 address in brackets.
pub(super) fn place(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

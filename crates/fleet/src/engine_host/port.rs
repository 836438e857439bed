use std::sync::Arc;
use std::sync::atomic::Ordering;

use freehold_docker::ByteStream;
use freehold_model::Diagnose;
use freehold_ssh::Session;
use tokio::net::TcpStream;

use crate::engine_host::EngineHost;
use crate::engine_host::connection::Connection;
use crate::engine_host::link::Link;
use crate::host::HostError;

/// Prints the first port that is not root's.
const READ_FIRST_FREE: &str = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start";

impl EngineHost {
    /// Returns the lowest of some ports that the engine may not publish because it is rootless, and the first that it may.
    /// None if there is none, or if that is not known.
    pub(super) async fn privileged_port(&self, link: &Link, ports: &[u16]) -> Option<(u16, u16)> {
        let port = ports.iter().min().copied()?;
        if !link.engine.info().await.ok()?.rootless {
            return None;
        }
        let first_free = self.script("ask for the ports of root", READ_FIRST_FREE).await.ok()?;
        let first_free: u16 = first_free.stdout.trim().parse().ok()?;
        (port < first_free).then_some((port, first_free))
    }

    /// Opens another connection; none where only the open one is let in.
    pub(super) async fn another_session(&self, link: &Link, session: &Session) -> Option<Session> {
        if link.lets_in_once.load(Ordering::Relaxed) {
            return None;
        }
        match session.reconnect().await {
            Ok(own) => Some(own),
            Err(error) => {
                if error.is_refused_login() {
                    link.lets_in_once.store(true, Ordering::Relaxed);
                }
                tracing::info!(host = %self.name, %error, "no connection of its own; the open one carries it");
                None
            }
        }
    }

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
                let own = self.another_session(&link, session).await;
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

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use russh::client::Handle;
use russh::{ChannelOpenFailure, Disconnect};
use tokio::runtime::Handle as Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::authenticate::Authentication;
use crate::channel::ChannelGuard;
use crate::client::{Client, Shared};
use crate::route::Hop;

/// An authenticated SSH connection. It ends when its last user, be it a session or a stream, is gone.
pub(crate) struct Connection {
    handle: Handle<Client>,
    shared: Arc<Shared>,
    hop: Hop,
    authentication: Authentication,
    /// Channels that run commands: sshd allows ten of them by default (`MaxSessions`).
    sessions: Arc<Semaphore>,
    tasks: TaskTracker,
    runtime: Runtime,
}

/// How many commands run at once on one connection; the others wait. Two less than what sshd allows.
const SESSION_LIMIT: usize = 8;

/// What a channel leads to.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// A command of ours.
    Session,
    /// A Unix socket of the host.
    UnixSocket(String),
    /// A port that the host reaches.
    Tcp(String, u16),
}

/// Why a channel did not open.
#[derive(Debug)]
pub(crate) enum OpenFailure {
    TimedOut(Duration),
    /// Every session channel of ours is in use, and none became free in time.
    Busy(Duration),
    Refused(ChannelOpenFailure),
    Disconnected(String),
}

impl Connection {
    pub(crate) fn new(
        handle: Handle<Client>,
        shared: Arc<Shared>,
        hop: Hop,
        authentication: Authentication,
    ) -> Arc<Self> {
        Arc::new(Self {
            handle,
            shared,
            hop,
            authentication,
            sessions: Arc::new(Semaphore::new(SESSION_LIMIT)),
            tasks: TaskTracker::new(),
            runtime: Runtime::current(),
        })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn hop(&self) -> &Hop {
        &self.hop
    }

    pub(crate) fn handle(&self) -> &Handle<Client> {
        &self.handle
    }

    pub(crate) fn authentication(&self) -> &Authentication {
        &self.authentication
    }

    /// Returns why the connection ended, if it has.
    pub(crate) fn ended(&self) -> Option<String> {
        self.shared.ended().borrow().clone()
    }

    /// Runs a short piece of work that nobody waits for but the end of the connection.
    pub(crate) fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(work, &self.runtime);
    }

    /// Opens a channel.
    ///
    /// The opening goes on when the caller stops waiting, because the host may have opened the channel by then: it is
    /// closed as soon as that is known.
    pub(crate) async fn open(self: &Arc<Self>, target: Target) -> Result<Arc<ChannelGuard>, OpenFailure> {
        let limit = self.hop.connect_timeout;
        let permit = match target {
            Target::Session => Some(self.session_permit(limit).await?),
            Target::UnixSocket(_) | Target::Tcp(..) => None,
        };
        let connection = Arc::clone(self);
        let opening = self.tasks.spawn_on(connection.open_to_the_end(target, permit), &self.runtime);
        match tokio::time::timeout(limit, opening).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(OpenFailure::Disconnected(error.to_string())),
            Err(_) => Err(OpenFailure::TimedOut(limit)),
        }
    }

    async fn open_to_the_end(
        self: Arc<Self>,
        target: Target,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Arc<ChannelGuard>, OpenFailure> {
        let opened = match target {
            Target::Session => self.handle.channel_open_session().await,
            Target::UnixSocket(path) => self.handle.channel_open_direct_streamlocal(path).await,
            Target::Tcp(host, port) => {
                self.handle.channel_open_direct_tcpip(host, u32::from(port), "127.0.0.1", 0).await
            }
        };
        match opened {
            Ok(channel) => {
                // russh stops the whole connection while the reading half of one channel is full. Without that half,
                // what the host says goes to `Client` alone, which never waits on a shared connection.
                let (_, half) = channel.split();
                Ok(ChannelGuard::new(half, self, permit))
            }
            Err(russh::Error::ChannelOpenFailure(reason)) => Err(OpenFailure::Refused(reason)),
            Err(error) => Err(OpenFailure::Disconnected(self.ended().unwrap_or_else(|| error.to_string()))),
        }
    }

    async fn session_permit(&self, limit: Duration) -> Result<OwnedSemaphorePermit, OpenFailure> {
        let permit = Arc::clone(&self.sessions).acquire_owned();
        match tokio::time::timeout(limit, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(error)) => Err(OpenFailure::Disconnected(error.to_string())),
            Err(_) => Err(OpenFailure::Busy(limit)),
        }
    }

    /// Says goodbye and waits until the connection has ended, at most as long as opening a channel may take.
    pub(crate) async fn close(&self) {
        self.shared.closing();
        let mut ended = self.shared.ended();
        if self.handle.disconnect(Disconnect::ByApplication, "", "").await.is_ok() {
            let wait = ended.wait_for(Option::is_some);
            if tokio::time::timeout(self.hop.connect_timeout, wait).await.is_err() {
                tracing::debug!(host = %self.hop.name, "connection did not end in time");
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.closing();
    }
}

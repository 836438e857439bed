use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use freehold_model::HostName;
use parking_lot::Mutex;
use russh::client::{ChannelOpenHandle, DisconnectReason, Handler, Msg, Session as Wire};
use russh::keys::{PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Names, Sig};
use tokio::sync::{mpsc, watch};

use crate::channel::{ChannelFailure, ChannelState, ExitStatus, Source};
use crate::environment::Prompt;
use crate::host_key::{Checker, HostKeyError};
use crate::text::printable;

/// What to do when the reader of a channel is slower than the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// Close the channel: others share the connection.
    Close,
    /// Let the host wait: the connection serves nothing else.
    Wait,
}

/// Why a connection ended that we ended.
pub(crate) const CLOSED: &str = "it was closed";

/// How many bytes wait for the reader of a channel at most, within one message.
pub(crate) const QUEUE_LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// A channel that the host opened: the half that writes to it. What it says arrives in its [`ChannelState`].
pub(crate) type Incoming = ChannelWriteHalf<Msg>;

/// What a connection's task and the users of the connection share.
pub(crate) struct Shared {
    overflow: Overflow,
    channels: Mutex<BTreeMap<ChannelId, Arc<ChannelState>>>,
    forwards: Mutex<BTreeMap<u16, mpsc::Sender<Incoming>>>,
    agents: Mutex<Option<mpsc::Sender<Incoming>>>,
    seen: Mutex<Seen>,
    /// Whether it is us who end the connection.
    closing: AtomicBool,
    ended: watch::Sender<Option<String>>,
}

/// What a host tells of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) server_version: String,
    pub(crate) host_key: Option<PublicKey>,
}

impl Shared {
    pub(crate) fn new(overflow: Overflow) -> Arc<Self> {
        Arc::new(Self {
            overflow,
            channels: Mutex::default(),
            forwards: Mutex::default(),
            agents: Mutex::default(),
            seen: Mutex::default(),
            closing: AtomicBool::new(false),
            ended: watch::Sender::new(None),
        })
    }

    /// Returns the state of a channel, new if nothing was heard of it yet.
    pub(crate) fn register(&self, id: ChannelId) -> Arc<ChannelState> {
        Arc::clone(self.channels.lock().entry(id).or_default())
    }

    pub(crate) fn forget(&self, id: ChannelId) {
        self.channels.lock().remove(&id);
    }

    pub(crate) fn forward(&self, port: u16, to: mpsc::Sender<Incoming>) {
        self.forwards.lock().insert(port, to);
    }

    pub(crate) fn stop_forward(&self, port: u16) {
        self.forwards.lock().remove(&port);
    }

    /// Sets where requests to the agent go, once; says whether it was the first time.
    pub(crate) fn forward_agent(&self, to: mpsc::Sender<Incoming>) -> bool {
        let mut agents = self.agents.lock();
        let first = agents.is_none();
        agents.get_or_insert(to);
        first
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }

    pub(crate) fn ended(&self) -> watch::Receiver<Option<String>> {
        self.ended.subscribe()
    }

    pub(crate) fn closing(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    fn state(&self, id: ChannelId) -> Option<Arc<ChannelState>> {
        self.channels.lock().get(&id).cloned()
    }

    fn end(&self, reason: String) {
        let reason = if self.closing.load(Ordering::Relaxed) { CLOSED.to_owned() } else { reason };
        let reason = self.ended.borrow().clone().unwrap_or(reason);
        self.ended.send_replace(Some(reason.clone()));
        self.forwards.lock().clear();
        self.agents.lock().take();
        for state in self.channels.lock().values() {
            state.fail(ChannelFailure::Disconnected(reason.clone()));
        }
    }
}

/// What ends a connection from within its task.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(transparent)]
    Ssh(#[from] russh::Error),
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
}

/// Hears what a host says; lives in the task of the connection.
pub(crate) struct Client {
    pub(crate) host: HostName,
    pub(crate) checker: Checker,
    pub(crate) prompt: Arc<dyn Prompt>,
    pub(crate) shared: Arc<Shared>,
}

impl Client {
    async fn deliver(
        &self,
        id: ChannelId,
        source: Source,
        data: &[u8],
        wire: &mut Wire,
    ) -> Result<(), ClientError> {
        let Some(state) = self.shared.state(id) else { return Ok(()) };
        while !state.push(source, data, QUEUE_LIMIT_BYTES) {
            match self.shared.overflow {
                Overflow::Wait => state.room().await,
                Overflow::Close => {
                    tracing::debug!(host = %self.host, channel = id.number(), "channel closed: not read");
                    state.fail(ChannelFailure::Overflow);
                    wire.close(id)?;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn with_state(&self, id: ChannelId, tell: impl FnOnce(&ChannelState)) {
        if let Some(state) = self.shared.state(id) {
            tell(&state);
        }
    }

    async fn hand_over(
        &self,
        to: Option<mpsc::Sender<Incoming>>,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
    ) {
        let Some(to) = to else { return reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await };
        // Without its own reading half, a channel that nobody has taken yet cannot hold up the connection.
        let (_, half) = channel.split();
        let id = half.id();
        self.shared.register(id);
        match to.try_send(half) {
            Ok(()) => reply.accept().await,
            Err(_) => {
                self.shared.forget(id);
                reply.reject(ChannelOpenFailure::ResourceShortage).await;
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.end(CLOSED.to_owned());
    }
}

impl Handler for Client {
    type Error = ClientError;

    async fn auth_banner(&mut self, banner: &str, _wire: &mut Wire) -> Result<(), ClientError> {
        self.prompt.banner(&self.host, &printable(banner));
        Ok(())
    }

    async fn check_server_key(&mut self, presented: &PublicKeyOrCertificate) -> Result<bool, ClientError> {
        let key = self.checker.check(presented).await?;
        self.shared.seen.lock().host_key = Some(key);
        Ok(true)
    }

    async fn kex_done(
        &mut self,
        _secret: Option<&[u8]>,
        _names: &Names,
        wire: &mut Wire,
    ) -> Result<(), ClientError> {
        let version = printable(&String::from_utf8_lossy(wire.remote_sshid()));
        self.shared.seen.lock().server_version = version;
        Ok(())
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _max_packet_size: u32,
        _window_size: u32,
        _wire: &mut Wire,
    ) -> Result<(), ClientError> {
        // Data may follow before the opener's task has run.
        self.shared.register(id);
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], wire: &mut Wire) -> Result<(), ClientError> {
        self.deliver(id, Source::Output, data, wire).await
    }

    async fn extended_data(
        &mut self,
        id: ChannelId,
        kind: u32,
        data: &[u8],
        wire: &mut Wire,
    ) -> Result<(), ClientError> {
        // 1 is SSH_EXTENDED_DATA_STDERR, the only kind there is (RFC 4254 §5.2).
        if kind == 1 { self.deliver(id, Source::Error, data, wire).await } else { Ok(()) }
    }

    async fn channel_eof(&mut self, id: ChannelId, _wire: &mut Wire) -> Result<(), ClientError> {
        self.with_state(id, ChannelState::end_of_data);
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _wire: &mut Wire) -> Result<(), ClientError> {
        self.with_state(id, ChannelState::close);
        Ok(())
    }

    async fn channel_success(&mut self, id: ChannelId, _wire: &mut Wire) -> Result<(), ClientError> {
        self.with_state(id, |state| state.replied(true));
        Ok(())
    }

    async fn channel_failure(&mut self, id: ChannelId, _wire: &mut Wire) -> Result<(), ClientError> {
        self.with_state(id, |state| state.replied(false));
        Ok(())
    }

    async fn exit_status(&mut self, id: ChannelId, code: u32, _wire: &mut Wire) -> Result<(), ClientError> {
        self.with_state(id, |state| state.exited(ExitStatus::Code(code)));
        Ok(())
    }

    async fn exit_signal(
        &mut self,
        id: ChannelId,
        signal: Sig,
        _core_dumped: bool,
        _message: &str,
        _language: &str,
        _wire: &mut Wire,
    ) -> Result<(), ClientError> {
        self.with_state(id, |state| state.exited(ExitStatus::Signal(signal_name(&signal))));
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        _connected_address: &str,
        connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _wire: &mut Wire,
    ) -> Result<(), ClientError> {
        let port = u16::try_from(connected_port).ok();
        let to = port.and_then(|port| self.shared.forwards.lock().get(&port).cloned());
        self.hand_over(to, channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _wire: &mut Wire,
    ) -> Result<(), ClientError> {
        let to = self.shared.agents.lock().clone();
        self.hand_over(to, channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _path: &str,
        reply: ChannelOpenHandle,
        _wire: &mut Wire,
    ) -> Result<(), ClientError> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _wire: &mut Wire,
    ) -> Result<(), ClientError> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host: &str,
        _port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _wire: &mut Wire,
    ) -> Result<(), ClientError> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _path: &str,
        reply: ChannelOpenHandle,
        _wire: &mut Wire,
    ) -> Result<(), ClientError> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _wire: &mut Wire,
    ) -> Result<(), ClientError> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<ClientError>) -> Result<(), ClientError> {
        match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                let message = printable(&info.message);
                self.shared.end(format!("the host ended it: {message}"));
                Ok(())
            }
            DisconnectReason::Error(error) => {
                self.shared.end(describe(&error));
                Err(error)
            }
        }
    }
}

fn describe(error: &ClientError) -> String {
    match error {
        ClientError::Ssh(russh::Error::KeepaliveTimeout) => "the host stopped answering".to_owned(),
        ClientError::Ssh(russh::Error::HUP | russh::Error::Disconnect) => "the host closed it".to_owned(),
        ClientError::Ssh(russh::Error::IO(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the host closed it".to_owned()
        }
        error => error.to_string(),
    }
}

fn signal_name(signal: &Sig) -> String {
    match signal {
        Sig::Custom(name) => printable(name),
        other => format!("{other:?}"),
    }
}

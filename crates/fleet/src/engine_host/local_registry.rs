use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use freehold_docker::{ContainerSpec, CreateContainerError, Engine, ImageName, RemoveOptions};
use freehold_model::{ContainerName, Diagnose, ErrorKind, RemoteImage};
use freehold_plan::BuildPlaceName;
use freehold_ssh::{RemoteForward, Session};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::engine_host::connection::Connection;
use crate::engine_host::{EngineHost, Workshop};
use crate::host::{Outcome, StepError, Work};

/// The container of the registry on the build machine, by Kamal's name.
pub const LOCAL_REGISTRY: &str = "kamal-docker-registry";

/// Its image, which is Kamal's too.
const IMAGE: &str = "registry:3";

/// The port on which it listens in its container.
const PORT_IN_CONTAINER: u16 = 5000;

/// How long it may take to answer after its start.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How long one question whether it answers may take.
const ASK_WITHIN: Duration = Duration::from_secs(2);

/// Why the registry of the build machine cannot be used.
#[derive(Debug, thiserror::Error)]
enum LocalRegistryError {
    #[error("the engine of this machine has no image `{IMAGE}` and cannot pull it")]
    NoImage(#[source] freehold_docker::EngineError),
    #[error("the name of its image or container is wrong")]
    Name,
    #[error("its container cannot be made")]
    Create(#[source] CreateContainerError),
    #[error("it does not answer on `127.0.0.1:{port}` within {} s", READY_WITHIN.as_secs())]
    Silent { port: u16 },
    #[error("the forwarded port was closed")]
    Closed,
}

impl Diagnose for LocalRegistryError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Name => ErrorKind::Bug,
            _ => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NoImage(_) => vec![
                "without network, load the image first: `docker load`, `docker tag`".to_owned(),
                "freehold needs no registry: without `registry:` images go straight to the hosts".to_owned(),
            ],
            Self::Silent { .. } => vec![
                format!("see what it says: `docker logs {LOCAL_REGISTRY}`"),
                "if it was made for another port: `freehold registry remove`".to_owned(),
            ],
            Self::Name | Self::Create(_) | Self::Closed => Vec::new(),
        }
    }
}

impl Workshop {
    /// Makes sure that the registry of this machine runs and answers on a port of the loopback address.
    ///
    /// # Errors
    /// [`StepError`] with what this machine's engine says, or that it does not answer.
    ///
    /// # Cancel safety
    /// It may have been started and stays.
    pub async fn start_local_registry(&self, port: u16, work: &Work<'_>) -> Result<Outcome, StepError> {
        let operation = "start the registry of this machine";
        let failed = |error| StepError::image(operation, error);
        let engine = self.builder(&BuildPlaceName::Local).await?;
        let there = engine.inspect_container(LOCAL_REGISTRY).await.map_err(failed)?;
        let is_running = there.as_ref().is_some_and(|details| details.state.is_alive());
        if there.is_none() {
            make(&engine, port, work).await?;
        }
        if !is_running {
            engine.start_container(LOCAL_REGISTRY).await.map_err(failed)?;
        }
        let begun = Instant::now();
        while !answers(port).await {
            if begun.elapsed() > READY_WITHIN {
                return Err(StepError::image(operation, LocalRegistryError::Silent { port }));
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
                () = work.stop.cancelled() => return Err(StepError::Stopped),
            }
        }
        Ok(if is_running { Outcome::AlreadyDone } else { Outcome::Done(None) })
    }

    /// Stops the registry of this machine and removes it with the images in it.
    ///
    /// # Errors
    /// [`StepError`] with what this machine's engine says.
    ///
    /// # Cancel safety
    /// It is removed as a whole or not at all.
    pub async fn remove_local_registry(&self) -> Result<Outcome, StepError> {
        let failed = |error| StepError::image("remove the registry of this machine", error);
        let engine = self.builder(&BuildPlaceName::Local).await?;
        if engine.inspect_container(LOCAL_REGISTRY).await.map_err(failed)?.is_none() {
            return Ok(Outcome::AlreadyDone);
        }
        let options = RemoveOptions { force: true, anonymous_volumes: true };
        engine.remove_container(LOCAL_REGISTRY, options).await.map_err(failed)?;
        Ok(Outcome::Done(None))
    }
}

async fn make(engine: &Engine, port: u16, work: &Work<'_>) -> Result<(), StepError> {
    let failed = |error| StepError::image("start the registry of this machine", error);
    let is_there =
        engine.inspect_image(IMAGE).await.map_err(|error| StepError::image("look for its image", error))?;
    if is_there.is_none() {
        let mut unseen = |_| ();
        let pulled = tokio::select! {
            pulled = engine.pull_image(IMAGE, None, &mut unseen) => pulled,
            () = work.stop.cancelled() => return Err(StepError::Stopped),
        };
        pulled.map_err(|source| failed(LocalRegistryError::NoImage(source)))?;
    }
    let name = ContainerName::parse(LOCAL_REGISTRY).map_err(|_| failed(LocalRegistryError::Name))?;
    let image = RemoteImage::parse(IMAGE).map_err(|_| failed(LocalRegistryError::Name))?;
    let mut spec = ContainerSpec::new(name, ImageName::Remote(image));
    spec.options.publish = vec![format!("127.0.0.1:{port}:{PORT_IN_CONTAINER}")];
    engine.create_container(&spec).await.map_err(|error| failed(LocalRegistryError::Create(error)))?;
    Ok(())
}

/// Asks whether there is a registry that speaks the protocol. The port alone says nothing: Docker's forwarder accepts
/// before the registry listens.
async fn answers(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut head = [0_u8; 12];
        stream.read_exact(&mut head).await?;
        io::Result::Ok(head)
    };
    matches!(tokio::time::timeout(ASK_WITHIN, ask).await, Ok(Ok(head)) if head.ends_with(b" 200"))
}

impl EngineHost {
    /// Does something while the host reaches the registry of the build machine, through a forwarded port of the same
    /// number.
    ///
    /// # Errors
    /// [`StepError`] when the port is taken on the host, or what the work itself says.
    ///
    /// # Cancel safety
    /// That of the work; the port is closed with the connection.
    pub async fn with_registry_of_build_machine<T>(
        &self,
        port: u16,
        operation: &str,
        work: impl Future<Output = Result<T, StepError>>,
    ) -> Result<T, StepError> {
        let link = self.link().await?;
        let Connection::Ssh(session) = &link.connection else { return work.await };
        let (session, mut forward) = forwarded(session, port, operation).await?;
        let outcome = tokio::select! {
            outcome = work => outcome,
            () = carry_all(&mut forward, port) => Err(StepError::image(operation, LocalRegistryError::Closed)),
        };
        forward.close().await;
        drop(session);
        outcome
    }
}

/// Opens a connection of its own, because layers are read at the pace of the host's disk, and the port on it.
async fn forwarded(
    session: &Session,
    port: u16,
    operation: &str,
) -> Result<(Session, RemoteForward), StepError> {
    let session = session.reconnect().await.map_err(|error| StepError::image(operation, error))?;
    let forward = session.forward_remote_port_of(port).await;
    Ok((session, forward.map_err(|error| StepError::image(operation, error))?))
}

/// Carries every connection to the registry of this machine until the host's end closes.
async fn carry_all(forward: &mut RemoteForward, port: u16) {
    let mut streams = JoinSet::new();
    while let Some(stream) = forward.accept().await {
        while streams.try_join_next().is_some() {}
        streams.spawn(async move {
            if let Err(error) = carry(stream, port).await {
                // The host's engine tries again, and says what it misses.
                tracing::debug!(%error, "a connection to the registry broke");
            }
        });
    }
}

async fn carry(mut stream: impl AsyncRead + AsyncWrite + Unpin, port: u16) -> io::Result<()> {
    let mut registry = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    registry.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut stream, &mut registry).await?;
    Ok(())
}

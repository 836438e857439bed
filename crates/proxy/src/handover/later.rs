//! The side of the process that takes over.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use freehold_wire::InFlight;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use super::message::{Flights, FromEarlier, FromLater, Legacy, PROTOCOL, hear, listen, say, tell};
use super::passing::Sockets;
use crate::control::{Control, chain};
use crate::state::State;

/// What a process gets from the one before.
#[derive(Debug)]
pub(crate) struct Inheritance {
    pub(crate) sockets: Sockets,
    pub(crate) legacy: Legacy,
    link: UnixStream,
}

/// Nothing can be taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeOverError {
    /// The sockets did not come.
    #[error("the earlier process did not hand over its sockets")]
    Sockets {
        /// Why not.
        source: io::Error,
    },
    /// The state did not come, or cannot be read.
    #[error("the state of the earlier process cannot be read")]
    Legacy {
        /// Why not.
        source: io::Error,
    },
    /// The earlier process speaks another way.
    #[error("the earlier process hands over in way {found}, this one knows way {PROTOCOL}")]
    Protocol {
        /// Which.
        found: u32,
    },
}

impl Inheritance {
    /// Receives it over standard input. Where it cannot be used, the earlier process is told why.
    ///
    /// # Errors
    /// [`TakeOverError`].
    pub(crate) fn receive(limit: Duration) -> Result<Self, TakeOverError> {
        let sockets_error = |source| TakeOverError::Sockets { source };
        let link = std::io::stdin().as_fd().try_clone_to_owned().map_err(sockets_error)?;
        let link = UnixStream::from(link);
        link.set_read_timeout(Some(limit)).map_err(sockets_error)?;
        let received = Self::receive_over(&link);
        if let Err(error) = &received {
            // An earlier process that is gone needs no reason.
            tell(&link, &FromLater::Failed { reason: chain(error) }).ok();
        }
        let (sockets, legacy) = received?;
        Ok(Self { sockets, legacy, link })
    }

    fn receive_over(link: &UnixStream) -> Result<(Sockets, Legacy), TakeOverError> {
        let sockets = Sockets::receive(link).map_err(|source| TakeOverError::Sockets { source })?;
        let legacy = |source| TakeOverError::Legacy { source };
        match hear(link).map_err(legacy)? {
            FromEarlier::Begin(begin) if begin.protocol == PROTOCOL => Ok((sockets, *begin)),
            FromEarlier::Begin(begin) => Err(TakeOverError::Protocol { found: begin.protocol }),
            _ => Err(legacy(io::ErrorKind::InvalidData.into())),
        }
    }

    /// Parts what a server is made of from the way to the earlier process.
    pub(crate) fn split(self) -> (Sockets, Legacy, Link) {
        let link = Link { stream: self.link, hears_health: self.legacy.hears_health };
        (self.sockets, self.legacy, link)
    }

    /// Returns another end of the way to the earlier process, to tell it of a failure.
    pub(crate) fn reporter(&self) -> io::Result<Link> {
        Ok(Link { stream: self.link.try_clone()?, hears_health: self.legacy.hears_health })
    }
}

/// The way to the earlier process.
#[derive(Debug)]
pub(crate) struct Link {
    stream: UnixStream,
    /// Whether that process understands [`FromLater::Health`].
    hears_health: bool,
}

impl Link {
    /// Says that this process cannot take over.
    pub(crate) fn fail(&self, error: &dyn std::error::Error) {
        // An earlier process that is gone needs no reason.
        tell(&self.stream, &FromLater::Failed { reason: chain(error) }).ok();
    }

    /// Says that this process serves, and waits until the earlier one has stopped writing the state.
    ///
    /// # Errors
    /// Where the earlier process ends or does not answer: it may be that it goes on, so this one must not.
    pub(crate) fn take_over(&self, limit: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(limit))?;
        tell(&self.stream, &FromLater::Ready { version: env!("CARGO_PKG_VERSION").to_owned() })?;
        match hear(&self.stream)? {
            FromEarlier::Go => {}
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        self.stream.set_read_timeout(None)?;
        self.stream.set_nonblocking(true)
    }
}

/// Speaks with the earlier process until it has ended or this one stops.
pub(crate) async fn accompany(control: Arc<Control>, link: Option<Link>) {
    let Some(link) = link else { return };
    let Ok(stream) = tokio::net::UnixStream::from_std(link.stream) else { return };
    let (mut reader, mut writer) = stream.into_split();
    let changes = control.changed.subscribe();
    tokio::select! {
        () = watch_flights(&control, &mut reader) => control.log.info("The earlier process has ended", &[]),
        () = tell_changes(&control, (&mut writer, link.hears_health), changes) => {}
        () = control.stopping.cancelled() => {}
    }
    control.elsewhere.send_replace(Flights::new());
    if control.stopping.is_cancelled() {
        // An earlier process that is gone has nothing to be told.
        say(&mut writer, &FromLater::Bye).await.ok();
    }
}

async fn watch_flights(control: &Control, reader: &mut OwnedReadHalf) {
    while let Ok(message) = listen(reader).await {
        if let FromEarlier::InFlight(flights) = message {
            control.elsewhere.send_replace(flights);
        }
    }
}

async fn tell_changes(
    control: &Control,
    (writer, hears_health): (&mut OwnedWriteHalf, bool),
    mut changes: watch::Receiver<Option<Arc<State>>>,
) {
    while changes.changed().await.is_ok() {
        let state = changes.borrow_and_update().clone();
        let Some(state) = state else { continue };
        if hears_health && say(writer, &FromLater::Health(control.unhealthy())).await.is_err() {
            return;
        }
        if say(writer, &FromLater::Changed(Box::new(State::clone(&state)))).await.is_err() {
            return;
        }
    }
}

impl Control {
    /// Waits until the earlier process has nothing in flight at some targets.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub(crate) async fn idle_elsewhere(&self, addresses: &[String], count: fn(&InFlight) -> u64) {
        let mut flights = self.elsewhere.subscribe();
        let is_idle = |flights: &Flights| {
            addresses.iter().filter_map(|address| flights.get(address)).all(|open| count(open) == 0)
        };
        // The sender is this control's own.
        flights.wait_for(is_idle).await.map(drop).ok();
    }

    /// Returns how much the earlier process has in flight at some targets.
    pub(crate) fn count_elsewhere(&self, addresses: &[String], count: fn(&InFlight) -> u64) -> u64 {
        let flights = self.elsewhere.borrow();
        addresses.iter().filter_map(|address| flights.get(address)).map(count).sum()
    }
}

//! What a proxy begins with: sockets of its own, or those of the process before.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use freehold_model::ProxyServiceName;

use super::{ServerConfig, StartError, address_text, load, state_error};
use crate::acme::{Keeper, LentProof};
use crate::control::{Ledger, Means, restore};
use crate::handover::{Inheritance, Legacy, Link, Sockets};
use crate::log::Log;
use crate::metrics::Metrics;
use crate::resolve::Resolver;
use crate::rules::Memory;
use crate::runtime::listen;
use crate::state::{State, StateFile};
use crate::table::{Shared, Table};
use crate::ticket::TicketKey;

/// What a proxy begins with: its sockets, and the state of an earlier run or process.
pub(super) struct Beginning {
    pub(super) sockets: Sockets,
    pub(super) own_uid: u32,
    pub(super) state: Option<State>,
    pub(super) heritage: Heritage,
    pub(super) tickets: Vec<TicketKey>,
    pub(super) link: Option<Link>,
}

/// What the process before has found out; nothing where there was none.
#[derive(Debug, Default)]
pub(super) struct Heritage {
    unhealthy: BTreeSet<String>,
    memories: BTreeMap<ProxyServiceName, Memory>,
    fleets: BTreeMap<String, String>,
    lent: Vec<LentProof>,
}

impl Heritage {
    /// Lets a keeper of certificates go on as that of the process before.
    pub(super) fn hand_to(&self, keeper: &Keeper) {
        keeper.inherit(self.fleets.clone(), &self.lent);
    }

    /// Puts the services back, with what is known of them. It is to be called inside a runtime.
    pub(super) fn restored(
        &self,
        state: Option<State>,
        (thread_count, metrics): (usize, Option<&Metrics>),
        (resolver, log, keeper, shared): (&Arc<Resolver>, &Log, &Keeper, &Arc<Shared>),
    ) -> (Table, Ledger) {
        let Some(state) = state else { return Default::default() };
        let (unhealthy, memories, former) = (&self.unhealthy, &self.memories, &Table::default());
        let means =
            Means { thread_count, resolver, log, keeper, shared, metrics, unhealthy, memories, former };
        restore(state, &means)
    }
}

impl Beginning {
    pub(super) fn anew(config: &ServerConfig, state_file: &StateFile, log: &Log) -> Result<Self, StartError> {
        let state = load::load(state_file, log).map_err(|error| state_error(config, error))?;
        let threads = config.threads.max(1);
        let listen_on = |port, threads| {
            listen(config.bind, port, threads)
                .map_err(|source| StartError::Listen { address: address_text(config.bind, port), source })
        };
        let metrics = config.metrics_port.map(|port| listen_on(port, 1)).transpose()?;
        let (plain, encrypted) =
            (listen_on(config.http_port, threads)?, listen_on(config.https_port, threads)?);
        let (control, own_uid) = make_socket(&config.socket)
            .map_err(|source| StartError::Socket { path: config.socket.clone(), source })?;
        let metrics = metrics.into_iter().flatten().next();
        let sockets = Sockets { plain, encrypted, metrics, control };
        let (heritage, tickets) = (Heritage::default(), Vec::new());
        Ok(Self { sockets, own_uid, state, heritage, tickets, link: None })
    }

    pub(super) fn inherited(config: &ServerConfig, inheritance: Inheritance) -> Result<Self, StartError> {
        let own_uid = fs_err::metadata(&config.socket)
            .map_err(|source| StartError::Socket { path: config.socket.clone(), source })?
            .uid();
        let (sockets, legacy, link) = inheritance.split();
        let Legacy { state, tickets, .. } = legacy;
        let heritage = Heritage {
            unhealthy: legacy.unhealthy,
            memories: legacy.memories,
            fleets: legacy.fleets,
            lent: legacy.lent,
        };
        Ok(Self { sockets, own_uid, state: Some(state), heritage, tickets, link: Some(link) })
    }
}

/// Makes the control socket, in place of one that an earlier run left; returns also the user who owns it.
fn make_socket(path: &Path) -> io::Result<(std::os::unix::net::UnixListener, u32)> {
    match fs_err::symlink_metadata(path) {
        // Two proxies would write one state, and the commands of the first would reach the second.
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            let message = "a proxy answers there already: stop it, or name another one by `--socket`";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
        }
        Ok(_) => fs_err::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if let Some(folder) = path.parent() {
        // An image made from scratch has no folder for temporary files.
        fs_err::create_dir_all(folder)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok((listener, fs_err::metadata(path)?.uid()))
}

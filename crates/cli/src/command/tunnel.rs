use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use freehold_fleet::{EngineHost, Host};
use freehold_model::{Accessory, Diagnose, ErrorKind, HostName, Project};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::context::Context;
use crate::error::CommandError;
use crate::filter;
use crate::project::{self, Loaded};
use crate::sight::Sight;
use crate::ui::{Line, Tone};
use target::{Target, TargetError, address_of};

mod target;

/// How many connections go through at a time; the next ones wait.
const CONNECTIONS: usize = 64;

/// How long to wait after a connection could not be accepted, unless one ends before.
const AFTER_REFUSAL: std::time::Duration = std::time::Duration::from_millis(200);

/// Open a port of this machine that leads to an accessory, or to a port that a host reaches.
///
/// It goes the way of every other command: by SSH, through the jump hosts. Nobody but this machine can use the port, and
/// nothing has to be published on the host. Ctrl-C ends it.
///
/// An accessory is reached on the first of its hosts, at its published port or else at its container's own address. With
/// a host of the deploy file in place of the accessory, the port is one of that host itself; any other address is
/// reached from the primary host, or from the one that `--hosts` names.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    freehold tunnel db                      # psql -h 127.0.0.1 -p 5432 in another window\n  \
    freehold tunnel db --port 15432\n  \
    freehold tunnel search:9200             # one of several ports of an accessory\n  \
    freehold tunnel -h web-2 10.0.0.7:6379  # whatever web-2 reaches\n  \
    freehold tunnel '[fd00::7]:5432'")]
pub(crate) struct Args {
    /// An accessory, `ACCESSORY:PORT`, or `HOST:PORT` with an IPv6 address in brackets.
    #[arg(value_name = "ACCESSORY|HOST:PORT")]
    target: String,

    /// The port of this machine; the target's own where it is free, and another one otherwise.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
}

/// A port of this machine cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on `{address}`")]
struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

impl Diagnose for ListenError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }

    fn help(&self) -> Vec<String> {
        vec!["choose another port, or leave out `--port` for a free one".to_owned()]
    }
}

/// The way through, once it is known.
struct Way {
    host: Arc<EngineHost>,
    address: String,
    port: u16,
}

/// What the tunnel was, when it ends.
#[derive(Debug, Serialize)]
struct Tunnel {
    listens_on: SocketAddr,
    host: String,
    target: String,
    connections: u64,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let way = context.until_stopped(find(context, arguments)).await?;
    let listener = listen(arguments.port, way.port).await?;
    let listens_on = listener.local_addr().map_err(|source| ListenError {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, way.port)),
        source,
    })?;
    let place = target::place(&way.address, way.port);
    let host = way.host.name().to_string();
    context.ui.tunnel_opened(listens_on, &place, &host);
    let connections = serve(context, listener, Arc::new(way)).await;
    context.ui.close();
    context.ui.result_json(context.command, &Tunnel { listens_on, host, target: place, connections });
    Ok(())
}

/// Finds the target and makes sure that something answers there before anybody is told of a port.
async fn find(context: &Context, arguments: &Args) -> Result<Way, CommandError> {
    let loaded = project::load(context).await?;
    let target = Target::parse(&arguments.target, &loaded.whole)?;
    let names = names(context, &loaded, &target)?;
    let sight = Sight::of_hosts(context, |_| names.clone()).await?;
    let Some(host) = sight.hosts.primary().cloned() else {
        return Err(TargetError::NoHost { target: arguments.target.clone() }.into());
    };
    let (address, port) = match &target {
        Target::Accessory { accessory, port } => {
            let details = host.container(accessory.container.as_str()).await?;
            address_of(accessory, host.name(), details.as_ref(), *port)?
        }
        Target::OfHost { port, .. } => (Ipv4Addr::LOCALHOST.to_string(), *port),
        Target::Beyond { address, port } => (address.clone(), *port),
    };
    drop(host.open_port(&address, port).await?);
    Ok(Way { host, address, port })
}

/// Returns the host from which the target is reached, as a list for the filters of the command line.
fn names(context: &Context, loaded: &Loaded, target: &Target) -> Result<Vec<HostName>, CommandError> {
    let left = || filter::all_hosts(&loaded.whole, &loaded.chosen, &context.arguments);
    let found = match target {
        Target::Accessory { accessory, .. } => first_host(context, &loaded.whole, accessory),
        Target::OfHost { host, port } if !left().contains(host) => {
            return Err(TargetError::LeftOut { host: host.clone(), port: *port }.into());
        }
        Target::OfHost { host, .. } => Some(host.clone()),
        // A filter may name a host that only accessories have.
        Target::Beyond { .. } => loaded.chosen.hosts().into_iter().chain(left()).next(),
    };
    let none = || TargetError::NoHost { target: target.to_string() };
    Ok(vec![found.ok_or_else(none)?])
}

fn first_host(context: &Context, whole: &Project, accessory: &Accessory) -> Option<HostName> {
    filter::accessory_hosts(whole, accessory, &context.arguments).into_iter().next()
}

async fn listen(wanted: Option<u16>, usual: u16) -> Result<TcpListener, ListenError> {
    let at = |port: u16| SocketAddr::from((IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    if let Some(port) = wanted {
        let address = at(port);
        return TcpListener::bind(address).await.map_err(|source| ListenError { address, source });
    }
    match TcpListener::bind(at(usual)).await {
        Ok(listener) => Ok(listener),
        Err(error) => {
            tracing::debug!(port = usual, %error, "port not free");
            TcpListener::bind(at(0)).await.map_err(|source| ListenError { address: at(0), source })
        }
    }
}

/// Carries connections until Ctrl-C; then those that are open end, too. Returns how many there were.
async fn serve(context: &Context, listener: TcpListener, way: Arc<Way>) -> u64 {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut running = JoinSet::new();
    let mut count = 0;
    loop {
        // Nobody closes the semaphore.
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place.ok(),
            () = context.process.stop.cancelled() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = context.process.stop.cancelled() => break,
        };
        while running.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                count += 1;
                let (way, ui) = (Arc::clone(&way), context.ui.clone());
                running.spawn(async move {
                    let _place = place;
                    if let Err(error) = carry(stream, &way).await {
                        // Only this connection is lost; the next one may succeed.
                        ui.warn(error);
                    }
                });
            }
            Err(error) => {
                // Such as too many open files: what is open goes on, and some of it will end.
                context.ui.warn(format!("a connection was not accepted: {error}"));
                tokio::select! {
                    Some(_) = running.join_next() => {}
                    () = tokio::time::sleep(AFTER_REFUSAL) => {}
                    () = context.process.stop.cancelled() => break,
                }
            }
        }
    }
    running.shutdown().await;
    count
}

async fn carry(mut stream: TcpStream, way: &Way) -> Result<(), String> {
    let opened = way.host.open_port(&way.address, way.port).await;
    let mut remote = opened.map_err(|error| freehold_fleet::chain(&error))?;
    match tokio::io::copy_bidirectional(&mut stream, &mut remote).await {
        Ok((sent, received)) => tracing::debug!(sent, received, "connection carried"),
        // Either side may hang up in the middle: that is between the two of them.
        Err(error) => tracing::debug!(%error, "connection broken"),
    }
    Ok(())
}

impl crate::ui::Ui {
    /// Says where the tunnel begins and ends, at once: it is what the person waits for.
    fn tunnel_opened(&self, listens_on: SocketAddr, target: &str, host: &str) {
        if self.is_json() {
            let fields = vec![
                ("listens_on", listens_on.to_string()),
                ("target", target.to_owned()),
                ("host", host.to_owned()),
            ];
            return self.event_of("tunnel_opened", fields);
        }
        self.close();
        let line = Line::new().add(Tone::Strong, listens_on.to_string());
        let line = line.plain(format!(" leads to {target} on {host}"));
        self.result(&[line, Line::new().add(Tone::Faint, "Ctrl-C ends it")]);
    }
}

//! Hosts behind the same jump host give each other pieces of an image, so that our own link carries them once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freehold_docker::{Neighbours, PieceOrder, StagingError};
use freehold_model::ImageReference;
use freehold_ssh::{ExitStatus, Hop, OneTimeKey, RemoteCommand, RemoteProcess, Session};
use futures_util::StreamExt;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::engine_host::EngineHost;
use crate::engine_host::connection::Connection;
use crate::engine_host::neighbour_scripts::{self, From};
use crate::engine_host::staging::{PIECE_DEADLINE, exec_error, pieces_folder, refused};

/// How many get their pieces at once: a server drops logins at random once ten are under way (`MaxStartups`).
const AT_ONCE: usize = 4;

/// What a host says of a copy fits.
const OUTPUT_LIMIT_BYTES: u64 = 16 * 1024;

/// How long the end of a copy may take once nothing more comes.
const END_DEADLINE: Duration = Duration::from_secs(20);

/// The hosts of one delivery.
pub(super) struct HostNeighbours {
    hosts: Vec<Neighbour>,
    directory: String,
}

struct Neighbour {
    host: Option<Arc<EngineHost>>,
    network: Option<String>,
}

/// What lets a host in at another.
struct Admission {
    key: OneTimeKey,
    /// The line in the other's `authorized_keys`.
    line: String,
    host_key: String,
    user: String,
    address: String,
    port: u16,
}

impl HostNeighbours {
    /// Looks which of the hosts stand behind the same jump hosts.
    pub(super) async fn among(
        hosts: Vec<Option<Arc<EngineHost>>>,
        stem: &str,
        image: &ImageReference,
    ) -> Self {
        let mut neighbours = Vec::new();
        for host in hosts {
            let network = match &host {
                Some(host) => session(host, "look for its neighbours").await.ok().and_then(|it| network(&it)),
                None => None,
            };
            neighbours.push(Neighbour { host, network });
        }
        Self { hosts: neighbours, directory: pieces_folder(stem, &image.repository) }
    }

    fn host(&self, index: usize) -> Result<&Arc<EngineHost>, StagingError> {
        self.hosts.get(index).and_then(|neighbour| neighbour.host.as_ref()).ok_or_else(|| {
            StagingError::Refused {
                action: "hand pieces on".to_owned(),
                message: "it is not known".to_owned(),
            }
        })
    }

    /// Lets others read the pieces of a host.
    async fn admit(&self, from: usize) -> Result<Admission, StagingError> {
        let action = "let its neighbours in";
        let host = self.host(from)?;
        let session = session(host, action).await?;
        let no =
            |message: &str| StagingError::Refused { action: action.to_owned(), message: message.to_owned() };
        let key = OneTimeKey::new().map_err(|error| no(&error.to_string()))?;
        let host_key = session.host_key().ok_or_else(|| no("its key is not known"))?;
        let hop = session.route().hops().last().ok_or_else(|| no("its address is not known"))?;
        let (address, port) = (hop.address.clone(), hop.port);
        let user = session.user().to_owned();
        let script = neighbour_scripts::let_in(&self.directory, key.public());
        let line = script_output(host, action, &script).await?.trim().to_owned();
        Ok(Admission { key, line, host_key, user, address, port })
    }

    async fn shut_out(&self, from: usize, admission: &Admission) {
        let action = "take the key of its neighbours away";
        let script = neighbour_scripts::shut_out(&admission.line);
        let done = match self.host(from) {
            Ok(host) => script_output(host, action, &script).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            // It can read the pieces of one folder, ends by itself, and goes with the next delivery.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a key that is of no more use is left on a host"
            );
        }
    }

    async fn fetch(
        &self,
        admission: &Admission,
        order: &PieceOrder,
        copied: &(dyn Fn(usize) + Sync),
    ) -> Result<(), StagingError> {
        let action = "get pieces from its neighbour";
        let session = session(self.host(order.target)?, action).await?;
        let Admission { user, address, port, .. } = admission;
        let script = neighbour_scripts::fetch(&self.directory, &From { user, address, port: *port });
        let process = session.exec(&RemoteCommand::script(script), None).await;
        let RemoteProcess { mut stdin, stdout, stderr, control } =
            process.map_err(|error| exec_error(action, error))?;
        let input = input(admission, &order.pieces);
        let write = async {
            let sent = stdin.write_all(input.expose_secret().as_bytes()).await;
            let ended = stdin.shutdown().await;
            // A script that has ended before says itself why.
            if let Err(error) = sent.and(ended) {
                tracing::debug!(%error, "a host does not listen to what it should get from its neighbour");
            }
        };
        let read = async {
            let mut lines = BufReader::new(stdout).lines();
            loop {
                match tokio::time::timeout(PIECE_DEADLINE, lines.next_line()).await {
                    Ok(Ok(Some(_))) => copied(order.target),
                    Ok(Ok(None)) => return Ok(()),
                    Ok(Err(error)) => return Err(StagingError::lost(action, error)),
                    Err(_) => {
                        return Err(StagingError::Timeout {
                            action: action.to_owned(),
                            limit: PIECE_DEADLINE,
                        });
                    }
                }
            }
        };
        let words = async {
            let mut words = Vec::new();
            let read = stderr.take(OUTPUT_LIMIT_BYTES).read_to_end(&mut words).await;
            (read.is_ok(), String::from_utf8_lossy(&words).into_owned())
        };
        let ((), read, status) = tokio::join!(write, read, async {
            let (_, words) = words.await;
            (tokio::time::timeout(END_DEADLINE, control.wait()).await, words)
        });
        read?;
        match status {
            (Ok(Ok(ExitStatus::Code(0))), _) => Ok(()),
            (Ok(Ok(ExitStatus::Code(code))), words) => {
                Err(refused(action, &words, i32::try_from(code).unwrap_or(-1)))
            }
            (Ok(Ok(ExitStatus::Signal(name))), _) => {
                Err(StagingError::Refused { action: action.to_owned(), message: name })
            }
            (Ok(Err(error)), _) => Err(exec_error(action, error)),
            (Err(_), _) => Err(StagingError::Timeout { action: action.to_owned(), limit: END_DEADLINE }),
        }
    }
}

#[async_trait]
impl Neighbours for HostNeighbours {
    fn network(&self, target: usize) -> Option<String> {
        self.hosts.get(target)?.network.clone()
    }

    async fn copy(
        &self,
        from: usize,
        orders: &[PieceOrder],
        copied: &(dyn Fn(usize) + Sync),
    ) -> Vec<Result<(), StagingError>> {
        let admission = match self.admit(from).await {
            Ok(admission) => admission,
            Err(error) => {
                let message = error.to_string();
                let action = "let its neighbours in".to_owned();
                let failed =
                    |_| Err(StagingError::Refused { action: action.clone(), message: message.clone() });
                return orders.iter().map(failed).collect();
            }
        };
        let fetches = orders.iter().map(|order| self.fetch(&admission, order, copied));
        let fetches: Vec<_> = fetches.collect();
        let outcomes = futures_util::stream::iter(fetches).buffered(AT_ONCE).collect().await;
        self.shut_out(from, &admission).await;
        outcomes
    }
}

impl EngineHost {
    /// Takes away the keys that deliveries of an image left which could not.
    pub(super) async fn forget_neighbours(&self, stem: &str, image: &ImageReference) {
        let script = neighbour_scripts::forget(&pieces_folder(stem, &image.repository));
        if let Err(error) = script_output(self, "take keys of neighbours away", &script).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a key that is of no more use is left on a host"
            );
        }
    }
}

/// What the script of a copy reads.
fn input(admission: &Admission, pieces: &[String]) -> SecretString {
    let private = admission.key.private().expose_secret().trim_end();
    SecretString::from(format!("{}\n{private}\nend\n{}\n", admission.host_key, pieces.join("\n")))
}

/// Names what stands between us and a host. Hosts with equal names reach one another by the addresses that the last jump
/// host knows them by.
fn network(session: &Session) -> Option<String> {
    network_behind(session.route().hops())
}

fn network_behind(hops: &[Hop]) -> Option<String> {
    let (_, jumps) = hops.split_last()?;
    let jumps: Vec<String> = jumps
        .iter()
        .map(|hop| format!("{}@{}:{} {:?}", hop.user, hop.address, hop.port, hop.proxy_command))
        .collect();
    (!jumps.is_empty()).then(|| jumps.join(" "))
}

/// Returns the session of the link that is open, or opens one.
async fn session(host: &EngineHost, action: &str) -> Result<Session, StagingError> {
    let link = host.link().await.map_err(|error| StagingError::lost(action, error))?;
    match &link.connection {
        Connection::Ssh(session) => Ok(session.clone()),
        Connection::Local { .. } => {
            Err(StagingError::Refused { action: action.to_owned(), message: "it is this machine".to_owned() })
        }
    }
}

async fn script_output(host: &EngineHost, action: &str, script: &str) -> Result<String, StagingError> {
    let output = host.script(action, script).await.map_err(|error| StagingError::lost(action, error))?;
    match output.code {
        0 => Ok(output.stdout),
        code => Err(refused(action, &output.stderr, code)),
    }
}

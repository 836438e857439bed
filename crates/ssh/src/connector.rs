use std::sync::Arc;

use freehold_model::{ConnectionSettings, HostName, SshSettings};
use russh::SshId;
use russh::client::{Config, connect_stream};
use secrecy::SecretString;
use tokio::sync::Semaphore;

use crate::authenticate::{Authenticator, Means};
use crate::carrier::Carriers;
use crate::client::{Client, ClientError, Overflow, Shared};
use crate::connect_error::{ConnectError, HopError, HopFailure, HopName};
use crate::connection::{Connection, OpenFailure, Target};
use crate::deadline::Deadline;
use crate::dial::{self, DialError, Greeting, Heard, Lookups, ProxyCommand, Transport};
use crate::environment::{ClientEnvironment, FirstUse, Prompt};
use crate::host_key::{Checker, Known};
use crate::memory::Memory;
use crate::pace::{self, Pace};
use crate::route::{Hop, Route};
use crate::session::Session;
use crate::{Authentication, ByteStream};

/// Makes sessions to several hosts that share one person and the jump hosts: each question is asked once, one at a time,
/// an encrypted key is unlocked once for all of them, and a jump host is logged in to once. It begins only so many
/// connections at a time, and fewer at a place that drops some of them.
#[derive(Clone)]
pub struct Connector {
    environment: Arc<ClientEnvironment>,
    first_use: FirstUse,
    person: Arc<dyn Prompt>,
    memory: Arc<Memory>,
    starts: Arc<Semaphore>,
    ways: Arc<Ways>,
    dns_retries: u32,
}

/// What the connections of a connector share on their way.
#[derive(Default)]
struct Ways {
    carriers: Carriers,
    pace: Pace,
}

impl Connector {
    /// Makes a connector with the usual limits.
    #[must_use]
    pub fn new(environment: ClientEnvironment, first_use: FirstUse, prompt: Arc<dyn Prompt>) -> Self {
        let connector = Self {
            environment: Arc::new(environment),
            first_use,
            person: prompt,
            memory: Arc::default(),
            starts: Arc::new(Semaphore::new(1)),
            ways: Arc::default(),
            dns_retries: 0,
        };
        connector.with_limits(&ConnectionSettings::default())
    }

    /// Sets how many connections it begins at a time, and how often a name that did not resolve is looked up again.
    #[must_use]
    pub fn with_limits(mut self, limits: &ConnectionSettings) -> Self {
        let starts = usize::try_from(limits.max_concurrent_starts.get()).unwrap_or(usize::MAX);
        self.starts = Arc::new(Semaphore::new(starts.min(Semaphore::MAX_PERMITS)));
        self.dns_retries = limits.dns_retries;
        self
    }

    /// Opens a session to a host. `key_data` are the values of the secrets that `settings.key_data` names.
    ///
    /// # Errors
    /// [`ConnectError`] names the hop and the stage that failed.
    ///
    /// # Cancel safety
    /// Dropping the future ends all connections that it has made.
    pub async fn connect(
        &self,
        host: &HostName,
        settings: &SshSettings,
        key_data: &[SecretString],
    ) -> Result<Session, ConnectError> {
        let route = Route::resolve(host, settings, &self.environment).await?;
        for hop in route.hops() {
            tracing::debug!(%host, hop = %hop.name, address = hop.address, port = hop.port, "route");
        }
        let plan = Arc::new(Plan {
            route,
            key_data: key_data.to_vec(),
            first_use: self.first_use,
            memory: Arc::clone(&self.memory),
            starts: Arc::clone(&self.starts),
            ways: Arc::clone(&self.ways),
            dns_retries: self.dns_retries,
        });
        let prompt = self.memory.prompt(Some(Arc::clone(&self.person)));
        let connection = plan.connect(&prompt, Overflow::Close).await?;
        Ok(Session::new(connection, plan))
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Connector").field("first_use", &self.first_use).finish_non_exhaustive()
    }
}

/// Everything needed to connect to a host, and to do it again.
pub(crate) struct Plan {
    pub(crate) route: Route,
    key_data: Vec<SecretString>,
    first_use: FirstUse,
    memory: Arc<Memory>,
    starts: Arc<Semaphore>,
    ways: Arc<Ways>,
    dns_retries: u32,
}

/// How many keep-alive messages may stay unanswered.
const KEEPALIVE_LIMIT: usize = 3;

impl Plan {
    /// Connects once more; what a person has answered is used again, and nothing new is asked.
    pub(crate) async fn reconnect(&self) -> Result<Arc<Connection>, ConnectError> {
        self.connect(&self.memory.prompt(None), Overflow::Wait).await
    }

    async fn connect(
        &self,
        prompt: &Arc<dyn Prompt>,
        overflow: Overflow,
    ) -> Result<Arc<Connection>, ConnectError> {
        // Nobody closes the semaphore; a permit that is none would only lift the limit.
        let _start = self.starts.acquire().await.ok();
        let hops = self.route.hops();
        let target = hops.last().map(|hop| hop.name.clone());
        let mut previous: Option<Arc<Connection>> = None;
        for (index, hop) in hops.iter().enumerate() {
            let jump = target.as_ref().filter(|_| index + 1 < hops.len());
            let name = HopName { name: hop.name.clone(), target: jump.cloned() };
            let way = hops.get(..=index).unwrap_or(hops);
            let place =
                way.iter().map(|hop| format!("{}:{}", hop.address, hop.port)).collect::<Vec<_>>().join(" ");
            let before = previous.take();
            // The deadline begins when this is awaited: who waits for another's outcome has begun nothing yet.
            let open = Box::pin(async {
                let stage = Stage {
                    plan: self,
                    hop,
                    name,
                    place,
                    prompt,
                    // Whoever reads through a connection that only carries others may let them wait.
                    overflow: if jump.is_some() { Overflow::Wait } else { overflow },
                    deadline: Deadline::after(hop.connect_timeout),
                };
                stage.connect(before).await
            });
            previous = Some(match jump {
                // Sessions never let the host wait, so that they can share what carries them. The others cannot.
                Some(target) if overflow == Overflow::Close => {
                    self.ways.carriers.through(way).get(target, open).await?
                }
                _ => open.await?,
            });
        }
        previous.ok_or(ConnectError::NoHops)
    }
}

/// The making of one connection of a route.
struct Stage<'a> {
    plan: &'a Plan,
    hop: &'a Hop,
    name: HopName,
    /// The addresses of the way so far: what may have too many connections at a time.
    place: String,
    prompt: &'a Arc<dyn Prompt>,
    overflow: Overflow,
    deadline: Arc<Deadline>,
}

impl Stage<'_> {
    /// Connects, again after a pause where the host drops us before it has said anything.
    async fn connect(&self, previous: Option<Arc<Connection>>) -> Result<Arc<Connection>, ConnectError> {
        let connected = self.connect_patiently(previous).await;
        connected.map_err(|failure| HopError { hop: self.name.clone(), failure }.into())
    }

    async fn connect_patiently(
        &self,
        previous: Option<Arc<Connection>>,
    ) -> Result<Arc<Connection>, HopFailure> {
        let mut attempt = 0;
        loop {
            let turn = {
                let _standing = self.deadline.pause();
                self.plan.ways.pace.turn(&self.place).await
            };
            let heard = Heard::default();
            match self.attempt(previous.as_ref(), &heard).await {
                Ok(connection) => {
                    turn.was_good();
                    return Ok(connection);
                }
                Err(error @ HopFailure::Handshake { .. })
                    if heard.is_brushed_off()
                        && self.hop.proxy_command.is_none()
                        && attempt < pace::RETRIES =>
                {
                    turn.was_too_much();
                    attempt += 1;
                    let pause = pace::pause(attempt);
                    tracing::info!(host = %self.hop.name, attempt, ?pause, "connection dropped, trying again");
                    if self.deadline.within(tokio::time::sleep(pause)).await.is_none() {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn attempt(
        &self,
        previous: Option<&Arc<Connection>>,
        heard: &Heard,
    ) -> Result<Arc<Connection>, HopFailure> {
        match (previous, &self.hop.proxy_command) {
            (Some(previous), _) => {
                let stream = self.through(previous).await?;
                self.handshake(Box::new(stream), heard).await
            }
            (None, Some(command)) => {
                let failed =
                    |source| HopFailure::ProxyCommand { command: command.clone(), source: Arc::new(source) };
                let stream = ProxyCommand::start(command).map_err(failed)?;
                let complaints = stream.complaints();
                match self.handshake(Box::new(stream), heard).await {
                    Err(HopFailure::Handshake { source, .. }) => {
                        let complaints = complaints.text(&self.deadline).await;
                        Err(HopFailure::Handshake { complaints, source })
                    }
                    result => result,
                }
            }
            (None, None) => {
                let lookups = Lookups {
                    retries: self.plan.dns_retries,
                    person: self.prompt.as_ref(),
                    host: &self.hop.name,
                };
                let dialled = dial::tcp(self.hop, &self.deadline, &lookups).await;
                let stream = dialled.map_err(|error| self.dial_error(error))?;
                self.handshake(Box::new(stream), heard).await
            }
        }
    }

    async fn through(&self, previous: &Arc<Connection>) -> Result<ByteStream, HopFailure> {
        let target = Target::Tcp(self.hop.address.clone(), self.hop.port);
        let opened = self.deadline.within(previous.open(target)).await;
        let limit = self.deadline.limit();
        match opened.unwrap_or(Err(OpenFailure::TimedOut(limit))) {
            Ok(guard) => Ok(ByteStream::new(&guard)),
            Err(failure) => {
                let through = previous.hop().name.clone();
                Err(HopFailure::Jump {
                    source: crate::open::OpenError::of(
                        failure,
                        &through,
                        &format!("{}:{}", self.hop.address, self.hop.port),
                    ),
                    through,
                })
            }
        }
    }

    /// Boxed, so that the protocol's code is there once and not for each kind of stream.
    async fn handshake(
        &self,
        stream: Box<dyn Transport>,
        heard: &Heard,
    ) -> Result<Arc<Connection>, HopFailure> {
        let stream = Greeting::new(stream, heard);
        let hop = self.hop;
        let (policy, address, port) = (hop.host_key.clone(), hop.address.clone(), hop.port);
        let known = tokio::task::spawn_blocking(move || Known::read(&policy, &address, port)).await;
        let known = known
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(|source| HopFailure::KnownHosts(Arc::new(source)))?;
        let config = Arc::new(self.config(&known));
        let shared = Shared::new(self.overflow);
        let client = Client {
            host: hop.name.clone(),
            checker: Checker {
                host: hop.name.clone(),
                known,
                policy: hop.host_key.clone(),
                first_use: self.plan.first_use,
                prompt: Arc::clone(self.prompt),
                deadline: Arc::clone(&self.deadline),
            },
            prompt: Arc::clone(self.prompt),
            shared: Arc::clone(&shared),
        };
        let mut handle = match self.deadline.within(connect_stream(config, stream, client)).await {
            None => {
                return Err(HopFailure::HandshakeTimedOut { after: self.deadline.limit() });
            }
            Some(Err(ClientError::HostKey(source))) => {
                return Err(HopFailure::HostKey(source));
            }
            Some(Err(ClientError::Ssh(source))) => {
                return Err(HopFailure::Handshake { complaints: String::new(), source: Arc::new(source) });
            }
            Some(Ok(handle)) => handle,
        };
        let authentication = {
            let means = Means {
                hop,
                key_data: &self.plan.key_data,
                prompt: Arc::clone(self.prompt),
                memory: Arc::clone(&self.plan.memory),
                deadline: Arc::clone(&self.deadline),
            };
            let work = Authenticator::new(&mut handle, means).run();
            self.deadline.within(work).await
        };
        let authentication: Authentication = match authentication {
            None => {
                return Err(HopFailure::AuthenticationTimedOut { after: self.deadline.limit() });
            }
            Some(Err(source)) => {
                // What the host said when it closed is heard by the connection's task.
                let said = shared.ended().borrow().clone();
                return Err(HopFailure::Authentication(source.because(said)));
            }
            Some(Ok(authentication)) => authentication,
        };
        tracing::info!(host = %hop.name, user = %hop.user, %authentication, "connected");
        Ok(Connection::new(handle, shared, hop.clone(), authentication))
    }

    fn config(&self, known: &Known) -> Config {
        let keepalive = Some(self.hop.keepalive).filter(|interval| !interval.is_zero());
        Config {
            client_id: SshId::Standard(concat!("SSH-2.0-Freehold_", env!("CARGO_PKG_VERSION")).into()),
            preferred: self.hop.algorithms.preferred(&known.algorithms(), known.has_authority()),
            keepalive_interval: keepalive,
            keepalive_max: KEEPALIVE_LIMIT,
            ..Config::default()
        }
    }

    fn dial_error(&self, error: DialError) -> HopFailure {
        let address = self.hop.address.clone();
        let after = self.deadline.limit();
        match error {
            DialError::Lookup(source) => HopFailure::Lookup { address, source: Arc::new(source) },
            DialError::LookupTimedOut => HopFailure::LookupTimedOut { address, after },
            DialError::NoAddress => HopFailure::NoAddress { address },
            DialError::TimedOut(addresses) => HopFailure::TimedOut { addresses, after },
            DialError::Failed(mut errors) => match errors.pop() {
                Some((address, source)) => HopFailure::Tcp { address, source: Arc::new(source) },
                None => HopFailure::NoAddress { address },
            },
        }
    }
}

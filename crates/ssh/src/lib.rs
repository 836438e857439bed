//! Sessions to hosts: channels, jump hosts, files, forwarded ports, host keys.
//!
//! The crate finds the way to a host as OpenSSH would ([`Route`]), makes the connections on that way, checks every host
//! key, proves who we are, and then runs commands and opens streams over the connection ([`Session`]). It knows nothing
//! of containers and changes nothing on a host by itself.
//!
//! Every stage of connecting has a deadline, and no stream that is not read can hold up another: the rules and the
//! measurements behind them are in `docs/decisions/0002-ssh-in-process.md`.
//!
//! Start with [`Connector::connect`] and [`Session`].

mod agent_forward;
mod authenticate;
mod carrier;
mod channel;
mod client;
mod command;
mod connect_error;
mod connection;
mod connector;
mod deadline;
mod dial;
mod environment;
mod forward;
mod host_key;
mod memory;
mod one_time_key;
mod open;
mod pace;
mod process;
mod route;
mod session;
mod text;

pub use authenticate::{Authentication, AuthenticationError};
pub use channel::{ByteStream, ChannelReader, ChannelWriter, ExitStatus};
pub use command::{InvalidCommand, RemoteCommand, quote};
pub use connect_error::{ConnectError, HopError, HopFailure, HopName};
pub use connector::Connector;
pub use environment::{ClientEnvironment, FirstUse, NoPrompt, Prompt};
pub use forward::{ForwardError, RemoteForward};
pub use host_key::{HostKeyError, KnownKey, KnownOfHost};
pub use one_time_key::{OneTimeKey, OneTimeKeyError};
pub use open::{OpenError, SocketProblem};
pub use process::{ExecError, Output, ProcessControl, Pty, RemoteProcess};
pub use route::{
    AddressFamily, ExpandError, Hop, HostKeyPolicy, Identities, Route, RouteError, StrictHostKeys,
};
pub use session::Session;

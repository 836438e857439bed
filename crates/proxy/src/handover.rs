//! A new process in the place of this one, without a refused or lost connection.
//!
//! The running process starts the new one, with its own command line and one end of a socket pair as standard input.
//! Over that go the listening sockets themselves and the state. Once the new process says that it serves, this one stops
//! accepting, writes the state no more, and ends what it has begun; until then it follows the new one's routes, so that
//! requests which wait here are resumed there, and tells it what is still in flight, so that a drain there waits for it.
//!
//! What was started first stays until the last has ended and passes signals on: in a container it is the process that the
//! container lives by.

mod earlier;
mod following;
mod later;
mod message;
mod passing;
mod program;
mod signals;
mod supervise;

pub(crate) use earlier::{Departure, linger};
pub(crate) use later::{Inheritance, Link, accompany};
pub(crate) use message::{Flights, Legacy};
pub(crate) use passing::Sockets;
pub use program::Program;
pub(crate) use program::Role;
pub(crate) use signals::Signals;
pub(crate) use supervise::supervise;

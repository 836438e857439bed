//! Scheduled jobs on a host: `freehold agent serve`.
//!
//! The agent has the jobs of every role whose first host this is, each with the complete request that makes its
//! container. It starts them when they are due, stops what takes too long, and remembers how runs ended. It knows
//! nothing of SSH, deploy files or rollouts: a client gives it the jobs of each release and says which release's run.
//!
//! Start with `book`, where all decisions are: it is plain data and reads no clock. `agent` carries them out through the
//! engine, `store` keeps what must survive a restart, `control` answers on the socket.

mod agent;
mod book;
mod clock;
mod command;
mod containers;
mod control;
mod error;
mod output;
mod run;
mod store;
mod watch;

pub use command::{CommandError, Console, is_command, run};

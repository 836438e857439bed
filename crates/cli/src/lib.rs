//! Turns a command line into a plan, shows what became of it.
//!
//! [`Invocation::parse`] reads the words, [`Invocation::run`] does what they say. Everything that belongs to the
//! process (environment, working directory, terminal, clock, randomness) comes in as a [`Process`]; nothing here reads
//! it by itself, and nothing here exits. What is shown goes through one `Ui`: results to standard output, all
//! else to standard error.
//!
//! Each command is one file at its own path under `command`. Most of them are the same few steps: load the project
//! (`project`), check what can be checked (`preflight`), observe, plan, execute, show.

mod alias;
mod arguments;
mod audit;
mod change;
mod command;
mod context;
mod docker_login;
mod error;
mod exec;
mod failure;
mod filter;
mod git;
mod guard;
mod hook;
mod hosts;
mod image_work;
mod invocation;
mod logs;
mod preflight;
mod process;
mod project;
mod record;
mod reference;
mod secret;
mod sight;
mod summary;
mod template;
mod terminal;
mod ui;
mod words;

pub use error::CommandError;
pub use invocation::{Invocation, Parsed};
pub use process::{Clock, Logs, Process, SystemClock, Terminal};

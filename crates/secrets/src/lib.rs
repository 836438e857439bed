//! Secrets from where they live: the files `.kamal/secrets*`, the commands that they name, and password managers.
//!
//! [`read`] reads the files of a project after Kamal's rules (the grammar of the `dotenv` library) and runs their
//! `$(commands)`; [`Definitions::select`] gives the values that are needed, or everything that is missing at once.
//! [`fetch`] asks a password manager, which is what `$(kamal secrets fetch …)` in a file does too, in this process. A
//! value is a [`secrecy::SecretString`] from the moment it is known; no error, log line or `Debug` shows one.
//!
//! `dotenv` is the grammar and `substitute` what happens to a value, `program` the only part that starts a process,
//! `adapter` the password managers. What a secret is called and which ones are needed is decided in `config`; how a
//! value reaches a container, in `docker`.

mod adapter;
mod definitions;
mod dotenv;
mod error;
mod fetch;
mod fingerprint;
mod inline;
mod outline;
mod program;
mod read;
mod substitute;
mod words;

pub use adapter::Adapter;
pub use definitions::{Defined, Definitions, FailedCommand, Source};
pub use error::{Place, SecretsError};
pub use fetch::{ExtractError, FetchError, FetchRequest, Fetched, extract, fetch};
pub use fingerprint::fingerprint;
pub use inline::InlineError;
pub use outline::{Outlined, outline};
pub use program::{ProgramError, Surroundings};
pub use read::{SecretFiles, read};

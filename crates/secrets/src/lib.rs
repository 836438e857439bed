//! Secrets from where they live: the files `.kamal/secrets*` and the commands that they name.
//!
//! [`load`] reads the files of a project after Kamal's rules (the grammar of the `dotenv` library), runs their
//! `$(commands)`, and gives the values of the secrets that are needed, or everything that is missing at once. A value
//! is a [`secrecy::SecretString`] from the moment it is known; no error, log line or `Debug` shows one.
//!
//! `dotenv` is the grammar and `substitute` what happens to a value, `command` the only part that starts a process.
//! What a secret is called and which ones are needed is decided in `config`; how a value reaches a container, in
//! `docker`.

mod command;
mod dotenv;
mod error;
mod fingerprint;
mod load;
mod substitute;

pub use error::{FailedCommand, Place, SecretsError};
pub use fingerprint::fingerprint;
pub use load::{SecretFiles, load};

mod agent;
mod client;
mod keys;
mod server;

pub(crate) use agent::Agent;
pub(crate) use client::{Client, Person};
pub(crate) use keys::{Key, authority_signs, keygen};
pub(crate) use server::{Sshd, SshdBuilder, free_port, wait_until};

/// How long anything in these tests may take that is expected to happen.
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

mod agent;
mod client;
mod keys;
mod pretender;
mod server;
mod token;

pub(crate) use agent::Agent;
pub(crate) use client::{Client, user};
pub(crate) use keys::{Key, authority_signs, keygen};
pub(crate) use pretender::{Pretender, Rules};
pub(crate) use server::{Sshd, wait_until};
pub(crate) use token::TokenAgent;

/// How long anything in these tests may take that is expected to happen.
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// Starts work beside the test; it ends with the set.
pub(crate) fn background<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinSet<T> {
    let mut set = tokio::task::JoinSet::new();
    set.spawn(work);
    set
}

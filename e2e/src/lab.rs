//! Real hosts on one computer: containers with their own `sshd` and their own `dockerd`.
//!
//! [`Lab::start`] boots a [`Topology`] in a few seconds. Everything it makes carries the lab's id and its owner in
//! labels. A watching process outside the owner removes all of it as soon as the owner ends, in whatever way; what is
//! left when that process is killed too goes at the start of the next lab.
//!
//! Tests share one running lab: [`Lab::shared`] takes the one that `freehold-lab with TOPOLOGY -- COMMAND` started, and
//! boots one of its own otherwise. Call [`Lab::reset`] at the start of a test.

mod command;
mod engine;
mod error;
mod host;
mod image;
mod keys;
mod owner;
mod relay;
mod running;
mod state;
mod sweep;
mod topology;

pub use command::Output;
pub use error::LabError;
pub use host::Host;
pub use relay::Relay;
pub use running::{LABS_VARIABLE, Lab};
pub use sweep::{remove_all, remove_kept, sweep};
pub use topology::{Families, HostSpec, Position, Suite, Topology};

/// What [`Lab::reset`] does with the images on the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Images {
    /// They stay, which makes the next deploy of the same image fast.
    Keep,
    /// They go, with the build cache.
    Remove,
}

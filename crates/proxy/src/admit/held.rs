//! Requests that wait, and those that are to be written once more.

use std::sync::Arc;
use std::time::Duration;

use freehold_wire::Reason;
use tokio::sync::Notify;

use super::Admitted;
use crate::access::Peer;
use crate::rules::Ticket;

/// A request that waits for its service to be resumed, or for its password to be looked at.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) admitted: Admitted,
    /// The version of the table by which it waits.
    pub(crate) version: u64,
    pub(crate) limit: Duration,
    pub(crate) gate_moved: Arc<Notify>,
    /// What it is answered with when it has waited for too long.
    pub(crate) too_long: (u16, Reason),
}

impl Held {
    /// Lets a request wait until its password was looked at.
    pub(super) fn at_the_desk(admitted: Admitted, (version, limit): (u64, Duration), ticket: Ticket) -> Self {
        let too_long = (503, Reason::AuthUnavailable);
        Self { admitted, version, limit, gate_moved: ticket, too_long }
    }
}

/// What a head is written from once more.
#[derive(Debug)]
pub(crate) struct Again<'a> {
    pub(crate) peer: &'a Peer,
    /// The head as it came.
    pub(crate) head: &'a [u8],
}

/// Which targets a request was tried at in vain.
#[derive(Debug)]
pub(crate) struct Tried {
    pub(crate) targets: Vec<u64>,
    /// What was wrong at the last one.
    pub(crate) reason: Reason,
}

//! What a client is told when an exchange did not come to its end.

use freehold_wire::Reason;

use super::{Failure, Progress};
use crate::watch::Signal;

/// The answer to a request that failed, if there can still be one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    pub(super) status: u16,
    pub(super) reason: Reason,
}

impl Ending {
    pub(super) fn of(failure: Failure, progress: &Progress) -> Self {
        match failure {
            Failure::ClientGone => Self { status: 499, reason: Reason::ClientGone },
            Failure::Malformed => Self { status: 400, reason: Reason::InvalidRequest },
            Failure::HeadTooLarge => Self { status: 431, reason: Reason::InvalidRequest },
            Failure::RequestTooLarge => Self { status: 413, reason: Reason::RequestTooLarge },
            Failure::Buffer(reason @ Reason::BufferFull) => Self { status: 503, reason },
            Failure::Buffer(reason) => Self { status: 500, reason },
            Failure::Target(reason) if progress.head_sent.get() => {
                let keeps = matches!(reason, Reason::DrainTimeout | Reason::ResponseTooLarge);
                let reason = if keeps { reason } else { Reason::TargetCutBody };
                Self { status: 502, reason }
            }
            Failure::Target(reason) => {
                let status = match reason {
                    Reason::TargetConnectTimeout | Reason::TargetResponseTimeout | Reason::DrainTimeout => {
                        504
                    }
                    Reason::NoHealthyTarget => 503,
                    Reason::ResponseTooLarge => 500,
                    _ => 502,
                };
                Self { status, reason }
            }
        }
    }

    pub(super) fn of_signal(signal: Signal, progress: &Progress) -> Self {
        match signal {
            Signal::Cut | Signal::Quit => Self::of(Failure::Target(Reason::DrainTimeout), progress),
            Signal::Expired if progress.head_sent.get() => Self::of(Failure::ClientGone, progress),
            Signal::Expired if progress.waits_for_client.get() => {
                Self { status: 408, reason: Reason::ClientTimeout }
            }
            Signal::Expired => Self::of(Failure::Target(Reason::TargetResponseTimeout), progress),
        }
    }
}

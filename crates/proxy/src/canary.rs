//! Targets that are tried with a part of a service's visitors.

use std::sync::Arc;

use freehold_wire::{Canary, CanaryStatus, Split};

use crate::cookie;
use crate::generation::Generation;
use crate::view::RequestView;

/// The cookie whose value tells visitors apart; the application sets it.
const COOKIE: &str = "kamal-rollout";

/// Targets that are tried.
#[derive(Debug, Clone)]
pub(crate) struct Trial {
    pub(crate) generation: Arc<Generation>,
    /// Which visitors go there; nobody where nothing is given.
    pub(crate) split: Option<Split>,
}

impl Trial {
    /// Says whether a request goes to these targets.
    pub(crate) fn takes(&self, view: &RequestView<'_, '_>) -> bool {
        self.split
            .as_ref()
            .is_some_and(|split| cookie::value(view, COOKIE).is_some_and(|value| split.takes(value)))
    }

    /// Returns what is needed to install them again.
    pub(crate) fn snapshot(&self) -> Canary {
        Canary {
            targets: self.generation.addresses(),
            read_targets: self.generation.read_addresses(),
            split: self.split.clone(),
        }
    }

    /// Says how they stand.
    pub(crate) fn status(&self) -> CanaryStatus {
        CanaryStatus {
            targets: self.generation.statuses(),
            read_targets: self.generation.read_statuses(),
            split: self.split.clone(),
            in_flight: self.generation.in_flight(),
            counters: self.generation.counters(),
        }
    }
}

//! Targets that are tried with a part of a service's visitors.

pub(crate) mod contest;
mod statistics;

use std::sync::Arc;

use freehold_wire::{Canary, CanaryStatus, Split};

use crate::cookie;
use crate::digits::hexadecimal;
use crate::generation::Generation;
use crate::view::RequestView;
use contest::{Contest, Side};

/// The cookie whose value tells visitors apart; the application sets it, or the proxy where it is asked to.
const COOKIE: &str = "kamal-rollout";

/// For how long a visitor stays on its side: 30 days.
const COOKIE_SECONDS: u32 = 2_592_000;

/// Targets that are tried.
#[derive(Debug, Clone)]
pub(crate) struct Trial {
    pub(crate) generation: Arc<Generation>,
    /// Which visitors go there; nobody where nothing is given.
    pub(crate) split: Option<Split>,
    /// The comparison with the service's own, where there is one.
    pub(crate) contest: Option<Arc<Contest>>,
}

/// Where a visitor goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) is_tried: bool,
    /// The value that a visitor is given who has none.
    pub(crate) visitor: Option<Visitor>,
    /// The side that the request counts for, if it does.
    pub(crate) side: Option<Side>,
}

/// A visitor's value: random, so that it tells nothing.
pub(crate) type Visitor = [u8; 16];

impl Place {
    /// The service's own targets, for a visitor who takes no part.
    pub(crate) const OWN: Self = Self { is_tried: false, visitor: None, side: None };
}

impl Trial {
    /// Makes a trial; a comparison begins anew.
    pub(crate) fn new(generation: Arc<Generation>, split: Option<Split>, threads: usize) -> Self {
        let rule = split.as_ref().and_then(|split| split.verdict.clone());
        Self { generation, split, contest: rule.map(|rule| Arc::new(Contest::new(rule, threads))) }
    }

    /// Says where a request goes.
    pub(crate) fn place(&self, view: &RequestView<'_, '_>, random: impl FnOnce() -> u64) -> Place {
        let Some(split) = &self.split else { return Place::OWN };
        let header = split.header.as_ref();
        if header.is_some_and(|header| match (view.named(&header.name), &header.value) {
            (Some(found), Some(wanted)) => found == wanted.as_bytes(),
            (found, _) => found.is_some(),
        }) {
            return Place { is_tried: true, ..Place::OWN };
        }
        let value = cookie::value(view, name_of(split)).filter(|value| !value.is_empty());
        if value.is_some_and(|value| split.lists(value)) {
            return Place { is_tried: true, ..Place::OWN };
        }
        let visitor = (value.is_none() && split.anonymous).then(|| made_of(random()));
        let Some(value) = value.or(visitor.as_ref().map(<[u8; 16]>::as_slice)) else { return Place::OWN };
        let is_tried = split.takes(value);
        let side = if is_tried { Side::Tried } else { Side::Own };
        Place { is_tried, visitor, side: self.contest.as_ref().map(|_| side) }
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
            verdict: self.contest.as_ref().map(|contest| contest.status()),
        }
    }
}

/// Returns the name of the cookie.
fn name_of(split: &Split) -> &str {
    split.cookie.as_deref().unwrap_or(COOKIE)
}

fn made_of(random: u64) -> Visitor {
    let mut bits = random;
    std::array::from_fn(|_| {
        bits = bits.rotate_left(4);
        hexadecimal(bits & 0xf)
    })
}

/// The cookie that a visitor is given.
#[derive(Debug)]
pub(crate) struct VisitorCookie {
    name: String,
    value: Visitor,
    is_secure: bool,
}

impl VisitorCookie {
    /// Makes the cookie of a service's trial.
    pub(crate) fn new(trial: Option<&Trial>, value: Visitor, is_secure: bool) -> Self {
        let split = trial.and_then(|trial| trial.split.as_ref());
        Self { name: split.map_or(COOKIE, name_of).to_owned(), value, is_secure }
    }

    /// Appends the line that sets it.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Set-Cookie: ");
        out.extend_from_slice(self.name.as_bytes());
        out.push(b'=');
        out.extend_from_slice(&self.value);
        let secure = if self.is_secure { "; Secure" } else { "" };
        let rest = format!("; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Lax{secure}\r\n");
        out.extend_from_slice(rest.as_bytes());
    }
}

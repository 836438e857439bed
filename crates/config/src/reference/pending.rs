use crate::field::Field;

/// When a pending key is accepted all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unless {
    Never,
    /// With the value that stands for what happens anyway.
    Is(bool),
}

impl Unless {
    pub(crate) fn is_met(self, field: &Field<'_>) -> bool {
        match self {
            Self::Never => false,
            Self::Is(value) => field.boolean_value() == Some(value),
        }
    }
}

use Unless::{Is, Never};

/// Keys that are read and checked but have no effect yet: section, key, exception.
///
/// [`crate::parse`] refuses them by name. Whoever builds an effect removes its line, and nothing else here changes.
pub(crate) const PENDING: &[(&str, &str, Unless)] =
    &[("", "cron", Never), ("", "output", Never), ("", "sshkit", Never), ("ssh", "log_level", Never)];

/// Returns when a key is accepted, if its effect is pending.
pub(crate) fn pending(section: &str, name: &str) -> Option<Unless> {
    PENDING.iter().find(|(s, n, _)| (*s, *n) == (section, name)).map(|(_, _, unless)| *unless)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::KEYS;

    #[test]
    fn every_pending_key_is_a_key() {
        for (section, name, _) in PENDING {
            let is_key = KEYS.iter().any(|key| (key.section, key.name) == (*section, *name));
            assert!(is_key, "{section}/{name}");
        }
    }
}

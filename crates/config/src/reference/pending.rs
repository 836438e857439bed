/// Keys that are read and checked but have no effect yet, each with its section.
///
/// [`crate::parse`] refuses them by name. Whoever builds an effect removes its line, and nothing else here changes.
pub(crate) const PENDING: &[(&str, &str)] = &[];

/// Says whether a key has no effect yet.
pub(crate) fn is_pending(section: &str, name: &str) -> bool {
    PENDING.contains(&(section, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::KEYS;

    #[test]
    fn every_pending_key_is_a_key() {
        for (section, name) in PENDING {
            let is_key = KEYS.iter().any(|key| (key.section, key.name) == (*section, *name));
            assert!(is_key, "{section}/{name}");
        }
    }
}

//! Which services have rules that kamal-proxy's file has no words for, kept apart from the state: where that is lost, they are
//! not to be served to everybody.

use std::collections::BTreeSet;

use freehold_wire::{ServiceSettings, ServiceSnapshot};
use sha2::{Digest, Sha256};

/// The file with their names, behind a line with a checksum.
pub(super) const FILE_NAME: &str = "freehold-proxy.guarded";

/// The file that stands for rules that are lost.
pub(super) const LOST_NAME: &str = "freehold-proxy.rules-lost";

/// It names no user, so that nobody is let in.
pub(super) const LOST_TEXT: &str =
    "# The rules of a service that names this file are lost. Deploy it again.\n";

/// What is known of services whose state is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Guarded {
    /// These had rules, and no others.
    Services(BTreeSet<String>),
    /// It cannot be told which: each of them may have had some.
    Unknown,
}

impl Guarded {
    /// Reads the file; what is missing or was changed says nothing.
    pub(super) fn read(text: &[u8]) -> Self {
        let names = std::str::from_utf8(text).ok().and_then(|text| text.split_once('\n'));
        match names {
            Some((found, names)) if found == sum(names) => {
                Self::Services(names.lines().map(str::to_owned).collect())
            }
            _ => Self::Unknown,
        }
    }

    /// Says whether a service may have had rules.
    pub(crate) fn may_be(&self, service: &str) -> bool {
        match self {
            Self::Services(names) => names.contains(service),
            Self::Unknown => true,
        }
    }
}

/// Writes the file.
pub(super) fn write(services: &[ServiceSnapshot]) -> Vec<u8> {
    let guarded = services.iter().filter(|service| is_guarded(&service.settings));
    let names: String = guarded.map(|service| format!("{}\n", service.name)).collect();
    format!("{}\n{names}", sum(&names)).into_bytes()
}

/// Says whether a service says who may come, or what is done to its requests, in a way that only our own files tell.
fn is_guarded(settings: &ServiceSettings) -> bool {
    let has_clients = settings.tls.as_ref().is_some_and(|tls| tls.clients.is_some());
    settings.traffic.is_some() || settings.basic_auth_file.is_some() || has_clients
}

fn sum(text: &str) -> String {
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_file_tells_who_has_no_rules() {
        let service = |name: &str, more: &str| {
            let text =
                format!(r#"{{"name":"{name}","targets":["web:80"],"settings":{{{more}}},"generation":1}}"#);
            serde_json::from_str::<ServiceSnapshot>(&text).unwrap()
        };
        let text = write(&[
            service("blog", ""),
            service("shop", r#""basic_auth_file":"/users""#),
            service("intern", r#""traffic":{"allow":["10.0.0.0/8"]}"#),
        ]);
        let guarded = Guarded::read(&text);
        assert_eq!(["blog", "shop", "intern"].map(|name| guarded.may_be(name)), [false, true, true]);
        for length in 0..text.len() {
            assert_eq!(Guarded::read(&text[..length]), Guarded::Unknown, "{length}");
        }
        assert!(Guarded::read(b"").may_be("blog"));
    }
}

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use russh::keys::PublicKey;
use sha1::Sha1;

use crate::route::pattern::list_matches;

/// What a line of a known hosts file says, as sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT", defines it.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) marker: Marker,
    hosts: Hosts,
    /// The key, or none if it cannot be read: the line then stands for a key that matches nothing.
    pub(super) key: Option<PublicKey>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    /// The key of a host.
    Host,
    /// The key of an authority that signs hosts' certificates.
    Authority,
    /// A key that must not be accepted.
    Revoked,
    /// A marker of the future; such a line may forbid what we would allow.
    Unknown,
}

#[derive(Debug, Clone)]
enum Hosts {
    Patterns(Vec<String>),
    Hashed {
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
    /// It cannot be read, so it might be any host.
    Unreadable,
}

impl Line {
    /// Reads a line; none if it is empty or a comment.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            return None;
        }
        let mut words = text.split_ascii_whitespace();
        let first = words.next()?;
        let (marker, hosts) = match first {
            "@cert-authority" => (Marker::Authority, words.next()),
            "@revoked" => (Marker::Revoked, words.next()),
            other if other.starts_with('@') => (Marker::Unknown, words.next()),
            other => (Marker::Host, Some(other)),
        };
        let hosts = hosts.map_or(Hosts::Unreadable, Hosts::parse);
        // Runs of blanks and tabs are allowed between the fields, but not by the parser of keys.
        let key = match (words.next(), words.next()) {
            (Some(algorithm), Some(data)) => PublicKey::from_openssh(&format!("{algorithm} {data}")).ok(),
            _ => None,
        };
        Some(Self { marker, hosts, key })
    }

    pub(super) fn is_for(&self, name: &str) -> bool {
        match &self.hosts {
            Hosts::Patterns(patterns) => list_matches(patterns.iter().map(String::as_str), name),
            Hosts::Hashed { salt, hash } => {
                host_mac(salt, name).is_some_and(|mac| mac.verify_slice(hash).is_ok())
            }
            Hosts::Unreadable => true,
        }
    }
}

impl Hosts {
    fn parse(text: &str) -> Self {
        let Some(hashed) = text.strip_prefix('|') else {
            return Self::Patterns(text.split(',').map(str::to_ascii_lowercase).collect());
        };
        let mut parts = hashed.split('|');
        let parts = (parts.next(), parts.next(), parts.next(), parts.next());
        let (Some("1"), Some(salt), Some(hash), None) = parts else { return Self::Unreadable };
        match (STANDARD.decode(salt), STANDARD.decode(hash)) {
            (Ok(salt), Ok(hash)) if hash.len() == 20 => Self::Hashed { salt, hash },
            _ => Self::Unreadable,
        }
    }
}

/// Returns the field that stands for a host without telling its name.
pub(super) fn hashed(salt: &[u8], name: &str) -> Option<String> {
    let hash = host_mac(salt, name)?.finalize().into_bytes();
    Some(format!("|1|{}|{}", STANDARD.encode(salt), STANDARD.encode(hash)))
}

fn host_mac(salt: &[u8], name: &str) -> Option<Hmac<Sha1>> {
    let mut mac = Hmac::<Sha1>::new_from_slice(salt).ok()?;
    mac.update(name.as_bytes());
    Some(mac)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9dG4kjRhQTtWTVzd2t27+t0DEHBPW7iOD23TUiYLio";

    #[test]
    fn names_match_by_pattern_negation_port_and_hash() {
        let is_for = |hosts: &str, name: &str| {
            Line::parse(&format!("{hosts} {KEY}")).unwrap_or_else(|| panic!("{hosts}")).is_for(name)
        };
        assert!(is_for("web", "web"));
        assert!(is_for("WEB,other", "web"));
        assert!(is_for("*.example.com,!bad.example.com", "good.example.com"));
        assert!(!is_for("*.example.com,!bad.example.com", "bad.example.com"));
        assert!(is_for("[web]:2222", "[web]:2222"));
        assert!(!is_for("web", "[web]:2222"));
        let hashed = hashed(b"12345678901234567890", "web").unwrap();
        assert!(is_for(&hashed, "web"));
        assert!(!is_for(&hashed, "db"));
        assert!(is_for("|1|broken", "anything"), "what cannot be read might be this host");
    }

    #[test]
    fn blanks_markers_and_comments() {
        let line =
            Line::parse(&format!("  @revoked\t web  \t{} \t comment # x ", KEY.replace(' ', "\t "))).unwrap();
        assert_eq!(line.marker, Marker::Revoked);
        assert!(line.key.is_some());
        assert!(Line::parse("# web ssh-ed25519").is_none());
        assert!(Line::parse("   ").is_none());
        assert_eq!(Line::parse("@future web x y").map(|line| line.marker), Some(Marker::Unknown));
        assert!(Line::parse("web ssh-ed25519 AAAA").unwrap().key.is_none());
        assert!(
            Line::parse("web ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIB9dG4kjRhQTtWTVzd2t27+t0DEHBPW7iOD23TUiYLio")
                .unwrap()
                .key
                .is_none()
        );
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "\\PC{0,200}", fields in prop::collection::vec("[@|!*a-zA-Z0-9+/=,\\[\\]:]{0,30}", 0..6)) {
            for text in [text, fields.join(" "), format!("{} {KEY}", fields.join(","))] {
                if let Some(line) = Line::parse(&text) {
                    line.is_for("web");
                }
            }
        }
    }
}

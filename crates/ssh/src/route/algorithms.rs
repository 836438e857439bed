use std::borrow::Cow;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Preferred, cipher, kex, mac};

use super::options::Options;
use super::pattern::list_matches;

/// Limits on the algorithms that are offered.
///
/// OpenSSH's lists say which may be used; the order among those stays ours. `ssh -G` prints the whole lists, its
/// defaults as well, so that a list's order does not tell what a person prefers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Algorithms {
    ciphers: Limit,
    macs: Limit,
    key_exchange: Limit,
    host_keys: Limit,
}

/// A list as OpenSSH's configuration has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Limit(Option<String>);

impl Limit {
    fn of(options: &Options, keyword: &str) -> Self {
        Self(options.set(keyword).map(str::to_owned))
    }

    fn permits(&self, name: &str) -> bool {
        let Some(list) = &self.0 else { return true };
        match list.chars().next() {
            // They add to the defaults or move some to the front: nothing is taken away.
            Some('+' | '^') => true,
            Some('-') => !list_matches(list.trim_start_matches('-').split(','), name),
            _ => list_matches(list.split(','), name),
        }
    }

    /// Returns what is permitted. If that is nothing, our own list: OpenSSH then knows other algorithms than we do,
    /// and all of ours are sound.
    fn apply<T: Clone>(&self, ours: &[T], name: impl Fn(&T) -> String) -> Vec<T> {
        let kept: Vec<T> = ours.iter().filter(|item| self.permits(&name(item))).cloned().collect();
        if kept.is_empty() { ours.to_vec() } else { kept }
    }
}

const EXTENSIONS: [kex::Name; 2] =
    [kex::EXTENSION_SUPPORT_AS_CLIENT, kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT];

impl Algorithms {
    pub(super) fn of(options: &Options) -> Self {
        Self {
            ciphers: Limit::of(options, "ciphers"),
            macs: Limit::of(options, "macs"),
            key_exchange: Limit::of(options, "kexalgorithms"),
            host_keys: Limit::of(options, "hostkeyalgorithms"),
        }
    }

    /// Returns what is offered to a host whose keys of the given types are known.
    ///
    /// The known types come first: a server shows one key only, and that must be one that we can compare. Certificates
    /// are asked for only where a known authority could have signed one.
    pub(crate) fn preferred(&self, known: &[Algorithm], certificates: bool) -> Preferred {
        let by_known = |algorithm: &Algorithm| !known.iter().any(|known| same_type(known, algorithm));
        let mut keys = self.host_keys.apply(&host_keys(), Algorithm::to_string);
        keys.sort_by_key(by_known);
        let defaults = Preferred::DEFAULT;
        let exchanges: Vec<kex::Name> = defaults.kex.iter().filter(|n| !is_extension(n)).copied().collect();
        let mut exchanges = self.key_exchange.apply(&exchanges, |name| name.as_ref().to_owned());
        exchanges.extend(EXTENSIONS);
        let certificates = if certificates { host_keys() } else { Vec::new() };
        Preferred {
            kex: Cow::Owned(exchanges),
            key: Cow::Owned(keys),
            host_key_certificates: Cow::Owned(certificates),
            cipher: Cow::Owned(self.ciphers.apply(&ciphers(), |name| name.as_ref().to_owned())),
            mac: Cow::Owned(self.macs.apply(&defaults.mac, |name: &mac::Name| name.as_ref().to_owned())),
            compression: Cow::Borrowed(&[russh::compression::NONE]),
        }
    }
}

fn is_extension(name: &kex::Name) -> bool {
    let name = name.as_ref();
    name.starts_with("ext-info-") || name.starts_with("kex-strict-")
}

/// Says whether two algorithms sign with the same type of key; RSA's differ in the hash only.
pub(crate) fn same_type(one: &Algorithm, other: &Algorithm) -> bool {
    let is_rsa = |algorithm: &Algorithm| matches!(algorithm, Algorithm::Rsa { .. });
    one == other || (is_rsa(one) && is_rsa(other))
}

fn host_keys() -> Vec<Algorithm> {
    vec![
        Algorithm::Ed25519,
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
        Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
        Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
    ]
}

/// AES-GCM is a third faster than ChaCha20 on processors with AES instructions, and much slower on others.
fn ciphers() -> Vec<cipher::Name> {
    let gcm = [cipher::AES_256_GCM, cipher::AES_128_GCM];
    let counter = [cipher::AES_256_CTR, cipher::AES_192_CTR, cipher::AES_128_CTR];
    let chacha = [cipher::CHACHA20_POLY1305];
    if has_aes() { [&gcm[..], &chacha, &counter].concat() } else { [&chacha[..], &gcm, &counter].concat() }
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(lines: &str) -> Options {
        Options::parse_resolved(lines)
    }

    #[test]
    fn known_key_types_come_first() {
        let rsa = Algorithm::Rsa { hash: None };
        let preferred = Algorithms::default().preferred(&[rsa], false);
        assert!(
            preferred.key.first().is_some_and(|first| same_type(first, &Algorithm::Rsa { hash: None })),
            "{:?}",
            preferred.key
        );
        assert!(!preferred.key.contains(&Algorithm::Rsa { hash: None }), "SHA-1 is never offered");
        assert!(preferred.host_key_certificates.is_empty());
    }

    #[test]
    fn a_list_limits_what_is_offered() {
        let algorithms = Algorithms::of(&options("ciphers aes128-ctr,aes256-ctr\nmacs -hmac-sha2-512*\n"));
        let preferred = algorithms.preferred(&[], true);
        assert_eq!(*preferred.cipher, [cipher::AES_256_CTR, cipher::AES_128_CTR]);
        assert_eq!(*preferred.mac, [mac::HMAC_SHA256_ETM, mac::HMAC_SHA256]);
        assert!(preferred.kex.contains(&kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT));
        assert!(!preferred.host_key_certificates.is_empty());
    }

    #[test]
    fn the_first_cipher_suits_the_processor() {
        let first = Algorithms::default().preferred(&[], false).cipher.first().copied();
        let expected = if has_aes() { cipher::AES_256_GCM } else { cipher::CHACHA20_POLY1305 };
        assert_eq!(first, Some(expected));
    }
}

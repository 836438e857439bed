use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey, PublicKeyOrCertificate};

use super::KnownOfHost;
use super::line::{Line, Marker};
use crate::route::HostKeyPolicy;
use crate::route::algorithms::same_type;
use crate::route::pattern::list_matches;

/// Where a key stands in a known hosts file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKey {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The SHA-256 fingerprint of the key, or none if the key cannot be read.
    pub fingerprint: Option<String>,
}

/// What the known hosts files say of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Trusted,
    Revoked(KnownKey),
    Changed(Vec<KnownKey>),
    /// No line speaks of a key of this type; other lines may speak of others.
    Unknown(Vec<KnownKey>),
    /// A line that might forbid the key cannot be read.
    Unreadable(KnownKey),
    /// An authority that we know signed the certificate, but it is not valid.
    InvalidCertificate(&'static str),
}

/// The lines of all known hosts files that speak of one host.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The host's name in these files: in lower case, with its port unless that is 22.
    name: String,
    /// The host's name without the port: what a certificate must name.
    principal: String,
    entries: Vec<Entry>,
    revoked: Vec<(KnownKey, PublicKey)>,
    /// The files that were there to be read.
    files: Vec<PathBuf>,
}

#[derive(Debug)]
struct Entry {
    line: Line,
    place: KnownKey,
    /// Whether it speaks of the host on its usual port, while we connect to another port.
    other_port: bool,
}

impl Known {
    /// Reads the files of a policy; those that do not exist are empty.
    pub(crate) fn read(policy: &HostKeyPolicy, host: &str, port: u16) -> std::io::Result<Self> {
        let plain = policy.alias.as_deref().unwrap_or(host).to_ascii_lowercase();
        let name = match (&policy.alias, port) {
            (Some(_), _) | (None, 22) => plain.clone(),
            (None, port) => format!("[{plain}]:{port}"),
        };
        let mut known = Self { name, principal: plain, ..Self::default() };
        for file in policy.user_files.iter().chain(&policy.global_files) {
            if let Some(text) = read_if_there(file)? {
                known.add(file, &text);
                if file != Path::new("/dev/null") {
                    known.files.push(file.clone());
                }
            }
        }
        if let Some(file) = &policy.revoked_keys {
            known.add_revoked(file)?;
        }
        Ok(known)
    }

    fn add(&mut self, file: &Path, text: &str) {
        for (index, text) in text.lines().enumerate() {
            let Some(line) = Line::parse(text) else { continue };
            let other_port = !line.is_for(&self.name);
            if other_port && !line.is_for(&self.principal) {
                continue;
            }
            let fingerprint = line.key.as_ref().map(fingerprint);
            let place = KnownKey { file: file.to_owned(), line: index + 1, fingerprint };
            self.entries.push(Entry { line, place, other_port });
        }
    }

    /// Reads a list of revoked keys. A binary list (KRL) is refused, because not to see it would be to trust its keys.
    fn add_revoked(&mut self, file: &Path) -> std::io::Result<()> {
        let unreadable = || {
            let message = format!("`{}` is not a list of public keys, one a line", file.display());
            std::io::Error::new(std::io::ErrorKind::InvalidData, message)
        };
        let text = String::from_utf8(fs_err::read(file)?).map_err(|_| unreadable())?;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = PublicKey::from_openssh(line).map_err(|_| unreadable())?;
            let fingerprint = Some(fingerprint(&key));
            self.revoked.push((KnownKey { file: file.to_owned(), line: index + 1, fingerprint }, key));
        }
        Ok(())
    }

    /// Returns the name under which a new key is stored.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the types of the host's known keys, so that it can be asked for one of them.
    pub(crate) fn algorithms(&self) -> Vec<Algorithm> {
        let hosts = self.entries.iter().filter(|entry| entry.line.marker == Marker::Host);
        hosts.filter_map(|entry| Some(entry.line.key.as_ref()?.algorithm())).collect()
    }

    /// Says whether an authority is known that may sign certificates of the host.
    pub(crate) fn has_authority(&self) -> bool {
        self.entries.iter().any(|entry| entry.line.marker == Marker::Authority)
    }

    /// Returns what the files say of the host, for one whose key they do not name.
    pub(super) fn seen(&self, others: Vec<KnownKey>, presented: &PublicKeyOrCertificate) -> KnownOfHost {
        let authorities = self.entries.iter().filter(|entry| entry.line.marker == Marker::Authority);
        let signed_by = match presented {
            PublicKeyOrCertificate::PublicKey { .. } => None,
            PublicKeyOrCertificate::Certificate(certificate) => {
                Some(fingerprint(&PublicKey::new(certificate.signature_key().clone(), "")))
            }
        };
        let authorities = authorities.map(|entry| entry.place.clone()).collect();
        KnownOfHost { others, authorities, signed_by, files: self.files.clone() }
    }

    /// Judges a key without a certificate.
    pub(super) fn judge(&self, key: &PublicKey) -> Verdict {
        if let Some(verdict) = self.forbidden(&[key]) {
            return verdict;
        }
        let hosts = || self.entries.iter().filter(|entry| entry.line.marker == Marker::Host);
        let is_it = |entry: &Entry| entry.line.key.as_ref().is_some_and(|known| same_key(known, key));
        if hosts().any(is_it) {
            return Verdict::Trusted;
        }
        let here = || hosts().filter(|entry| !entry.other_port);
        if let Some(entry) = here().find(|entry| entry.line.key.is_none()) {
            return Verdict::Unreadable(entry.place.clone());
        }
        let type_of_it = |entry: &&Entry| {
            let known = entry.line.key.as_ref().map(PublicKey::algorithm);
            known.is_some_and(|known| same_type(&known, &key.algorithm()))
        };
        let places = |entries: &mut dyn Iterator<Item = &Entry>| {
            entries.map(|entry| entry.place.clone()).collect::<Vec<_>>()
        };
        let changed = places(&mut here().filter(type_of_it));
        if changed.is_empty() { Verdict::Unknown(places(&mut here())) } else { Verdict::Changed(changed) }
    }

    /// Judges a certificate: by the authority that signed it, or else by the key in it.
    pub(super) fn judge_certificate(&self, certificate: &Certificate, now: SystemTime) -> Verdict {
        let key = PublicKey::new(certificate.public_key().clone(), "");
        let authority = PublicKey::new(certificate.signature_key().clone(), "");
        if let Some(verdict) = self.forbidden(&[&key, &authority]) {
            return verdict;
        }
        let signed = self.entries.iter().any(|entry| {
            let known = entry.line.key.as_ref();
            entry.line.marker == Marker::Authority && known.is_some_and(|known| same_key(known, &authority))
        });
        if !signed {
            return self.judge(&key);
        }
        match (self.certificate_fault(certificate, &authority, now), self.judge(&key)) {
            (None, _) | (Some(_), Verdict::Trusted) => Verdict::Trusted,
            (Some(fault), _) => Verdict::InvalidCertificate(fault),
        }
    }

    /// Returns the reason why a key may not be used at all, whatever other lines say.
    fn forbidden(&self, keys: &[&PublicKey]) -> Option<Verdict> {
        let is_one = |known: &PublicKey| keys.iter().any(|key| same_key(known, key));
        if let Some((place, _)) = self.revoked.iter().find(|(_, known)| is_one(known)) {
            return Some(Verdict::Revoked(place.clone()));
        }
        self.entries.iter().find_map(|entry| match (entry.line.marker, &entry.line.key) {
            (Marker::Revoked, Some(known)) if is_one(known) => Some(Verdict::Revoked(entry.place.clone())),
            (Marker::Revoked, None) | (Marker::Unknown, _) => Some(Verdict::Unreadable(entry.place.clone())),
            _ => None,
        })
    }

    /// Returns what is wrong with a certificate that a known authority signed (PROTOCOL.certkeys of OpenSSH).
    fn certificate_fault(
        &self,
        certificate: &Certificate,
        authority: &PublicKey,
        now: SystemTime,
    ) -> Option<&'static str> {
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let principals = certificate.valid_principals();
        if certificate.cert_type() != CertType::Host {
            Some("it is not a host certificate")
        } else if matches!(
            certificate.signature().algorithm(),
            Algorithm::Rsa { hash: None } | Algorithm::Dsa
        ) {
            Some("its signature is made with SHA-1")
        } else if seconds < certificate.valid_after() {
            Some("it is not valid yet")
        } else if seconds >= certificate.valid_before() {
            Some("it has expired")
        } else if !principals.is_empty()
            && !list_matches(principals.iter().map(String::as_str), &self.principal)
        {
            Some("it is for other names")
        } else if certificate.critical_options().iter().next().is_some() {
            Some("it has critical options, which no host certificate may have")
        } else if certificate.validate_at(seconds, [&authority.fingerprint(HashAlg::Sha256)]).is_err() {
            Some("its signature is wrong")
        } else {
            None
        }
    }
}

/// Returns the SHA-256 fingerprint as OpenSSH prints it.
pub(super) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn same_key(one: &PublicKey, other: &PublicKey) -> bool {
    one.key_data() == other.key_data()
}

fn read_if_there(file: &Path) -> std::io::Result<Option<String>> {
    match fs_err::read(file) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

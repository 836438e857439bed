//! Signatures by somebody whom an authority knows, instead of by a key: the certificate, who it is for, and the log that
//! recorded the signature while the certificate was good. Source: github.com/sigstore/architecture-docs, client-spec.md §4.

use std::fmt;
use std::time::Duration;

use freehold_model::TextPattern;
use jiff::Timestamp;
use regex_lite::Regex;
use tokio_rustls::rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use webpki::ring::{
    ECDSA_P256_SHA256, ECDSA_P256_SHA384, ECDSA_P384_SHA256, ECDSA_P384_SHA384, ED25519,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::certificate::Certificate;
use super::log_entry::{LogEntry, Signed};
use super::trusted_root::{Authority, TrustedRoot};

/// Those by which authorities sign certificates.
const AUTHORITIES: &[&dyn SignatureVerificationAlgorithm] = &[
    ECDSA_P256_SHA256,
    ECDSA_P256_SHA384,
    ECDSA_P384_SHA256,
    ECDSA_P384_SHA384,
    ED25519,
    RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512,
];

/// Those by which images are signed.
const SIGNERS: &[&dyn SignatureVerificationAlgorithm] =
    &[ECDSA_P256_SHA256, ED25519, RSA_PKCS1_2048_8192_SHA256];

/// 1.3.6.1.5.5.7.3.3: the certificate is for signing what runs.
const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];

/// Who may sign without a key.
#[derive(Debug, Clone, PartialEq)]
pub struct KeylessSigner {
    root: TrustedRoot,
    identity: Check,
    issuer: Check,
}

/// What a text has to be.
#[derive(Debug, Clone)]
enum Check {
    Exactly(String),
    Matching(Regex),
}

impl PartialEq for Check {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl fmt::Display for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(text) => write!(formatter, "`{text}`"),
            Self::Matching(expression) => write!(formatter, "what matches `{expression}`"),
        }
    }
}

/// A regular expression that is none.
#[derive(Debug, thiserror::Error)]
#[error("`{expression}` is no regular expression")]
pub struct ExpressionError {
    expression: String,
    source: regex_lite::Error,
}

impl Check {
    fn new(pattern: &TextPattern) -> Result<Self, ExpressionError> {
        match pattern {
            TextPattern::Exactly(text) => Ok(Self::Exactly(text.clone())),
            // The whole text: a part that fits is not enough.
            TextPattern::Matching(expression) => Regex::new(&format!(r"\A(?:{expression})\z"))
                .map(Self::Matching)
                .map_err(|source| ExpressionError { expression: expression.clone(), source }),
        }
    }

    fn holds(&self, found: &str) -> bool {
        match self {
            Self::Exactly(text) => text == found,
            Self::Matching(expression) => expression.is_match(found),
        }
    }
}

/// Why a keyless signature does not count. Later ones come closer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum KeylessError {
    /// There is no certificate beside the signature.
    #[error("its signature is by a key and not by a certificate (keyless)")]
    NoCertificate,
    /// A part cannot be read.
    #[error("the {0} of its signature cannot be understood")]
    Form(&'static str),
    /// What was signed is another text.
    #[error("its signature is not by the key of its certificate, or what was signed has been changed")]
    Changed,
    /// There is nothing of a log.
    #[error("no transparency log's entry stands beside its signature")]
    NoEntry,
    /// There is no promise in the entry of a log.
    #[error(
        "its log entry has no signed entry timestamp; entries of Rekor 2, with timestamps of an authority, are not understood"
    )]
    NoPromise,
    /// The promise is by another log, or for another entry.
    #[error("its log entry is not by a transparency log of the trusted root, or it has been changed")]
    OtherLog,
    /// The entry is of a kind that is not known.
    #[error("its log entry is of the kind `{0}`, which is not understood")]
    EntryKind(String),
    /// The entry is about something else.
    #[error("its log entry is for another {0}")]
    OtherEntry(&'static str),
    /// The certificate is not by an authority of the trusted root.
    #[error("its certificate is not by an authority of the trusted root")]
    OtherAuthority,
    /// The certificate was not good when the log took the signature.
    #[error("its certificate was not valid when the transparency log recorded the signature, at {0}")]
    OtherTime(Timestamp),
    /// The certificate is for something else.
    #[error("its certificate is not for signing code")]
    OtherUsage,
    /// No log of certificates has the certificate.
    #[error("its certificate holds no timestamp of a certificate transparency log")]
    NoTimestamp,
    /// The log of certificates is none of those in the trusted root.
    #[error("the timestamp in its certificate is not by a certificate transparency log of the trusted root")]
    OtherTimestamp,
    /// The certificate names nobody.
    #[error("its certificate does not name one e-mail address or URI and who vouched for it")]
    Nameless,
    /// Somebody else vouched for the name.
    #[error("`{found}` vouched for who signed it, not {wanted}")]
    OtherIssuer {
        /// Who did.
        found: String,
        /// Who should have.
        wanted: String,
    },
    /// Somebody else signed.
    #[error("it was signed by `{found}`, not by {wanted}")]
    OtherIdentity {
        /// Who did.
        found: String,
        /// Who should have.
        wanted: String,
    },
}

/// What stands beside a keyless signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Witness {
    /// The certificate of whoever signed.
    pub(super) certificate: CertificateDer<'static>,
    /// Certificates between that and an authority's.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) entry: Option<LogEntry>,
}

impl KeylessSigner {
    /// Makes one of whom to trust, and who has to have signed, vouched for by whom.
    ///
    /// # Errors
    /// [`ExpressionError`].
    pub fn new(
        root: TrustedRoot,
        identity: &TextPattern,
        issuer: &TextPattern,
    ) -> Result<Self, ExpressionError> {
        Ok(Self { root, identity: Check::new(identity)?, issuer: Check::new(issuer)? })
    }

    /// Returns who signed, after everything was checked. `message` is what the signature is over.
    pub(super) fn check(
        &self,
        message: &[u8],
        (payload, is_envelope): (&[u8], bool),
        signature: &[u8],
        witness: &Witness,
    ) -> Result<String, KeylessError> {
        let form = || KeylessError::Form("certificate");
        let der = &witness.certificate;
        let leaf = Certificate::read(der).ok_or_else(form)?;
        let end = EndEntityCert::try_from(der).map_err(|_| form())?;
        if !SIGNERS.iter().any(|algorithm| end.verify_signature(*algorithm, message, signature).is_ok()) {
            return Err(KeylessError::Changed);
        }
        let entry = witness.entry.as_ref().ok_or(KeylessError::NoEntry)?;
        let time = entry.promised(&self.root.logs)?;
        entry.is_about(&Signed { payload, is_envelope, signature, certificate: der })?;
        let issuers = self.issuers(&end, witness, time)?;
        self.check_timestamps(&leaf, &issuers)?;
        let (Some(identity), Some(issuer)) = (leaf.identity(), leaf.issuer()) else {
            return Err(KeylessError::Nameless);
        };
        if !self.issuer.holds(issuer) {
            let wanted = self.issuer.to_string();
            return Err(KeylessError::OtherIssuer { found: issuer.to_owned(), wanted });
        }
        if !self.identity.holds(identity) {
            let wanted = self.identity.to_string();
            return Err(KeylessError::OtherIdentity { found: identity.to_owned(), wanted });
        }
        Ok(identity.to_owned())
    }

    /// Returns the certificates above a certificate, after checking that they lead to an authority and were all good then.
    fn issuers(
        &self,
        end: &EndEntityCert<'_>,
        witness: &Witness,
        time: Timestamp,
    ) -> Result<Vec<CertificateDer<'static>>, KeylessError> {
        let mut closest = KeylessError::OtherAuthority;
        for authority in self.root.authorities.iter().filter(|authority| authority.valid.holds(time)) {
            match path(authority, end, witness, time) {
                Ok(issuers) => return Ok(issuers),
                Err(error) => closest = closest.max(error),
            }
        }
        Err(closest)
    }

    /// Checks that a log of certificates has promised to have the certificate.
    fn check_timestamps(
        &self,
        leaf: &Certificate<'_>,
        issuers: &[CertificateDer<'_>],
    ) -> Result<(), KeylessError> {
        let timestamps = leaf.timestamps().filter(|timestamps| !timestamps.is_empty());
        let timestamps = timestamps.ok_or(KeylessError::NoTimestamp)?;
        let keys: Vec<Vec<u8>> = issuers
            .iter()
            .filter_map(|issuer| Certificate::read(issuer))
            .filter(|issuer| leaf.is_named_as_issuer(issuer))
            .map(|issuer| issuer.key_digest())
            .collect();
        for timestamp in &timestamps {
            let Some(time) = i64::try_from(timestamp.milliseconds).ok() else { continue };
            let Ok(time) = Timestamp::from_millisecond(time) else { continue };
            let signed: Vec<Vec<u8>> = keys.iter().filter_map(|key| leaf.logged(key, timestamp)).collect();
            for log in &self.root.certificate_logs {
                if log.id == timestamp.log
                    && log.valid.holds(time)
                    && signed.iter().any(|signed| log.key.verifies(signed, timestamp.signature))
                {
                    return Ok(());
                }
            }
        }
        Err(KeylessError::OtherTimestamp)
    }
}

/// Leads a certificate to one authority.
fn path(
    authority: &Authority,
    end: &EndEntityCert<'_>,
    witness: &Witness,
    time: Timestamp,
) -> Result<Vec<CertificateDer<'static>>, KeylessError> {
    let Some((root, between)) = authority.chain.split_last() else {
        return Err(KeylessError::OtherAuthority);
    };
    let anchor = anchor_from_trusted_cert(root).map_err(|_| KeylessError::OtherAuthority)?;
    let between = [between, witness.chain.as_slice()].concat();
    let seconds = u64::try_from(time.as_second()).map_err(|_| KeylessError::OtherTime(time))?;
    let anchors = [anchor];
    let verified = end.verify_for_usage(
        AUTHORITIES,
        &anchors,
        &between,
        UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
        KeyUsage::required(CODE_SIGNING),
        None,
        None,
    );
    match verified {
        Ok(path) => {
            let mut issuers: Vec<_> =
                path.intermediate_certificates().map(|one| one.der().into_owned()).collect();
            issuers.push(root.clone());
            Ok(issuers)
        }
        Err(webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. }) => {
            Err(KeylessError::OtherTime(time))
        }
        Err(webpki::Error::RequiredEkuNotFoundContext(_)) => Err(KeylessError::OtherUsage),
        Err(_) => Err(KeylessError::OtherAuthority),
    }
}

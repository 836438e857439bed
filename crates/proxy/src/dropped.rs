//! Connections that are not served, or never get so far, by reason.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::{CertificateError, Error, OtherError};

use crate::client_auth::VersionOne;
use crate::log::Level;

/// Why a connection was not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// Its client has as many as it may.
    TooManyConnections,
    /// A proxy in front of this one did not say whose it is.
    NoProxyHeader,
    /// The two did not agree on encryption in time.
    TlsTimeout,
    /// The client left before the two had agreed.
    TlsClosed,
    /// The client does not speak TLS.
    TlsMalformed,
    /// The client asked for a name that nobody here has, or that has no certificate.
    TlsUnknownName,
    /// The two have no version, cipher or protocol in common.
    TlsIncompatible,
    /// The client has refused to go on, as where it does not trust the certificate.
    TlsAlert,
    /// Anything else in the handshake.
    TlsFailed,
    /// The client has shown no certificate.
    ClientCertificateMissing,
    /// Its certificate is not of an authority that is known here.
    ClientCertificateUnknown,
    /// Its certificate has ended, or has not begun.
    ClientCertificateExpired,
    /// Its certificate was revoked, or it cannot be told.
    ClientCertificateRevoked,
    /// Its certificate is of X.509 version 1.
    ClientCertificateVersion,
    /// Its certificate cannot be used for another reason.
    ClientCertificateInvalid,
}

impl Dropped {
    /// All of them.
    pub(crate) const ALL: [Self; 15] = [
        Self::TooManyConnections,
        Self::NoProxyHeader,
        Self::TlsTimeout,
        Self::TlsClosed,
        Self::TlsMalformed,
        Self::TlsUnknownName,
        Self::TlsIncompatible,
        Self::TlsAlert,
        Self::TlsFailed,
        Self::ClientCertificateMissing,
        Self::ClientCertificateUnknown,
        Self::ClientCertificateExpired,
        Self::ClientCertificateRevoked,
        Self::ClientCertificateVersion,
        Self::ClientCertificateInvalid,
    ];

    /// Returns the word for the log and for metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::TooManyConnections => "too_many_connections",
            Self::NoProxyHeader => "no_proxy_header",
            Self::TlsTimeout => "tls_timeout",
            Self::TlsClosed => "tls_closed",
            Self::TlsMalformed => "tls_malformed",
            Self::TlsUnknownName => "tls_unknown_name",
            Self::TlsIncompatible => "tls_incompatible",
            Self::TlsAlert => "tls_alert",
            Self::TlsFailed => "tls_failed",
            Self::ClientCertificateMissing => "client_certificate_missing",
            Self::ClientCertificateUnknown => "client_certificate_unknown",
            Self::ClientCertificateExpired => "client_certificate_expired",
            Self::ClientCertificateRevoked => "client_certificate_revoked",
            Self::ClientCertificateVersion => "client_certificate_version",
            Self::ClientCertificateInvalid => "client_certificate_invalid",
        }
    }

    /// Says how grave it is: that a handshake fails is everyday life where strangers look for open ports.
    pub(crate) fn level(self) -> Level {
        match self {
            Self::TlsTimeout
            | Self::TlsClosed
            | Self::TlsMalformed
            | Self::TlsUnknownName
            | Self::TlsIncompatible
            | Self::TlsAlert => Level::Info,
            _ => Level::Warn,
        }
    }

    /// Finds out why a handshake has failed.
    pub(crate) fn of_handshake(error: &io::Error) -> Self {
        let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<Error>()) else {
            return Self::TlsClosed;
        };
        match error {
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::NoCertificatesPresented => Self::ClientCertificateMissing,
            Error::InvalidMessage(_) => Self::TlsMalformed,
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Self::TlsIncompatible,
            Error::AlertReceived(_) => Self::TlsAlert,
            _ => Self::TlsFailed,
        }
    }

    /// Says what was wrong in a handshake, for the log.
    pub(crate) fn explain(error: &io::Error) -> String {
        let inner = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
        match inner {
            Some(Error::InvalidCertificate(CertificateError::Other(OtherError(other)))) => other.to_string(),
            _ => error.to_string(),
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::ClientCertificateExpired,
            CertificateError::Revoked
            | CertificateError::UnknownRevocationStatus
            | CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Self::ClientCertificateRevoked,
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Self::ClientCertificateUnknown
            }
            CertificateError::Other(OtherError(error)) if error.is::<VersionOne>() => {
                Self::ClientCertificateVersion
            }
            _ => Self::ClientCertificateInvalid,
        }
    }
}

/// How many there were of each, on all threads.
#[derive(Debug, Default)]
pub(crate) struct DropCounts([AtomicU64; Dropped::ALL.len()]);

impl DropCounts {
    /// Counts one.
    pub(crate) fn add(&self, dropped: Dropped) {
        let place = Dropped::ALL.iter().position(|known| *known == dropped);
        if let Some(count) = place.and_then(|place| self.0.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns those that there were.
    pub(crate) fn totals(&self) -> Vec<(&'static str, u64)> {
        let counts = Dropped::ALL.iter().zip(&self.0);
        let counts = counts.map(|(dropped, count)| (dropped.as_str(), count.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_fail_for_a_reason() {
        let of =
            |error: Error| Dropped::of_handshake(&io::Error::new(io::ErrorKind::InvalidData, error)).as_str();
        let certificate = |error| of(Error::InvalidCertificate(error));
        assert_eq!(certificate(CertificateError::UnknownIssuer), "client_certificate_unknown");
        assert_eq!(certificate(CertificateError::Revoked), "client_certificate_revoked");
        assert_eq!(
            certificate(CertificateError::Other(OtherError(std::sync::Arc::new(VersionOne)))),
            "client_certificate_version"
        );
        assert_eq!(of(Error::NoCertificatesPresented), "client_certificate_missing");
        assert_eq!(of(Error::DecryptError), "tls_failed");
        assert_eq!(Dropped::of_handshake(&io::ErrorKind::UnexpectedEof.into()).as_str(), "tls_closed");
        let counts = DropCounts::default();
        for dropped in Dropped::ALL {
            counts.add(dropped);
        }
        counts.add(Dropped::TlsTimeout);
        assert_eq!(counts.totals().len(), Dropped::ALL.len());
        assert!(counts.totals().contains(&("tls_timeout", 2)));
    }
}

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::TargetAddress;
use crate::deploy::{is_false, yes};

/// How a service is served over HTTPS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TlsFields", into = "TlsFields")]
pub struct Tls {
    /// Where its certificate comes from.
    pub certificate: CertificateSource,
    /// Whether plain HTTP is redirected to HTTPS.
    pub redirect: bool,
    /// Which certificates clients have to show; none are asked for where nothing is given.
    pub clients: Option<ClientCertificates>,
}

/// Whose certificates clients show (mutual TLS).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificates {
    /// The file, in the proxy's file system, with the certificates of the authorities that are trusted, in PEM. It is read
    /// again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_path: Option<String>,
    /// Those certificates themselves, in PEM, in place of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// What becomes of a client without a certificate.
    #[serde(default)]
    pub mode: ClientMode,
    /// The file, in the proxy's file system, with the lists of revoked certificates, in PEM: one of each authority. It is
    /// read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl_path: Option<String>,
    /// Those lists themselves, in PEM, in place of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl_pem: Option<String>,
}

/// What becomes of a client that shows no certificate. One that cannot be trusted is refused either way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientMode {
    /// It is refused.
    #[default]
    Required,
    /// It is served, and the target sees that it showed none.
    Optional,
}

/// Where a service's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// Files in the proxy's file system. They are read again when they change.
    Files {
        /// The certificate and its chain, in PEM.
        certificate_path: String,
        /// The private key, in PEM.
        private_key_path: String,
    },
    /// The proxy orders one for each host.
    Acme(Acme),
}

/// How certificates are ordered: ACME, RFC 8555.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acme {
    /// The URL of the certificate authority's directory; none for the one that the proxy was started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Where the authority may write to, an e-mail address; none for the one that the proxy was started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// The folder for keys and certificates, in the proxy's file system; none for the proxy's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_path: Option<String>,
    /// For a service without hosts: who says, when a client asks for a name, whether its certificate is ordered. A path of the
    /// service itself or an `http` or `https` URL, asked with the name as `host` in its query; 200 allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_demand_url: Option<String>,
    /// Whether names are ordered without finding out before whether they lead here: where the proxy cannot reach itself by
    /// its own name, although others can.
    #[serde(default, skip_serializing_if = "is_false")]
    pub skip_name_check: bool,
    /// The other proxies that serve the same names, where there are some: what one of them orders, all have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetStore>,
}

/// The proxies that share their certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetStore {
    /// Where they listen for HTTP. The proxy itself may be among them, so that all may get the same list.
    pub peers: Vec<TargetAddress>,
    /// The file, in the proxy's file system, with the key that they share: at least 32 characters; none for the key that
    /// came with the service's deploy ([`DeployRequest::fleet_key`](crate::DeployRequest::fleet_key)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_path: Option<String>,
}

/// The key that the proxies of a fleet share. `Debug` does not show it.
#[derive(Clone)]
pub struct FleetKey(SecretString);

impl FleetKey {
    /// Takes the key.
    #[must_use]
    pub fn new(key: SecretString) -> Self {
        Self(key)
    }

    /// Returns the key.
    #[must_use]
    pub fn secret(&self) -> &SecretString {
        &self.0
    }
}

impl PartialEq for FleetKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl Eq for FleetKey {}

impl std::fmt::Debug for FleetKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("FleetKey")
    }
}

impl Serialize for FleetKey {
    // It goes to the proxy's socket only.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose_secret())
    }
}

impl<'de> Deserialize<'de> for FleetKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(String::deserialize(deserializer)?.into()))
    }
}

/// As it is written: two paths, or how to order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsFields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    private_key_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acme: Option<Acme>,
    #[serde(default = "yes")]
    redirect: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clients: Option<ClientCertificates>,
}

impl Tls {
    /// Returns who is asked before a certificate is ordered, where that is done on demand.
    #[must_use]
    pub fn on_demand_url(&self) -> Option<&str> {
        match &self.certificate {
            CertificateSource::Acme(acme) => acme.on_demand_url.as_deref(),
            CertificateSource::Files { .. } => None,
        }
    }
}

impl TryFrom<TlsFields> for Tls {
    type Error = &'static str;

    fn try_from(fields: TlsFields) -> Result<Self, Self::Error> {
        let certificate = match (fields.certificate_path, fields.private_key_path, fields.acme) {
            (Some(certificate_path), Some(private_key_path), None) => {
                CertificateSource::Files { certificate_path, private_key_path }
            }
            (None, None, Some(acme)) => CertificateSource::Acme(acme),
            _ => return Err("`tls` needs `certificate_path` and `private_key_path`, or `acme`"),
        };
        Ok(Self { certificate, redirect: fields.redirect, clients: fields.clients })
    }
}

impl From<Tls> for TlsFields {
    fn from(tls: Tls) -> Self {
        let (certificate_path, private_key_path, acme) = match tls.certificate {
            CertificateSource::Files { certificate_path, private_key_path } => {
                (Some(certificate_path), Some(private_key_path), None)
            }
            CertificateSource::Acme(acme) => (None, None, Some(acme)),
        };
        Self { certificate_path, private_key_path, acme, redirect: tls.redirect, clients: tls.clients }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let files = r#"{"certificate_path":"/a","private_key_path":"/b","redirect":false}"#;
        let acme = r#"{"acme":{"directory":"https://ca.example/directory"},"redirect":true}"#;
        let clients = r#"{"acme":{},"redirect":true,"clients":{"ca_path":"/ca.pem","mode":"optional","crl_path":"/crl.pem"}}"#;
        for text in [files, acme, clients] {
            let tls: Tls = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&tls).unwrap(), text);
        }
        assert!(serde_json::from_str::<Tls>(r#"{"acme":{}}"#).unwrap().redirect);
    }

    #[test]
    fn half_a_source_and_two_sources_are_refused() {
        for text in [
            "{}",
            r#"{"certificate_path":"/a"}"#,
            r#"{"private_key_path":"/b","acme":{}}"#,
            r#"{"certificate_path":"/a","private_key_path":"/b","acme":{}}"#,
        ] {
            let error = serde_json::from_str::<Tls>(text).unwrap_err();
            assert!(error.to_string().starts_with("`tls` needs"), "{error}");
        }
    }
}

//! What the proxy orders certificates with: flags, and files in its own container for what is secret.

use bytes::Bytes;
use freehold_docker::ContainerFile;
use freehold_model::{ProxyAcme, ProxyRun, SecretName};
use secrecy::ExposeSecret;

use crate::engine_host::EngineHost;
use crate::engine_host::image::PROXY_USER;
use crate::engine_host::link::Link;
use crate::engine_host::proxy::PROXY_CONTAINER;
use crate::host::{StepContext, StepError};

/// The folder of the files, in the container's own layer: they come with a container and go with it, and the one that is
/// replaced keeps its own for the way back.
const FOLDER: &str = "/home/kamal-proxy";

const ACCOUNT_KEY: &str = "acme-account.key";
const DNS_KEY: &str = "acme-dns.key";
const ROOTS: &str = "acme-roots.pem";

/// Returns the flags of the proxy's `run`, none of which is secret.
pub(super) fn flags(acme: &ProxyAcme) -> Vec<String> {
    let inside = |file: &str| format!("{FOLDER}/{file}");
    let mut flags = Vec::new();
    let mut flag = |name: &str, value: &str| flags.push(format!("--acme-{name}={value}"));
    if let Some(directory) = &acme.directory {
        flag("directory", directory);
    }
    if let Some(contact) = &acme.contact {
        flag("contact", contact);
    }
    if acme.roots.is_some() {
        flag("ca-file", &inside(ROOTS));
    }
    if let Some(account) = &acme.account {
        flag("eab-key-id", &account.key_id);
        flag("eab-hmac-key-file", &inside(ACCOUNT_KEY));
    }
    if let Some(dns) = &acme.dns {
        flag("dns-server", &dns.server);
        flag("dns-key-name", &dns.key_name);
        flag("dns-key-file", &inside(DNS_KEY));
    }
    flags
}

impl EngineHost {
    /// Writes the files that a proxy reads when it starts. They are the proxy's user's, and nobody else may read a key: they
    /// stand in no argument, no variable and no label, where `docker inspect` would show them.
    pub(super) async fn write_keys(
        &self,
        link: &Link,
        run: &ProxyRun,
        context: &StepContext<'_>,
    ) -> Result<(), StepError> {
        let Some(acme) = &run.acme else { return Ok(()) };
        let file = |name: &str, mode: u32, content: &str| ContainerFile {
            name: name.to_owned(),
            mode,
            owner: PROXY_USER,
            content: Bytes::copy_from_slice(content.as_bytes()),
        };
        let key = |name: &str, secret: &SecretName| {
            let value = context.secrets.value(secret);
            let value = value.ok_or_else(|| StepError::Secret { name: secret.to_string() })?;
            Ok::<_, StepError>(file(name, 0o600, value.expose_secret()))
        };
        let mut files = Vec::new();
        files.extend(acme.roots.as_ref().map(|roots| file(ROOTS, 0o644, roots)));
        if let Some(account) = &acme.account {
            files.push(key(ACCOUNT_KEY, &account.hmac_key)?);
        }
        if let Some(dns) = &acme.dns {
            files.push(key(DNS_KEY, &dns.key)?);
        }
        if files.is_empty() {
            return Ok(());
        }
        let written = link.engine.write_files(PROXY_CONTAINER, FOLDER, &files).await;
        Ok(written.map_err(|error| self.engine_error("write the keys of the proxy", error))?)
    }
}

#[cfg(test)]
mod tests {
    use freehold_model::{DnsUpdates, ExternalAccount};

    use super::*;

    #[test]
    fn the_flags_tell_where_the_keys_are_and_never_what_they_are() {
        let secret = |name: &str| SecretName::parse(name).unwrap();
        let account = ExternalAccount { key_id: "kid-1".to_owned(), hmac_key: secret("EAB_KEY") };
        let dns = DnsUpdates {
            server: "ns1.example.com:53".to_owned(),
            key_name: "acme".to_owned(),
            key: secret("DNS_KEY"),
        };
        let acme = ProxyAcme {
            directory: Some("https://ca.example.com/directory".to_owned()),
            contact: Some("ops@example.com".to_owned()),
            roots: Some("-----BEGIN CERTIFICATE-----".to_owned()),
            account: Some(account),
            dns: Some(dns),
        };
        assert_eq!(
            flags(&acme),
            [
                "--acme-directory=https://ca.example.com/directory",
                "--acme-contact=ops@example.com",
                "--acme-ca-file=/home/kamal-proxy/acme-roots.pem",
                "--acme-eab-key-id=kid-1",
                "--acme-eab-hmac-key-file=/home/kamal-proxy/acme-account.key",
                "--acme-dns-server=ns1.example.com:53",
                "--acme-dns-key-name=acme",
                "--acme-dns-key-file=/home/kamal-proxy/acme-dns.key",
            ]
        );
        assert_eq!(flags(&ProxyAcme::default()), [""; 0]);
    }
}

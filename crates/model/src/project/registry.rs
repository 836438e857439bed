use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use crate::{RegistryServer, SecretName};

/// Where images are stored between the build and the hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// Which registry.
    pub place: RegistryPlace,
    /// How to log in; none for a local registry, and until Docker's own login was looked up.
    pub credentials: Option<RegistryCredentials>,
    /// Whether Docker's own login on this machine is used: its file, or the helper that the file names.
    pub uses_docker_login: bool,
}

impl Registry {
    /// Returns the secrets that logging in needs.
    pub fn secret_names(&self) -> impl Iterator<Item = SecretName> {
        let credentials = self.credentials.iter();
        credentials.flat_map(|login| [&login.username, &login.password]).filter_map(|credential| {
            match credential {
                Credential::Secret(name) => Some(name.clone()),
                Credential::Plain(_) => None,
            }
        })
    }
}

/// Which registry it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryPlace {
    /// Docker Hub, the one without a name.
    DockerHub,
    /// That of a server.
    Server(RegistryServer),
    /// One on the build machine, `localhost:PORT`, which the hosts reach through a forwarded port.
    Local {
        /// The port on the build machine and on every host.
        port: u16,
    },
}

impl RegistryPlace {
    /// Returns what stands before the name of an image: nothing for Docker Hub.
    #[must_use]
    pub fn prefix(&self) -> Option<String> {
        match self {
            Self::DockerHub => None,
            Self::Server(server) => Some(server.to_string()),
            Self::Local { port } => Some(format!("localhost:{port}")),
        }
    }
}

/// The user and password of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryCredentials {
    /// The login name.
    pub username: Credential,
    /// The password or token.
    pub password: Credential,
}

/// A text that is written in the file, or the name of the secret that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The text itself.
    Plain(PlainSecret),
    /// A secret.
    Secret(SecretName),
}

/// A secret that stands in the deploy file, kept out of every `Debug`.
#[derive(Clone)]
pub struct PlainSecret(SecretString);

impl PlainSecret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// Returns the secret.
    #[must_use]
    pub fn value(&self) -> &SecretString {
        &self.0
    }
}

impl fmt::Debug for PlainSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PlainSecret([redacted])")
    }
}

impl PartialEq for PlainSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl Eq for PlainSecret {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_secret_never_shows() {
        let secret = PlainSecret::new("marked-secret");
        assert!(!format!("{secret:?}").contains("marked-secret"));
        assert_eq!(secret, PlainSecret::new("marked-secret"));
        assert_ne!(secret, PlainSecret::new("other"));
    }
}

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text that is not a valid name of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a valid {kind}: {rule}")]
pub struct InvalidName {
    value: String,
    kind: &'static str,
    rule: &'static str,
}

impl InvalidName {
    /// Returns the rule that the text breaks, for a help line.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        self.rule
    }
}

impl crate::Diagnose for InvalidName {
    fn kind(&self) -> crate::ErrorKind {
        crate::ErrorKind::Configuration
    }

    fn help(&self) -> Vec<String> {
        vec![self.rule.to_owned()]
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks a text and makes the name of it.
            ///
            /// # Errors
            /// [`InvalidName`] with the rule that the text breaks.
            pub fn parse(value: impl Into<String>) -> Result<Self, InvalidName> {
                let value = value.into();
                let check: fn(&str) -> bool = $check;
                if check(&value) { Ok(Self(value)) } else { Err(InvalidName { value, kind: $kind, rule: $rule }) }
            }

            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(&self.0)
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(value: String) -> Result<Self, InvalidName> {
                Self::parse(value)
            }
        }

        impl std::str::FromStr for $type {
            type Err = InvalidName;
            fn from_str(value: &str) -> Result<Self, InvalidName> {
                Self::parse(value)
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

fn is_word(text: &str, extra: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
}

fn is_docker_name(text: &str) -> bool {
    text.len() <= 200 && is_word(text, "_.-") && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_host(text: &str) -> bool {
    if text.parse::<std::net::IpAddr>().is_ok() {
        return true;
    }
    text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && is_word(label, "-_")
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// Some registries put a path behind their host (`registry.example.com/team`).
fn is_registry_server(text: &str) -> bool {
    let (address, path) = text.split_once('/').unwrap_or((text, "x"));
    let (host, port) = address.split_once(':').unwrap_or((address, "1"));
    let path_ok = path.split('/').all(|part| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
    });
    is_host(host) && !host.contains(':') && port.parse::<u16>().is_ok_and(|port| port > 0) && path_ok
}

fn is_environment_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(['=', '\0', '\n', '\r', ' ', '\t'])
}

name! {
    /// A service's name, the prefix of everything that Freehold makes on a host.
    ServiceName, "service name", "use 1 to 128 of `a-z`, `A-Z`, `0-9`, `-` and `_`, starting with a letter or digit",
    |text| text.len() <= 128 && is_word(text, "_-") && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}
name! {
    /// A role's name: the containers of a service that run one command.
    RoleName, "role name", "use 1 to 63 of `a-z`, `A-Z`, `0-9`, `-` and `_`, starting with a letter or digit",
    |text| text.len() <= 63 && is_word(text, "_-") && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}
name! {
    /// A variant of the configuration: staging, production.
    Destination, "destination", "use 1 to 63 of `a-z`, `A-Z`, `0-9`, `-` and `_`, starting with a letter or digit",
    |text| text.len() <= 63 && is_word(text, "_-") && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}
name! {
    /// A machine that is reached by SSH, by name or address; `localhost` is this machine, without SSH.
    HostName, "host", "use a DNS name or an IP address; user and port go under `ssh:`",
    is_host
}
name! {
    /// The name of a network interface of a host.
    InterfaceName, "network interface", "use 1 to 15 letters, digits, `_`, `.`, `-`, `:` and `@`",
    |text| (1..=15).contains(&text.len()) && is_word(text, "_.-:@") && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}
name! {
    /// The name of a container, unique on its host.
    ContainerName, "container name", "use letters, digits, `_`, `.` and `-`, starting with a letter or digit",
    is_docker_name
}
name! {
    /// The name under which the proxy knows the containers of a role.
    ProxyServiceName, "proxy service name", "use letters, digits, `_`, `.` and `-`, starting with a letter or digit",
    is_docker_name
}
name! {
    /// The name of an accessory: a long-lived container beside the service.
    AccessoryName, "accessory name", "use 1 to 63 of `a-z`, `A-Z`, `0-9`, `-` and `_`, starting with a letter or digit",
    |text| text.len() <= 63 && is_word(text, "_-") && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}
name! {
    /// The name of a scheduled job.
    JobName, "job name", "use 1 to 63 of `a-z`, `A-Z`, `0-9`, `-` and `_`, starting with a letter or digit",
    |text| text.len() <= 63 && is_word(text, "_-") && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}
name! {
    /// The name of the schedule of a role on a host: `SERVICE-ROLE` or `SERVICE-ROLE-DESTINATION`.
    ScheduleName, "schedule name", "use letters, digits, `_`, `.` and `-`, starting with a letter or digit",
    is_docker_name
}
name! {
    /// The name by which roles choose one of several images of a project.
    ImageKey, "name of an image in the deploy file", "use 1 to 63 of `a-z`, `A-Z`, `0-9`, `-` and `_`, starting with a letter or digit",
    |text| text.len() <= 63 && is_word(text, "_-") && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}
name! {
    /// The name of a command line that the deploy file defines.
    AliasName, "alias", "use `a-z`, `0-9`, `-` and `_`",
    |text| !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c))
}
name! {
    /// The server of an image registry, `host[:port]`, as it stands before the name of an image.
    RegistryServer, "registry server", "use a host name with an optional port, without a scheme: `ghcr.io`",
    is_registry_server
}
name! {
    /// The name of an environment variable in a container.
    EnvName, "environment variable name", "it must not be empty nor hold `=`, blanks or control characters",
    is_environment_name
}
name! {
    /// The name of a secret, as the secrets files define it.
    SecretName, "secret name", "use letters, digits, `_`, `.` and `-`",
    |text| is_word(text, "_.-")
}

impl RoleName {
    /// Returns `web`, the primary role unless the deploy file names another one.
    #[must_use]
    pub fn web() -> Self {
        Self("web".to_owned())
    }
}

impl HostName {
    /// Says whether this is the machine on which the command runs, reached without SSH.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.0 == "localhost"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_rules() {
        assert!(ServiceName::parse("my-app_2").is_ok());
        for bad in ["", "-a", "a b", "ä", "a/b"] {
            assert!(ServiceName::parse(bad).is_err(), "{bad}");
        }
        for good in ["web-1.example.com", "10.0.0.1", "::1", "fe80::1", "localhost", "my_host"] {
            assert!(HostName::parse(good).is_ok(), "{good}");
        }
        for bad in ["user@host", "host:22", "a..b", "-x", "", "a b", "$(id)"] {
            assert!(HostName::parse(bad).is_err(), "{bad}");
        }
        assert!(EnvName::parse("A=B").is_err());
        for good in ["ghcr.io", "registry.example.com:5000", "10.0.0.1:5000", "registry.example.com/team"] {
            assert!(RegistryServer::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "https://ghcr.io", "ghcr.io:", "ghcr.io:x", "ghcr.io/", "a b", "ghcr.io/Team"] {
            assert!(RegistryServer::parse(bad).is_err(), "{bad}");
        }
        assert!(AliasName::parse("db-console_2").is_ok() && AliasName::parse("Console").is_err());
    }

    #[test]
    fn deserialising_checks_too() {
        assert!(serde_json::from_str::<RoleName>("\"web\"").is_ok());
        assert!(serde_json::from_str::<RoleName>("\"we b\"").is_err());
    }
}

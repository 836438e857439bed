use std::path::PathBuf;
use std::time::Duration;

use super::algorithms::Algorithms;
use super::expand::{self, Tokens};
use super::openssh::Lookup;
use super::options::Options;
use super::{AddressFamily, Hop, HostKeyPolicy, Identities, Resolver, RouteError, StrictHostKeys};

/// The key files that OpenSSH tries when none is configured, without the types that it has given up.
const DEFAULT_KEYS: [&str; 5] =
    ["~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ecdsa_sk", "~/.ssh/id_ed25519", "~/.ssh/id_ed25519_sk"];

impl Resolver<'_> {
    /// Makes a hop of the options of a host; `target` says whether the deploy file speaks of this host itself.
    pub(super) fn hop(
        &self,
        lookup: &Lookup<'_>,
        options: &Options,
        target: bool,
    ) -> Result<Hop, RouteError> {
        let name = lookup.name.clone();
        let user = lookup.user.or_else(|| options.first("user")).unwrap_or("root").to_owned();
        check_user(&user, name.as_str())?;
        let port = match (lookup.port, options.first("port")) {
            (Some(port), _) => port,
            (None, None) => 22,
            (None, Some(text)) => text.parse().map_err(|_| invalid(name.as_str(), "Port", text))?,
        };
        let address = match options.set("hostname") {
            Some(text) => text.replace("%h", name.as_str()).replace("%%", "%"),
            None => name.to_string(),
        };
        if !is_harmless(&address) {
            return Err(invalid(name.as_str(), "HostName", &address));
        }
        let alias = options.set("hostkeyalias").map(str::to_owned);
        let values = Tokens {
            address: &address,
            name: name.as_str(),
            port,
            user: &user,
            key_name: alias.as_deref().unwrap_or(name.as_str()),
        };
        let host_key = self.host_key(options, alias.clone(), &values)?;
        let identities = self.identities(options, &values)?;
        let configured_timeout = options.set("connecttimeout").and_then(|text| text.parse::<u64>().ok());
        let settings = self.settings;
        Ok(Hop {
            host_key,
            identities,
            port,
            proxy_command: None,
            family: family(options, name.as_str())?,
            connect_timeout: configured_timeout.map_or(settings.connect_timeout, Duration::from_secs),
            keepalive: settings.keepalive,
            forward_agent: target && settings.forward_agent,
            algorithms: Algorithms::of(options),
            name,
            address,
            user,
        })
    }

    fn host_key(
        &self,
        options: &Options,
        alias: Option<String>,
        values: &Tokens<'_>,
    ) -> Result<HostKeyPolicy, RouteError> {
        let strict = match options.first("stricthostkeychecking").map(str::to_ascii_lowercase).as_deref() {
            None | Some("ask") => StrictHostKeys::Ask,
            Some("yes" | "true") => StrictHostKeys::Refuse,
            Some("accept-new" | "no" | "false" | "off") => StrictHostKeys::Accept,
            Some(other) => return Err(invalid(values.name, "StrictHostKeyChecking", other)),
        };
        let default_user = ["~/.ssh/known_hosts".to_owned(), "~/.ssh/known_hosts2".to_owned()];
        let default_user = if self.environment.home.is_some() { &default_user[..] } else { &[] };
        let default_global = ["/etc/ssh/ssh_known_hosts".to_owned(), "/etc/ssh/ssh_known_hosts2".to_owned()];
        let user_files = self.files_of(options, "userknownhostsfile", default_user, values)?;
        let global_files = self.files_of(options, "globalknownhostsfile", &default_global, values)?;
        let revoked_keys = self.files_of(options, "revokedhostkeys", &[], values)?.into_iter().next();
        let hash_names = options.flag("hashknownhosts", false);
        Ok(HostKeyPolicy { alias, user_files, global_files, revoked_keys, strict, hash_names })
    }

    fn identities(&self, options: &Options, values: &Tokens<'_>) -> Result<Identities, RouteError> {
        let settings = self.settings;
        // Keys that the deploy file names are used in place of the configured ones, as Kamal does.
        let files = if settings.has_keys() {
            let names = settings.keys.iter().map(|path| path.to_string_lossy().into_owned());
            let names: Vec<String> = names.collect();
            let paths = names.iter().map(|name| self.path(name, "keys", values));
            paths.collect::<Result<_, _>>()?
        } else {
            self.files_of(options, "identityfile", &DEFAULT_KEYS.map(str::to_owned), values)?
        };
        let preferred = options.set("preferredauthentications");
        let may =
            |method: &str| preferred.is_none_or(|list| list.split(',').any(|word| word.trim() == method));
        let batch = options.flag("batchmode", false);
        Ok(Identities {
            files,
            certificates: self.files_of(options, "certificatefile", &[], values)?,
            only: settings.keys_only || options.flag("identitiesonly", false),
            key_data: true,
            files_first: settings.has_keys(),
            agents: self.agents(options, values)?,
            public_key: options.flag("pubkeyauthentication", true) && may("publickey"),
            keyboard_interactive: options.flag("kbdinteractiveauthentication", true)
                && may("keyboard-interactive")
                && !batch,
            password: options.flag("passwordauthentication", true) && may("password") && !batch,
            none_first: preferred
                .is_some_and(|list| list.split(',').next().is_some_and(|m| m.trim() == "none")),
        })
    }

    /// Returns the agents: the configured one first, then the one of the environment.
    fn agents(&self, options: &Options, values: &Tokens<'_>) -> Result<Vec<PathBuf>, RouteError> {
        let from_environment = self.environment.ssh_auth_sock.clone();
        let configured = match options.first("identityagent") {
            Some(word) if word.eq_ignore_ascii_case("none") => return Ok(Vec::new()),
            None | Some("" | "SSH_AUTH_SOCK") => None,
            Some(word) => match word.strip_prefix('$').filter(|rest| !rest.starts_with('{')) {
                Some(variable) => self.environment.variables.get(variable).map(PathBuf::from),
                None => Some(self.path(word, "IdentityAgent", values)?),
            },
        };
        let mut agents: Vec<PathBuf> = configured.into_iter().collect();
        agents.extend(from_environment.filter(|path| !agents.contains(path)));
        Ok(agents)
    }

    fn files_of(
        &self,
        options: &Options,
        keyword: &str,
        default: &[String],
        values: &Tokens<'_>,
    ) -> Result<Vec<PathBuf>, RouteError> {
        let words = match options.all(keyword) {
            [] => default,
            words => words,
        };
        let words = words.iter().filter(|word| !word.is_empty() && !word.eq_ignore_ascii_case("none"));
        let mut files = Vec::new();
        for word in words {
            let file = self.path(word, keyword, values)?;
            if !files.contains(&file) {
                files.push(file);
            }
        }
        Ok(files)
    }

    fn path(&self, word: &str, keyword: &str, values: &Tokens<'_>) -> Result<PathBuf, RouteError> {
        let directory = &self.environment.project_directory;
        expand::tokens(word, values, self.environment)
            .and_then(|text| expand::variables(&text, self.environment))
            .and_then(|text| expand::path(&text, directory, self.environment))
            .map_err(|source| RouteError::Expand {
                host: values.name.to_owned(),
                keyword: keyword.to_owned(),
                source,
            })
    }
}

fn family(options: &Options, host: &str) -> Result<AddressFamily, RouteError> {
    match options.first("addressfamily").map(str::to_ascii_lowercase).as_deref() {
        None | Some("any") => Ok(AddressFamily::Any),
        Some("inet") => Ok(AddressFamily::V4),
        Some("inet6") => Ok(AddressFamily::V6),
        Some(other) => Err(invalid(host, "AddressFamily", other)),
    }
}

pub(super) fn check_user(user: &str, host: &str) -> Result<(), RouteError> {
    if is_harmless(user) {
        Ok(())
    } else {
        Err(RouteError::InvalidUser { host: host.to_owned(), user: user.to_owned() })
    }
}

/// Says whether a shell takes a name as it is: users and addresses may stand in a `ProxyCommand`.
fn is_harmless(name: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || "'`\"$\\;&<>|(){}".contains(c);
    !name.is_empty() && !name.starts_with('-') && !name.contains(bad)
}

fn invalid(host: &str, keyword: &'static str, value: &str) -> RouteError {
    RouteError::InvalidValue { host: host.to_owned(), keyword, value: value.to_owned() }
}

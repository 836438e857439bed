use serde::{Deserialize, Serialize};

use super::LabError;

/// Which hosts a lab has and who can reach whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// The name by which tests find a lab that runs already: [`super::Lab::shared`].
    pub name: String,
    /// The hosts, in the order of their addresses.
    pub hosts: Vec<HostSpec>,
    /// Which addresses its networks have.
    #[serde(default)]
    pub families: Families,
}

/// Which addresses the networks of a lab have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Families {
    /// IPv4 alone.
    #[default]
    Ipv4,
    /// IPv4, and unique local IPv6 addresses.
    Both,
}

/// One host of a topology.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostSpec {
    /// Its name and host name.
    pub name: String,
    /// Where it stands in the networks.
    pub position: Position,
    /// The Debian release it runs, which decides the engine's version.
    pub suite: Suite,
    /// Size of the disk that holds the engine's state and the home folders; `None` for that of this computer.
    ///
    /// Such a disk is in memory: its content is lost when the host restarts.
    pub disk_bytes: Option<u64>,
    /// Options of `dockerd`.
    pub dockerd_options: Vec<String>,
    /// Lines of `sshd_config` that come before the image's own.
    pub sshd_options: Vec<String>,
}

/// Where a host stands in the networks of its lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Position {
    /// On the open network, reachable from this computer.
    Open,
    /// On the open and the private network: the way into the private one.
    Bastion,
    /// On the private network only: no way in except through the bastion, and no way out.
    Private,
}

/// The Debian release of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Suite {
    /// Debian 12 with engine 20.10.
    Bookworm,
    /// Debian 13 with engine 26.1.
    Trixie,
    /// Debian 12 with engine 20.10, an init system and ufw.
    Systemd,
}

impl Suite {
    /// Returns the name of the image: that of the release in Debian's archive, or of what it has beside.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Systemd => "systemd",
        }
    }
}

impl HostSpec {
    /// Describes a Debian 12 host without limits.
    #[must_use]
    pub fn new(name: impl Into<String>, position: Position) -> Self {
        Self {
            name: name.into(),
            position,
            suite: Suite::Bookworm,
            disk_bytes: None,
            dockerd_options: Vec::new(),
            sshd_options: Vec::new(),
        }
    }
}

impl Topology {
    /// One host, `h1`.
    #[must_use]
    pub fn one() -> Self {
        Self { name: "one".to_owned(), ..Self::hosts(1) }
    }

    /// Three hosts on one network, `h1` to `h3`.
    #[must_use]
    pub fn three() -> Self {
        Self { name: "three".to_owned(), ..Self::hosts(3) }
    }

    /// A given number of hosts on one network, `h1`, `h2`, ...
    #[must_use]
    pub fn hosts(count: usize) -> Self {
        let hosts = (1..=count).map(|number| HostSpec::new(format!("h{number}"), Position::Open)).collect();
        Self { name: format!("{count}"), hosts, families: Families::Ipv4 }
    }

    /// A `bastion` in two networks, and behind it the hosts `app` and `database`, which nothing else reaches.
    #[must_use]
    pub fn bastion() -> Self {
        let hosts = vec![
            HostSpec::new("bastion", Position::Bastion),
            HostSpec::new("app", Position::Private),
            HostSpec::new("database", Position::Private),
        ];
        Self { name: "bastion".to_owned(), hosts, families: Families::Ipv4 }
    }

    /// A `bastion` in two networks, and behind it a given number of hosts, `h1`, `h2`, ...
    #[must_use]
    pub fn behind_bastion(count: usize) -> Self {
        let private = (1..=count).map(|number| HostSpec::new(format!("h{number}"), Position::Private));
        let hosts = std::iter::once(HostSpec::new("bastion", Position::Bastion)).chain(private).collect();
        Self { name: format!("bastion+{count}"), hosts, families: Families::Ipv4 }
    }

    /// Three hosts with an init system and ufw, `application`, `database` and `other`, each on the open and on the private
    /// network, by IPv4 and by IPv6.
    #[must_use]
    pub fn guarded() -> Self {
        let host = |name: &str| HostSpec { suite: Suite::Systemd, ..HostSpec::new(name, Position::Bastion) };
        Self {
            name: "guarded".to_owned(),
            hosts: ["application", "database", "other"].map(host).to_vec(),
            families: Families::Both,
        }
    }

    /// Reads a topology's name as a person types it: `one`, `three`, `bastion`, `guarded`, a number of hosts, or `bastion+`
    /// and a number of hosts behind it.
    ///
    /// # Errors
    /// [`LabError::UnknownTopology`] for any other text.
    pub fn parse(text: &str) -> Result<Self, LabError> {
        match text {
            "one" => Ok(Self::one()),
            "three" => Ok(Self::three()),
            "bastion" => Ok(Self::bastion()),
            "guarded" => Ok(Self::guarded()),
            text => {
                let (number, make): (&str, fn(usize) -> Self) = match text.strip_prefix("bastion+") {
                    Some(number) => (number, Self::behind_bastion),
                    None => (text, Self::hosts),
                };
                match number.parse() {
                    Ok(count @ 1..=16) => Ok(make(count)),
                    _ => Err(LabError::UnknownTopology(text.to_owned())),
                }
            }
        }
    }

    /// Changes every host, for example its suite; the topology then goes by another name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, change: impl Fn(&mut HostSpec)) -> Self {
        self.name = name.into();
        self.hosts.iter_mut().for_each(change);
        self
    }
}

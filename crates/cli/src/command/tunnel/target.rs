use std::fmt;
use std::net::IpAddr;

use freehold_docker::{ContainerDetails, PublishedPort};
use freehold_model::{Accessory, Diagnose, ErrorKind, HostName, Project};

/// Where a tunnel leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// To an accessory, at one of its ports if one was named.
    Accessory { accessory: Box<Accessory>, port: Option<u16> },
    /// To a port of a host of the deploy file itself.
    OfHost { host: HostName, port: u16 },
    /// To an address that a host reaches.
    Beyond { address: String, port: u16 },
}

/// Why a tunnel leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(super) enum TargetError {
    /// Neither an accessory nor a host and a port.
    #[error("`{text}` is neither an accessory nor `HOST:PORT`")]
    Unknown { text: String, accessories: Vec<String> },
    /// The port is not a number from 1 to 65535.
    #[error("`{port}` in `{text}` is not a port")]
    Port { text: String, port: String },
    /// The filters leave no host.
    #[error("no host matches from which `{target}` is reached")]
    NoHost { target: String },
    /// The filters leave out the host whose own port it is.
    #[error(
        "port {port} is meant on host `{host}` itself, which `--hosts`, `--roles` or `--primary` leave out"
    )]
    LeftOut { host: HostName, port: u16 },
    /// The accessory has no container that runs.
    #[error("accessory `{name}` does not run on host `{host}`")]
    NothingRuns { name: String, host: HostName },
    /// Its ports do not say which one is meant.
    #[error("accessory `{name}` has {}", ports(.known))]
    WhichPort { name: String, known: Vec<u16> },
    /// Its container has no address of its own that the host reaches.
    #[error("accessory `{name}` publishes no port {port} on host `{host}`, and its container has no address")]
    NoAddress { name: String, port: u16, host: HostName },
}

fn ports(known: &[u16]) -> String {
    match known {
        [] => "no port that its image or the deploy file names".to_owned(),
        known => {
            format!("several ports: {}", known.iter().map(u16::to_string).collect::<Vec<_>>().join(", "))
        }
    }
}

impl Diagnose for TargetError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown { .. }
            | Self::Port { .. }
            | Self::NoHost { .. }
            | Self::LeftOut { .. }
            | Self::WhichPort { .. } => ErrorKind::Usage,
            Self::NothingRuns { .. } | Self::NoAddress { .. } => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Unknown { accessories, .. } if !accessories.is_empty() => {
                vec![format!("the accessories are: {}", accessories.join(", "))]
            }
            Self::LeftOut { host, port } => vec![
                format!("leave the filter out: `freehold tunnel {}`", place(host.as_str(), *port)),
                format!("or name an address of `{host}` that the other host reaches, in place of its name"),
            ],
            Self::NothingRuns { name, .. } => vec![format!("start it: `freehold accessory boot {name}`")],
            Self::WhichPort { name, known } => {
                let port = known.first().map_or_else(|| "PORT".to_owned(), u16::to_string);
                vec![format!("name one: `freehold tunnel {name}:{port}`")]
            }
            Self::NoAddress { name, port, .. } => {
                vec![format!(
                    "publish it on the host: `port: 127.0.0.1:{port}:{port}` of `accessories/{name}`"
                )]
            }
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accessory { accessory, port: None } => accessory.name.fmt(formatter),
            Self::Accessory { accessory, port: Some(port) } => write!(formatter, "{}:{port}", accessory.name),
            Self::OfHost { host, port } => formatter.write_str(&place(host.as_str(), *port)),
            Self::Beyond { address, port } => formatter.write_str(&place(address, *port)),
        }
    }
}

impl Target {
    /// Reads a target: an accessory's name goes before a host's.
    ///
    /// # Errors
    /// [`TargetError::Unknown`], [`TargetError::Port`].
    pub(super) fn parse(text: &str, project: &Project) -> Result<Self, TargetError> {
        let accessory = |name: &str| {
            let found = project.accessories.values().find(|accessory| accessory.name.as_str() == name);
            found.cloned().map(Box::new)
        };
        if let Some(accessory) = accessory(text) {
            return Ok(Self::Accessory { accessory, port: None });
        }
        let unknown = || TargetError::Unknown {
            text: text.to_owned(),
            accessories: project.accessories.keys().map(ToString::to_string).collect(),
        };
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once("]:").ok_or_else(unknown)?;
                let address: IpAddr = address.parse().map_err(|_| unknown())?;
                (address.to_string(), port)
            }
            None => match text.split_once(':') {
                Some((name, port)) if !name.is_empty() && !port.contains(':') => (name.to_owned(), port),
                _ => return Err(unknown()),
            },
        };
        let bad = || TargetError::Port { text: text.to_owned(), port: port.to_owned() };
        let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(bad)?;
        if let Some(accessory) = accessory(&name) {
            return Ok(Self::Accessory { accessory, port: Some(port) });
        }
        let of_accessories = project.accessories.values().flat_map(|accessory| accessory.hosts.iter());
        let known = project.all_hosts().into_iter().chain(of_accessories.cloned());
        match known.into_iter().find(|host| host.as_str() == name) {
            Some(host) => Ok(Self::OfHost { host, port }),
            None if HostName::parse(&name).is_ok() => Ok(Self::Beyond { address: name, port }),
            None => Err(unknown()),
        }
    }
}

/// The ways to a container on its host.
struct Ports<'a> {
    published: &'a [PublishedPort],
    exposed: &'a [String],
    /// The container's own address.
    own: Option<IpAddr>,
}

/// Finds where a host reaches an accessory: at a published port, otherwise at its container's own address.
///
/// # Errors
/// [`TargetError`] when it does not run, or when several ports are possible and none was named.
pub(super) fn address_of(
    accessory: &Accessory,
    host: &HostName,
    details: Option<&ContainerDetails>,
    wanted: Option<u16>,
) -> Result<(String, u16), TargetError> {
    let Some(details) = details.filter(|details| details.state.is_alive()) else {
        return Err(TargetError::NothingRuns { name: accessory.name.to_string(), host: host.clone() });
    };
    let own = details.ip_addresses.values().next().copied();
    let ports = Ports { published: &details.published, exposed: &details.exposed_ports, own };
    choose((accessory, host), &ports, wanted)
}

fn choose(
    (accessory, host): (&Accessory, &HostName),
    ports: &Ports<'_>,
    wanted: Option<u16>,
) -> Result<(String, u16), TargetError> {
    let name = accessory.name.to_string();
    let port = match wanted {
        Some(port) => port,
        None => {
            let mut known: Vec<u16> = ports.published.iter().map(|port| port.container_port).collect();
            if known.is_empty() {
                known.extend(
                    ports.exposed.iter().filter_map(|port| port.strip_suffix("/tcp")?.parse::<u16>().ok()),
                );
            }
            known.sort_unstable();
            known.dedup();
            match known.as_slice() {
                [port] => *port,
                _ => return Err(TargetError::WhichPort { name, known }),
            }
        }
    };
    if let Some(published) = ports.published.iter().find(|published| published.container_port == port) {
        let address = match published.address {
            IpAddr::V4(every) if every.is_unspecified() => "127.0.0.1".to_owned(),
            IpAddr::V6(every) if every.is_unspecified() => "::1".to_owned(),
            address => address.to_string(),
        };
        return Ok((address, published.port));
    }
    match ports.own {
        Some(address) => Ok((address.to_string(), port)),
        None => Err(TargetError::NoAddress { name, port, host: host.clone() }),
    }
}

/// Writes an address with its port, an IPv6 address in brackets.
pub(super) fn place(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accessory(name: &str, on: &str) -> Accessory {
        Accessory {
            name: freehold_model::AccessoryName::parse(name).unwrap(),
            container: freehold_model::ContainerName::parse(format!("app-{name}")).unwrap(),
            image: freehold_model::RemoteImage::parse(name).unwrap(),
            hosts: vec![HostName::parse(on).unwrap()],
            publish: None,
            command: None,
            environment: freehold_model::Environment::default(),
            files: Vec::new(),
            directories: Vec::new(),
            volumes: Vec::new(),
            labels: std::collections::BTreeMap::new(),
            options: freehold_model::ContainerOptions::default(),
            logging: freehold_model::Logging::default(),
            network: "kamal".to_owned(),
            proxy: None,
        }
    }

    fn project() -> Project {
        let service = freehold_model::ServiceName::parse("app").unwrap();
        let mut project = Project::new(service, freehold_model::Repository::parse("acme/app").unwrap());
        let all = [accessory("db", "10.0.0.11"), accessory("search", "web-1")];
        project.accessories = all.map(|one| (one.name.clone(), one)).into();
        project
    }

    fn parse(text: &str) -> Result<String, String> {
        let target = Target::parse(text, &project());
        target.map(|target| format!("{target:?}")).map_err(|error| error.to_string())
    }

    #[test]
    fn targets_are_accessories_hosts_and_addresses() {
        let is = |text: &str, start: &str, end: &str| {
            let target = parse(text).unwrap();
            assert!(target.starts_with(start) && target.ends_with(end), "{text}: {target}");
        };
        is("db", "Accessory", "port: None }");
        is("db:5433", "Accessory", "port: Some(5433) }");
        is("web-1:80", "OfHost", "port: 80 }");
        is("10.0.0.11:5432", "OfHost", "port: 5432 }");
        is("10.0.0.7:6379", "Beyond { address: \"10.0.0.7\"", "port: 6379 }");
        is("[fd00::7]:5432", "Beyond { address: \"fd00::7\"", "port: 5432 }");
        for wrong in ["cache", "", ":80", "fd00::7:80", "[fd00::7]", "[x]:80", "a b:80"] {
            assert!(parse(wrong).unwrap_err().contains("is neither"), "{wrong}");
        }
        for wrong in ["web-1:0", "web-1:http", "db:65536", "web-1:"] {
            assert!(parse(wrong).unwrap_err().contains("is not a port"), "{wrong}");
        }
    }

    fn at(published: &[(&str, u16, u16)], exposed: &[&str], wanted: Option<u16>) -> Result<String, String> {
        let published = published.iter().map(|(address, port, container_port)| PublishedPort {
            address: address.parse().unwrap(),
            port: *port,
            container_port: *container_port,
        });
        let published: Vec<PublishedPort> = published.collect();
        let exposed: Vec<String> = exposed.iter().map(|&port| port.to_owned()).collect();
        let own = Some("172.18.0.5".parse().unwrap());
        let db = accessory("db", "10.0.0.11");
        let found =
            choose((&db, &db.hosts[0]), &Ports { published: &published, exposed: &exposed, own }, wanted);
        found.map(|(address, port)| place(&address, port)).map_err(|error| error.to_string())
    }

    #[test]
    fn an_accessory_is_reached_where_it_is_published_and_at_its_own_address_otherwise() {
        assert_eq!(at(&[("0.0.0.0", 5432, 5432)], &["5432/tcp"], None).unwrap(), "127.0.0.1:5432");
        assert_eq!(at(&[("::", 15432, 5432)], &[], Some(5432)).unwrap(), "[::1]:15432");
        assert_eq!(at(&[("10.0.0.11", 15432, 5432)], &[], None).unwrap(), "10.0.0.11:15432");
        let both = [("0.0.0.0", 5432, 5432), ("::", 5432, 5432)];
        assert_eq!(at(&both, &["5432/tcp", "9187/tcp"], None).unwrap(), "127.0.0.1:5432");
        assert_eq!(at(&[], &["6379/tcp", "53/udp"], None).unwrap(), "172.18.0.5:6379");
        assert_eq!(at(&both, &[], Some(9187)).unwrap(), "172.18.0.5:9187");
        let several = at(&[], &["9300/tcp", "9200/tcp"], None).unwrap_err();
        assert_eq!(several, "accessory `db` has several ports: 9200, 9300");
        assert!(at(&[], &[], None).unwrap_err().contains("no port that its image"));
    }

    #[test]
    fn what_does_not_run_is_said_so() {
        let db = accessory("db", "10.0.0.11");
        let error = address_of(&db, &db.hosts[0], None, None).unwrap_err();
        assert_eq!(error.to_string(), "accessory `db` does not run on host `10.0.0.11`");
        assert_eq!(error.help(), ["start it: `freehold accessory boot db`"]);
    }
}

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ContainerOptions, Environment, Logging, ProxySettings};
use crate::{AccessoryName, ContainerName, HostName, RemoteImage};

/// A long-lived container beside the service: a database, a cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accessory {
    /// Its key in the deploy file.
    pub name: AccessoryName,
    /// The name of its container, also its label `service`, its folder in the login directory and its name in the
    /// proxy: `SERVICE-NAME` unless the file says otherwise. The destination is not part of it.
    pub container: ContainerName,
    /// The image, with the accessory's own registry in front where one is set.
    pub image: RemoteImage,
    /// The hosts that run it, each once, in the order of the file or of the roles.
    pub hosts: Vec<HostName>,
    /// A published port as `docker run --publish` reads it.
    pub publish: Option<String>,
    /// The words of the command, or none for the image's own.
    pub command: Option<Vec<String>>,
    /// The environment.
    pub environment: Environment,
    /// Files that are uploaded and mounted, in the order of the file.
    pub files: Vec<AccessoryFile>,
    /// Directories that are made and mounted, in the order of the file.
    pub directories: Vec<AccessoryDirectory>,
    /// `volume` flags as Docker reads them, host paths relative to the login directory allowed.
    pub volumes: Vec<String>,
    /// Labels beside `service`.
    pub labels: BTreeMap<String, String>,
    /// Options of `docker run`.
    pub options: ContainerOptions,
    /// The log driver, that of the root.
    pub logging: Logging,
    /// The network; `kamal` by default.
    pub network: String,
    /// How the proxy serves it, or none if it takes no requests from outside.
    pub proxy: Option<ProxySettings>,
}

impl Accessory {
    /// Returns where a file of it lies on a host, relative to the login directory: `app-db/etc/my.cnf`.
    #[must_use]
    pub fn file_path(&self, file: &AccessoryFile) -> String {
        format!("{}/{}", self.container, file.remote.trim_start_matches('/'))
    }

    /// Returns where a directory of it lies on a host, absolute or relative to the login directory.
    #[must_use]
    pub fn directory_path(&self, directory: &AccessoryDirectory) -> String {
        if directory.local.starts_with('/') {
            directory.local.clone()
        } else {
            format!("{}/{}", self.container, directory.local.trim_start_matches("./"))
        }
    }

    /// Returns every `volume` flag of the container in Kamal's order: volumes, files, directories. Paths of the
    /// host are absolute or begin with `./`, which stands for the login directory.
    #[must_use]
    pub fn mounts(&self) -> Vec<String> {
        let mount = |path: String, remote: &str, options: Option<&String>| {
            let path = if path.starts_with('/') { path } else { format!("./{path}") };
            match options {
                Some(options) => format!("{path}:{remote}:{options}"),
                None => format!("{path}:{remote}"),
            }
        };
        let files =
            self.files.iter().map(|file| mount(self.file_path(file), &file.remote, file.options.as_ref()));
        let directories = self.directories.iter().map(|directory| {
            mount(self.directory_path(directory), &directory.remote, directory.options.as_ref())
        });
        self.volumes.iter().cloned().chain(files).chain(directories).collect()
    }
}

/// A file of the project that an accessory mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessoryFile {
    /// The file, relative to the project.
    pub local: String,
    /// Whether it is uploaded as it stands.
    pub content: FileContent,
    /// The absolute path in the container.
    pub remote: String,
    /// Options of the mount, such as `ro`.
    pub options: Option<String>,
    /// The permissions on the host; 755 by default.
    pub mode: FileMode,
    /// The owner on the host, as `chown` reads it.
    pub owner: Option<String>,
}

/// What of a local file is uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileContent {
    /// The file as it stands.
    Verbatim,
    /// The file after its template was rendered with the accessory's environment; its name ends in `erb`.
    Template,
}

/// A directory of the host that an accessory mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessoryDirectory {
    /// The directory on the host: absolute, or relative to the accessory's own folder.
    pub local: String,
    /// The absolute path in the container.
    pub remote: String,
    /// Options of the mount, such as `ro`.
    pub options: Option<String>,
    /// The permissions on the host, or none to leave them.
    pub mode: Option<FileMode>,
    /// The owner on the host, as `chown` reads it.
    pub owner: Option<String>,
}

/// The permissions of a file, 0 to 7777 octal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct FileMode(u32);

impl FileMode {
    /// What Kamal gives to an uploaded file: read and execute for everyone, write for the owner.
    pub const DEFAULT: Self = Self(0o755);

    /// Makes permissions of their bits; none above 7777 octal.
    #[must_use]
    pub const fn new(bits: u32) -> Option<Self> {
        if bits <= 0o7777 { Some(Self(bits)) } else { None }
    }

    /// Parses octal digits, as `chmod` reads them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_octal = !text.is_empty() && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        u32::from_str_radix(text, 8).ok().filter(|_| is_octal).and_then(Self::new)
    }

    /// Returns the bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for FileMode {
    type Error = String;
    fn try_from(bits: u32) -> Result<Self, String> {
        Self::new(bits).ok_or_else(|| format!("`{bits:o}` is not a file mode"))
    }
}

impl From<FileMode> for u32 {
    fn from(mode: FileMode) -> Self {
        mode.0
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:o}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accessory() -> Accessory {
        Accessory {
            name: AccessoryName::parse("db").unwrap(),
            container: ContainerName::parse("app-db").unwrap(),
            image: RemoteImage::parse("postgres:16").unwrap(),
            hosts: Vec::new(),
            publish: None,
            command: None,
            environment: Environment::default(),
            files: vec![AccessoryFile {
                local: "config/my.cnf".to_owned(),
                content: FileContent::Verbatim,
                remote: "/etc/my.cnf".to_owned(),
                options: Some("ro".to_owned()),
                mode: FileMode::DEFAULT,
                owner: None,
            }],
            directories: ["data", "/srv/data"]
                .map(|local| AccessoryDirectory {
                    local: local.to_owned(),
                    remote: "/var/lib/data".to_owned(),
                    options: None,
                    mode: None,
                    owner: None,
                })
                .to_vec(),
            volumes: vec!["cache:/cache".to_owned()],
            labels: BTreeMap::new(),
            options: ContainerOptions::default(),
            logging: Logging::default(),
            network: "kamal".to_owned(),
            proxy: None,
        }
    }

    #[test]
    fn mounts_are_those_of_kamal_in_its_order() {
        let mounts = [
            "cache:/cache",
            "./app-db/etc/my.cnf:/etc/my.cnf:ro",
            "./app-db/data:/var/lib/data",
            "/srv/data:/var/lib/data",
        ];
        assert_eq!(accessory().mounts(), mounts);
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(FileMode::parse("0600").map(FileMode::bits), Some(0o600));
        assert_eq!(FileMode::parse("640").unwrap().to_string(), "640");
        for bad in ["", "8", "+600", "77777", "rw"] {
            assert_eq!(FileMode::parse(bad), None, "{bad}");
        }
    }
}

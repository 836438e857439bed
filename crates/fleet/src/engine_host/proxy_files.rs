use std::collections::BTreeMap;

use freehold_config::parse_proxy_boot;
use freehold_model::ProxyRun;
use freehold_plan::{ContainerState, ProxyMaker};
use freehold_ssh::quote;
use serde::Serialize;

use crate::engine_host::EngineHost;
use crate::engine_host::kamal_proxy::STATE_FOLDER;
use crate::engine_host::observe::{container_state, maker};
use crate::engine_host::proxy::PROXY_CONTAINER;
use crate::host::{HostError, StepError};

/// Where the files of `proxy boot_config` are, relative to the login directory.
const FOLDER: &str = ".kamal/proxy";

/// A file of `proxy boot_config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BootFile {
    /// Options of `docker run`.
    Options,
    /// The image of kamal-proxy without its tag.
    Image,
    /// The tag.
    ImageVersion,
    /// The command in the container.
    RunCommand,
}

impl BootFile {
    const ALL: [Self; 4] = [Self::Options, Self::Image, Self::ImageVersion, Self::RunCommand];

    /// Returns the name of the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Options => "options",
            Self::Image => "image",
            Self::ImageVersion => "image_version",
            Self::RunCommand => "run_command",
        }
    }
}

/// The proxy of a host, for a person.
#[derive(Debug, Clone, Serialize)]
pub struct ProxyDetails {
    /// Whose it is.
    pub maker: ProxyMaker,
    /// The image it was made from.
    pub image: String,
    /// Its state.
    pub state: ContainerState,
    /// The host's ports that lead to it: `0.0.0.0:80`.
    pub ports: Vec<String>,
    /// What it serves.
    pub services: Vec<ServiceDetails>,
}

/// A service of a proxy, for a person.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceDetails {
    /// Its name.
    pub name: String,
    /// Its hosts; none is any.
    pub hosts: Vec<String>,
    /// Its targets.
    pub targets: Vec<String>,
    /// `running`, `paused` or `stopped`.
    pub state: String,
    /// Whether it is served over HTTPS.
    pub tls: bool,
}

/// What the proxy of a host has beside its routes.
#[derive(Debug, Clone, Default)]
pub struct ProxyHistory {
    /// The hosts for which it ordered certificates.
    pub certificates: Vec<String>,
    /// Whether the proxy that was there before an adoption is kept.
    pub is_kept: bool,
}

impl EngineHost {
    /// Looks at what the proxy has beside its routes.
    ///
    /// # Errors
    /// [`HostError`] when the host or its engine does not answer.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn proxy_history(&self) -> Result<ProxyHistory, HostError> {
        let link = self.link().await?;
        let failed = |error| self.engine_error("look at the proxy", error);
        let before = link.engine.inspect_container(freehold_plan::PROXY_BEFORE).await.map_err(failed)?;
        let certificates = format!("{STATE_FOLDER}/certs");
        let files = link.engine.file_names(PROXY_CONTAINER, &certificates).await.map_err(failed)?;
        // autocert's cache: a file for each host, beside account keys and the answers to challenges.
        let is_host = |name: &&str| !name.contains('+') && name.contains('.') && *name != "acme_account.key";
        let mut certificates: Vec<String> = files
            .iter()
            .filter_map(|path| path.rsplit('/').next())
            .filter(is_host)
            .map(ToOwned::to_owned)
            .collect();
        certificates.sort();
        certificates.dedup();
        Ok(ProxyHistory { certificates, is_kept: before.is_some() })
    }

    /// Describes the proxy, if there is one.
    ///
    /// # Errors
    /// [`HostError`] when the host, its engine or its proxy does not answer.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn proxy_details(&self) -> Result<Option<ProxyDetails>, HostError> {
        let link = self.link().await?;
        let details = link.engine.inspect_container(PROXY_CONTAINER).await;
        let details = details.map_err(|error| self.engine_error("look at the proxy", error))?;
        let Some(details) = details else { return Ok(None) };
        let maker = maker(&details);
        let services = match (details.state.is_alive(), maker) {
            (false, _) => Vec::new(),
            (true, ProxyMaker::Freehold) => {
                let services =
                    self.services_of(&link, PROXY_CONTAINER).await.map_err(|error| match error {
                        StepError::Host(error) => error,
                        error => HostError::Refused {
                            host: self.name.clone(),
                            operation: "list what the proxy serves".to_owned(),
                            message: error.to_string(),
                        },
                    })?;
                let described = services.into_iter().map(|service| ServiceDetails {
                    name: service.name.to_string(),
                    hosts: service.settings.hosts.iter().map(ToString::to_string).collect(),
                    targets: service.targets.iter().map(|target| target.address.to_string()).collect(),
                    state: service.gate.as_str().to_owned(),
                    tls: service.settings.tls.is_some(),
                });
                described.collect()
            }
            (true, ProxyMaker::Kamal) => {
                let services = self.kamal_services(&link).await?;
                let described = services.into_iter().map(|service| ServiceDetails {
                    hosts: service.hosts().cloned().collect(),
                    targets: service.targets(),
                    state: service.gate().as_str().to_owned(),
                    tls: service.has_tls(),
                    name: service.name,
                });
                described.collect()
            }
        };
        Ok(Some(ProxyDetails {
            maker,
            image: details.image.clone(),
            state: container_state(details.state),
            ports: details
                .published
                .iter()
                .map(|port| std::net::SocketAddr::new(port.address, port.port).to_string())
                .collect(),
            services,
        }))
    }

    /// Returns the names of the applications that have folders on the host.
    ///
    /// # Errors
    /// [`HostError`] when the host does not answer.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn installed_applications(&self) -> Result<Vec<String>, HostError> {
        let script = "ls -1 .kamal/apps 2>/dev/null || true";
        let output = self.plain_script("list what is installed", script).await?;
        Ok(output.stdout.lines().filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect())
    }

    /// Reads the files of `proxy boot_config` that are there.
    ///
    /// # Errors
    /// [`HostError`] when the host does not answer.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn boot_files(&self) -> Result<BTreeMap<BootFile, String>, HostError> {
        let read = BootFile::ALL.map(|file| {
            let name = file.name();
            format!("if [ -f {FOLDER}/{name} ]; then printf '\\001{name}\\002'; cat {FOLDER}/{name}; fi\n")
        });
        let output = self.plain_script("read the proxy's boot files", &read.concat()).await?;
        let files = output.stdout.split('\u{1}').filter_map(|part| {
            let (name, text) = part.split_once('\u{2}')?;
            let file = BootFile::ALL.into_iter().find(|file| file.name() == name)?;
            Some((file, text.trim().to_owned()))
        });
        Ok(files.collect())
    }

    /// Writes files of `proxy boot_config`, and removes the others.
    ///
    /// # Errors
    /// [`HostError`] when the host does not take them.
    ///
    /// # Cancel safety
    /// Some may have been written.
    pub async fn write_boot_files(&self, files: &BTreeMap<BootFile, String>) -> Result<(), HostError> {
        let mut script = format!("umask 022; mkdir -p {FOLDER} && cd {FOLDER} || exit 1\n");
        for file in BootFile::ALL {
            let name = file.name();
            script.push_str(&match files.get(&file) {
                Some(text) => {
                    format!("printf '%s' {} > {name}.new && mv {name}.new {name} || exit 1\n", quote(text))
                }
                None => format!("rm -f {name}\n"),
            });
        }
        self.plain_script("write the proxy's boot files", &script).await.map(drop)
    }

    /// Returns how the proxy's container runs after those files, if there are any.
    pub(super) async fn boot_config(&self) -> Result<Option<ProxyRun>, HostError> {
        let files = self.boot_files().await?;
        if files.is_empty() {
            return Ok(None);
        }
        let text = |file| files.get(&file).map(String::as_str);
        let run = parse_proxy_boot(
            (text(BootFile::Options), text(BootFile::RunCommand)),
            (text(BootFile::Image), text(BootFile::ImageVersion)),
        );
        run.map(Some).map_err(|error| HostError::Stored {
            host: self.name.clone(),
            path: format!("{FOLDER}/options"),
            message: error.to_string(),
        })
    }
}

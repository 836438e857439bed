use std::collections::BTreeMap;
use std::path::Path;

use freehold_docker::{FileSource, ImageName, Owner, ScratchConfig, ScratchEntry, ScratchImage};
use freehold_model::{Architecture, Diagnose, ErrorKind, HostName, ImageReference, Repository, Tag};

use crate::engine_host::EngineHost;
use crate::engine_host::link::Link;
use crate::engine_host::proxy::status;
use crate::host::{StepContext, StepError};

/// The user of the proxy's container, who owns the state in the volume: that of Kamal's image.
pub(super) const PROXY_USER: Owner = Owner { user: 1001, group: 1001 };

/// Why the proxy's image could not be made.
#[derive(Debug, thiserror::Error)]
enum ProxyImageError {
    #[error("there is no freehold executable for {architecture}, the architecture of host `{host}`")]
    NoExecutable { host: HostName, architecture: String },
    #[error("cannot read our own executable")]
    Read(#[from] std::io::Error),
    #[error("cannot name the image")]
    Name(#[from] freehold_model::ParseImageError),
}

impl Diagnose for ProxyImageError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NoExecutable { architecture, .. } => vec![format!(
                "name the release executable of that architecture: `FREEHOLD_EXECUTABLE_{}=/path/to/freehold`",
                architecture.to_uppercase()
            )],
            Self::Read(_) | Self::Name(_) => Vec::new(),
        }
    }
}

/// Makes an error of our own executable that cannot be read.
pub(super) fn unreadable(error: std::io::Error) -> StepError {
    StepError::image("read the proxy's executable", ProxyImageError::Read(error))
}

impl EngineHost {
    /// Makes sure that the host has the proxy's image, made of our own executable.
    pub(super) async fn deliver_proxy_image(
        &self,
        link: &Link,
        context: &StepContext<'_>,
    ) -> Result<ImageName, StepError> {
        let failed = |error: ProxyImageError| StepError::image("make the proxy's image", error);
        let (architecture, executable) = self.proxy_executable(link).await?;
        let digest = self
            .workshop
            .digest_of(executable)
            .await
            .map_err(|error| failed(ProxyImageError::Read(error)))?;
        let reference = proxy_reference(&digest).map_err(|error| failed(ProxyImageError::Name(error)))?;
        let there = link
            .engine
            .inspect_image(&reference.to_string())
            .await
            .map_err(|error| self.engine_error("look for the proxy's image", error))?;
        if there.is_none() {
            status(context, "sending the proxy's image");
            let sealed = proxy_image(reference.clone(), architecture, executable)
                .seal()
                .await
                .map_err(|error| StepError::image("make the proxy's image", error))?;
            link.engine
                .load_archive(sealed.archive())
                .await
                .map_err(|error| self.engine_error("load the proxy's image", error))?;
        }
        Ok(ImageName::Reference(reference))
    }

    /// Returns our executable for the host.
    pub(super) async fn proxy_executable(&self, link: &Link) -> Result<(Architecture, &Path), StepError> {
        let failed = |error: ProxyImageError| StepError::image("make the proxy's image", error);
        let info = link.engine.info().await.map_err(|error| self.engine_error("ask the engine", error))?;
        let executable = info
            .architecture
            .and_then(|architecture| Some((architecture, self.workshop.executables.get(&architecture)?)));
        let Some((architecture, executable)) = executable else {
            let architecture =
                info.architecture.map_or_else(|| "unknown".to_owned(), |name| name.to_string());
            return Err(failed(ProxyImageError::NoExecutable { host: self.name.clone(), architecture }));
        };
        Ok((architecture, executable))
    }
}

fn proxy_reference(digest: &str) -> Result<ImageReference, freehold_model::ParseImageError> {
    let short = digest.get(..12).unwrap_or(digest);
    Ok(ImageReference {
        repository: Repository::parse("freehold/proxy")?,
        tag: Tag::parse(format!("{}-{short}", env!("CARGO_PKG_VERSION")))?,
    })
}

/// Describes the proxy's image: our executable under both of its names, and the folders that its user may write.
fn proxy_image(reference: ImageReference, architecture: Architecture, executable: &Path) -> ScratchImage {
    let root = Owner::default();
    let folder =
        |path: &str, mode: u32, owner: Owner| ScratchEntry::Directory { path: path.to_owned(), mode, owner };
    let entries = vec![
        folder("/tmp", 0o1777, root),
        folder("/home", 0o755, root),
        folder("/home/kamal-proxy", 0o755, PROXY_USER),
        folder("/home/kamal-proxy/.config", 0o755, PROXY_USER),
        folder("/home/kamal-proxy/.config/kamal-proxy", 0o700, PROXY_USER),
        folder("/home/kamal-proxy/.apps-config", 0o755, PROXY_USER),
        folder("/usr", 0o755, root),
        folder("/usr/local", 0o755, root),
        folder("/usr/local/bin", 0o755, root),
        ScratchEntry::File {
            path: "/freehold".to_owned(),
            mode: 0o755,
            owner: root,
            content: FileSource::Path(executable.to_owned()),
        },
        ScratchEntry::SymbolicLink {
            path: "/usr/local/bin/kamal-proxy".to_owned(),
            target: "/freehold".to_owned(),
        },
    ];
    ScratchImage {
        reference,
        architecture,
        layers: vec![entries],
        config: ScratchConfig {
            entrypoint: vec!["/freehold".to_owned()],
            command: ["proxy", "run"].map(str::to_owned).to_vec(),
            user: format!("{}:{}", PROXY_USER.user, PROXY_USER.group),
            env: BTreeMap::from([
                ("HOME".to_owned(), "/home/kamal-proxy".to_owned()),
                ("PATH".to_owned(), "/usr/local/bin".to_owned()),
                // In its container, all of `freehold proxy` is the proxy's own command line.
                ("FREEHOLD_ROLE".to_owned(), "proxy".to_owned()),
            ]),
            labels: BTreeMap::from([
                ("org.opencontainers.image.title".to_owned(), "kamal-proxy".to_owned()),
                ("org.opencontainers.image.vendor".to_owned(), "Freehold".to_owned()),
            ]),
            exposed_ports: vec!["80/tcp".to_owned()],
            ..ScratchConfig::default()
        },
    }
}

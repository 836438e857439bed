use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use bytes::Bytes;
use freehold_model::{Architecture, Diagnose, ErrorKind, ImageReference};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::byte_channel::{ByteFlow, written_by};
use crate::image::DiffId;

/// An image made of files of this machine, without a base and without a build.
///
/// The same description gives the same bytes everywhere, and so the same identifier: times are zero and the entries
/// keep their order.
#[derive(Debug, Clone)]
pub struct ScratchImage {
    /// The name that it gets.
    pub reference: ImageReference,
    /// The processor that its executables are for.
    pub architecture: Architecture,
    /// Its layers, the lowest first.
    pub layers: Vec<Vec<ScratchEntry>>,
    /// What runs in a container of it, and how.
    pub config: ScratchConfig,
}

/// The configuration of a [`ScratchImage`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScratchConfig {
    /// The entry point.
    pub entrypoint: Vec<String>,
    /// The command.
    pub command: Vec<String>,
    /// The user, empty for root. Numbers are best: there is no user database.
    pub user: String,
    /// The folder to start in, empty for `/`.
    pub working_directory: String,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Ports, such as `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Folders that are volumes.
    pub volumes: Vec<String>,
    /// The signal that stops it, empty for SIGTERM.
    pub stop_signal: String,
}

/// The owner of an entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    /// The user's number.
    pub user: u32,
    /// The group's number.
    pub group: u32,
}

/// One thing in a layer. Paths are those in the container; a leading slash is optional.
#[derive(Debug, Clone)]
pub enum ScratchEntry {
    /// A folder.
    Directory {
        /// Where.
        path: String,
        /// Its permissions.
        mode: u32,
        /// Whose it is.
        owner: Owner,
    },
    /// A file.
    File {
        /// Where.
        path: String,
        /// Its permissions.
        mode: u32,
        /// Whose it is.
        owner: Owner,
        /// What is in it.
        content: FileSource,
    },
    /// A symbolic link.
    SymbolicLink {
        /// Where.
        path: String,
        /// What it says.
        target: String,
    },
    /// A further name of a file that comes before it in the same layer.
    HardLink {
        /// Where.
        path: String,
        /// The path of the file.
        target: String,
    },
}

/// Where the content of a file comes from.
#[derive(Debug, Clone)]
pub enum FileSource {
    /// Memory.
    Bytes(Bytes),
    /// A file of this machine. It must not change until the archive is sent.
    Path(PathBuf),
}

/// An image that could not be put together.
#[derive(Debug, thiserror::Error)]
#[error("image `{reference}` cannot be put together")]
pub struct ScratchImageError {
    reference: ImageReference,
    source: io::Error,
}

impl Diagnose for ScratchImageError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }
}

/// A [`ScratchImage`] whose digests are known.
#[derive(Debug, Clone)]
pub struct SealedImage {
    image: ScratchImage,
    layers: Vec<SealedLayer>,
    config: Bytes,
    config_digest: String,
}

#[derive(Debug, Clone)]
struct SealedLayer {
    diff_id: DiffId,
    size: u64,
}

impl ScratchImage {
    /// Reads every file once and computes the digests.
    ///
    /// # Errors
    /// [`ScratchImageError`] with the file that cannot be read.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn seal(self) -> Result<SealedImage, ScratchImageError> {
        let reference = self.reference.clone();
        let sealed = tokio::task::spawn_blocking(move || self.seal_blocking()).await;
        sealed.map_err(io::Error::other).flatten().map_err(|source| ScratchImageError { reference, source })
    }

    fn seal_blocking(self) -> io::Result<SealedImage> {
        let mut layers = Vec::new();
        for entries in &self.layers {
            let mut hashing = Hashing { digest: Sha256::new(), size: 0, inner: io::sink() };
            write_layer(entries, &mut hashing)?;
            layers.push(SealedLayer { size: hashing.size, diff_id: DiffId(hashing.finish()) });
        }
        let config = Bytes::from(config_json(&self, &layers)?);
        let config_digest = hex(&Sha256::digest(&config));
        Ok(SealedImage { image: self, layers, config, config_digest })
    }
}

impl SealedImage {
    /// Returns the name that the image gets.
    #[must_use]
    pub fn reference(&self) -> &ImageReference {
        &self.image.reference
    }

    /// Returns the layers, the lowest first. An image with the same ones is there already.
    #[must_use]
    pub fn layers(&self) -> Vec<DiffId> {
        self.layers.iter().map(|layer| layer.diff_id.clone()).collect()
    }

    /// Returns the digest of the configuration, the image's identifier on engines with a graph driver.
    #[must_use]
    pub fn config_digest(&self) -> String {
        format!("sha256:{}", self.config_digest)
    }

    /// Returns the size of the layers in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }

    /// Returns the docker-format archive for [`crate::Engine::load_archive`], read from the files as it is sent.
    /// A file that has changed since the sealing ends it with an error.
    #[must_use]
    pub fn archive(self) -> ByteFlow {
        written_by(move |writer| self.write(writer))
    }

    fn write(&self, writer: impl Write) -> io::Result<()> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Manifest {
            config: String,
            repo_tags: [String; 1],
            layers: Vec<String>,
        }
        let mut archive = tar::Builder::new(writer);
        let names: Vec<String> = self.layers.iter().map(|layer| layer_name(&layer.diff_id)).collect();
        let config_name = format!("{}.json", self.config_digest);
        append_file(&mut archive, &config_name, &self.config)?;
        for ((entries, layer), name) in self.image.layers.iter().zip(&self.layers).zip(&names) {
            let mut header = plain_header(tar::EntryType::Regular, 0o644, Owner::default());
            header.set_size(layer.size);
            header.set_path(name)?;
            header.set_cksum();
            archive.append(&header, io::empty())?;
            // The layer is a tar in a tar: it is written behind its head and padded here.
            let mut hashing = Hashing { digest: Sha256::new(), size: 0, inner: archive.get_mut() };
            write_layer(entries, &mut hashing)?;
            let same = hashing.size == layer.size;
            if hashing.finish() != layer.diff_id.0 || !same {
                return Err(io::Error::other("a file changed while it was read"));
            }
            let padding = layer.size.next_multiple_of(512) - layer.size;
            io::copy(&mut io::repeat(0).take(padding), archive.get_mut())?;
        }
        let reference = self.image.reference.to_string();
        let manifest = [Manifest { config: config_name, repo_tags: [reference], layers: names }];
        append_file(&mut archive, "manifest.json", &serde_json::to_vec(&manifest)?)?;
        archive.finish()
    }
}

fn layer_name(diff_id: &DiffId) -> String {
    format!("{}/layer.tar", diff_id.0.trim_start_matches("sha256:"))
}

fn append_file(archive: &mut tar::Builder<impl Write>, name: &str, content: &[u8]) -> io::Result<()> {
    let mut header = plain_header(tar::EntryType::Regular, 0o644, Owner::default());
    header.set_size(u64::try_from(content.len()).map_err(io::Error::other)?);
    archive.append_data(&mut header, name, content)
}

fn plain_header(kind: tar::EntryType, mode: u32, owner: Owner) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner.user.into());
    header.set_gid(owner.group.into());
    header.set_mtime(0);
    header.set_size(0);
    header
}

fn write_layer(entries: &[ScratchEntry], writer: impl Write) -> io::Result<()> {
    let mut layer = tar::Builder::new(writer);
    let relative = |path: &str| path.trim_start_matches('/').to_owned();
    for entry in entries {
        match entry {
            ScratchEntry::Directory { path, mode, owner } => {
                let mut header = plain_header(tar::EntryType::Directory, *mode, *owner);
                layer.append_data(
                    &mut header,
                    format!("{}/", relative(path).trim_end_matches('/')),
                    io::empty(),
                )?;
            }
            ScratchEntry::File { path, mode, owner, content } => {
                let mut header = plain_header(tar::EntryType::Regular, *mode, *owner);
                match content {
                    FileSource::Bytes(bytes) => {
                        header.set_size(u64::try_from(bytes.len()).map_err(io::Error::other)?);
                        layer.append_data(&mut header, relative(path), bytes.as_ref())?;
                    }
                    FileSource::Path(source) => {
                        let file = fs_err::File::open(source)?;
                        let size = file.metadata()?.len();
                        header.set_size(size);
                        layer.append_data(&mut header, relative(path), Exactly { file, left: size })?;
                    }
                }
            }
            ScratchEntry::SymbolicLink { path, target } => {
                let mut header = plain_header(tar::EntryType::Symlink, 0o777, Owner::default());
                layer.append_link(&mut header, relative(path), target)?;
            }
            ScratchEntry::HardLink { path, target } => {
                let mut header = plain_header(tar::EntryType::Link, 0o644, Owner::default());
                layer.append_link(&mut header, relative(path), relative(target))?;
            }
        }
    }
    layer.finish()
}

/// Reads as many bytes as the head of the entry says, whatever has become of the file.
struct Exactly {
    file: fs_err::File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read(buffer.get_mut(..wanted).unwrap_or_default())?;
        if count == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::other(format!(
                "{} became shorter while it was read",
                self.file.path().display()
            )));
        }
        self.left -= u64::try_from(count).unwrap_or(self.left);
        Ok(count)
    }
}

struct Hashing<W> {
    digest: Sha256,
    size: u64,
    inner: W,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.digest.update(bytes.get(..count).unwrap_or_default());
        self.size += u64::try_from(count).unwrap_or_default();
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W> Hashing<W> {
    fn finish(self) -> String {
        format!("sha256:{}", hex(&self.digest.finalize()))
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Source: https://github.com/opencontainers/image-spec/blob/main/config.md
fn config_json(image: &ScratchImage, layers: &[SealedLayer]) -> io::Result<Vec<u8>> {
    let config = &image.config;
    let set = |names: &[String]| -> BTreeMap<String, BTreeMap<(), ()>> {
        names.iter().map(|name| (name.clone(), BTreeMap::new())).collect()
    };
    let env: Vec<String> = config.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let epoch = "1970-01-01T00:00:00Z";
    let history: Vec<_> =
        layers.iter().map(|_| serde_json::json!({ "created": epoch, "created_by": "freehold" })).collect();
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    Ok(serde_json::to_vec(&serde_json::json!({
        "architecture": image.architecture.as_str(),
        "os": "linux",
        "created": epoch,
        "config": {
            "Entrypoint": config.entrypoint,
            "Cmd": config.command,
            "User": config.user,
            "WorkingDir": config.working_directory,
            "Env": env,
            "Labels": config.labels,
            "ExposedPorts": set(&config.exposed_ports),
            "Volumes": set(&config.volumes),
            "StopSignal": config.stop_signal,
        },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": history,
    }))?)
}

#[cfg(test)]
mod tests {
    use freehold_model::{Repository, Tag};
    use futures_util::TryStreamExt;

    use super::*;

    fn image(content: FileSource) -> ScratchImage {
        ScratchImage {
            reference: ImageReference {
                repository: Repository::parse("freehold-proxy").unwrap(),
                tag: Tag::parse("1").unwrap(),
            },
            architecture: Architecture::Amd64,
            layers: vec![vec![
                ScratchEntry::Directory {
                    path: "/state".to_owned(),
                    mode: 0o700,
                    owner: Owner { user: 7, group: 8 },
                },
                ScratchEntry::File {
                    path: "/freehold".to_owned(),
                    mode: 0o755,
                    owner: Owner::default(),
                    content,
                },
                ScratchEntry::HardLink { path: "/kamal-proxy".to_owned(), target: "/freehold".to_owned() },
                ScratchEntry::SymbolicLink { path: "/link".to_owned(), target: "/freehold".to_owned() },
            ]],
            config: ScratchConfig { entrypoint: vec!["/freehold".to_owned()], ..ScratchConfig::default() },
        }
    }

    async fn archive(image: ScratchImage) -> (String, Vec<u8>) {
        let sealed = image.seal().await.unwrap();
        let digest = sealed.config_digest();
        let pieces: Vec<Bytes> = sealed.archive().try_collect().await.unwrap();
        (digest, pieces.concat())
    }

    #[tokio::test]
    async fn the_same_description_gives_the_same_bytes() {
        let content = || FileSource::Bytes(Bytes::from_static(b"executable"));
        let first = archive(image(content())).await;
        assert_eq!(first, archive(image(content())).await);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("freehold");
        fs_err::write(&path, "executable").unwrap();
        assert_eq!(first, archive(image(FileSource::Path(path))).await);
        assert_ne!(first.0, archive(image(FileSource::Bytes(Bytes::from_static(b"other")))).await.0);
    }

    #[tokio::test]
    async fn the_archive_holds_the_layer_whose_digest_the_configuration_names() {
        let (digest, bytes) = archive(image(FileSource::Bytes(Bytes::from_static(b"executable")))).await;
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), content);
        }
        let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        let config = &files[manifest[0]["Config"].as_str().unwrap()];
        assert_eq!(format!("sha256:{}", hex(&Sha256::digest(config))), digest);
        let layer = &files[manifest[0]["Layers"][0].as_str().unwrap()];
        let config: serde_json::Value = serde_json::from_slice(config).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", hex(&Sha256::digest(layer))));
        let mut inner = tar::Archive::new(layer.as_slice());
        let names: Vec<String> = inner
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["state/", "freehold", "kamal-proxy", "link"]);
    }

    #[tokio::test]
    async fn a_file_that_changes_after_sealing_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("freehold");
        fs_err::write(&path, "executable").unwrap();
        let sealed = image(FileSource::Path(path.clone())).seal().await.unwrap();
        fs_err::write(&path, "EXECUTABLE").unwrap();
        let error = sealed.archive().try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(error.to_string(), "a file changed while it was read");
    }
}

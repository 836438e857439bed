use std::collections::BTreeMap;
use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::BuildRequest;
use super::context::{Context, ContextError, Extras};
use super::dockerfile::base_images;

/// A digest over everything that a build depends on: two builds of one key make the same application.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContentKey(String);

impl ContentKey {
    /// Returns 64 hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContentKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// What a key is made of beside the request and its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyFacts {
    /// What builds, with its settings that matter to the result.
    pub builder: String,
    /// The architectures that are built for.
    pub architectures: String,
    /// The digest of each base image.
    pub bases: BTreeMap<String, String>,
    /// The commit, if the context is a clone of it: what git keeps in `.git` differs between clones of one commit.
    pub clone_of: Option<String>,
}

/// Why a request has no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The context cannot be read.
    #[error("there is nothing to build from")]
    Context(#[from] ContextError),
    /// A file of the context cannot be read.
    #[error("a file of the build context cannot be read")]
    File(#[from] io::Error),
    /// The thread that read ended early.
    #[error("the build context was not read to its end")]
    Reading(#[from] tokio::task::JoinError),
}

impl BuildRequest {
    /// Returns the images that the Dockerfile builds upon; none where its text does not tell all that a build takes in.
    ///
    /// # Errors
    /// [`ContextError`] when there is no context or Dockerfile.
    pub fn base_images(&self) -> Result<Option<Vec<String>>, ContextError> {
        let context = Context::open(&self.context, &self.dockerfile)?;
        let path = context.dockerfile_path.clone();
        let text = fs_err::read(&path).map_err(|source| ContextError::Dockerfile { path, source })?;
        Ok(base_images(&String::from_utf8_lossy(&text), &self.args))
    }

    /// Returns the key of what this request would build. Names of secrets and SSH agents are in it, never their values;
    /// times and owners of files are not, because they do not reach the image as they are here.
    ///
    /// # Errors
    /// [`KeyError`] when files cannot be read.
    ///
    /// # Cancel safety
    /// Reads only; a thread may go on reading for a while.
    pub async fn content_key(&self, facts: &KeyFacts) -> Result<ContentKey, KeyError> {
        let (request, facts) = (self.clone(), facts.clone());
        tokio::task::spawn_blocking(move || key(&request, &facts)).await?
    }
}

/// Takes parts so that no two lists of parts give the same bytes.
struct Parts(Sha256);

impl Parts {
    fn add(&mut self, name: &str, part: impl AsRef<[u8]>) {
        for text in [name.as_bytes(), part.as_ref()] {
            self.0.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            self.0.update(text);
        }
    }
}

fn key(request: &BuildRequest, facts: &KeyFacts) -> Result<ContentKey, KeyError> {
    let context = Context::open(&request.context, &request.dockerfile)?;
    let mut parts = Parts(Sha256::new());
    parts.add("format", "1");
    parts.add("builder", &facts.builder);
    parts.add("architectures", &facts.architectures);
    for (image, digest) in &facts.bases {
        parts.add("base", format!("{image}={digest}"));
    }
    parts.add("target", request.target.as_deref().unwrap_or_default());
    for (name, value) in &request.args {
        parts.add("arg", format!("{name}={value}"));
    }
    for name in request.secrets.keys() {
        parts.add("secret", name.as_str());
    }
    for name in request.ssh_agents.keys() {
        parts.add("ssh", name);
    }
    for (name, value) in &request.labels {
        parts.add("label", format!("{name}={value}"));
    }
    parts.add("dockerfile", fs_err::read(&context.dockerfile_path)?);
    let mut has_git = false;
    context.visit(Extras::None, &mut |path, relative, metadata| {
        let is_git = relative == ".git" || relative.starts_with(".git/");
        if is_git && facts.clone_of.is_some() {
            has_git = true;
            return Ok(());
        }
        parts.add("path", relative);
        parts.add("entry", entry(path, metadata)?);
        Ok(())
    })?;
    if let Some(commit) = facts.clone_of.as_ref().filter(|_| has_git) {
        parts.add("commit", commit);
    }
    Ok(ContentKey(crate::scratch_image::hex(&parts.0.finalize())))
}

/// Describes a file, folder or link by what of it reaches an image.
fn entry(path: &Path, metadata: &Metadata) -> io::Result<String> {
    let kind = metadata.file_type();
    let mode = metadata.mode() & 0o7777;
    if kind.is_symlink() {
        return Ok(format!("link {}", fs_err::read_link(path)?.display()));
    }
    if kind.is_file() {
        let mut digest = Sha256::new();
        let mut file = fs_err::File::open(path)?;
        let mut piece = vec![0; 64 * 1024];
        loop {
            let count = io::Read::read(&mut file, &mut piece)?;
            match piece.get(..count) {
                Some([]) | None => break,
                Some(bytes) => digest.update(bytes),
            }
        }
        return Ok(format!("file {mode:o} {}", crate::scratch_image::hex(&digest.finalize())));
    }
    let name = if kind.is_dir() { "folder" } else { "special" };
    Ok(format!("{name} {mode:o} {}", if kind.is_dir() { 0 } else { metadata.rdev() }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use freehold_model::SecretName;
    use secrecy::SecretString;

    use super::*;

    fn project() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let file = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        };
        file("Dockerfile", "FROM ruby:3\nCOPY . /app\n");
        file(".dockerignore", "config/deploy.yml\n*.log\n");
        file("app/main.rb", "puts 1");
        file("config/deploy.yml", "service: x");
        file(".git/HEAD", "ref: refs/heads/main");
        folder
    }

    fn key_of(folder: &tempfile::TempDir, change: impl FnOnce(&mut BuildRequest, &mut KeyFacts)) -> String {
        let mut request = BuildRequest::new(folder.path());
        let mut facts = KeyFacts { builder: "engine".to_owned(), ..KeyFacts::default() };
        change(&mut request, &mut facts);
        key(&request, &facts).unwrap().to_string()
    }

    #[test]
    fn a_key_changes_with_everything_that_reaches_the_image() {
        let folder = project();
        let mut keys = vec![key_of(&folder, |_, _| ())];
        keys.push(key_of(&folder, |request, _| request.target = Some("run".to_owned())));
        keys.push(key_of(&folder, |request, _| drop(request.args.insert("A".into(), "1".into()))));
        keys.push(key_of(&folder, |request, _| drop(request.args.insert("A".into(), "2".into()))));
        keys.push(key_of(&folder, |request, _| drop(request.labels.insert("service".into(), "x".into()))));
        keys.push(key_of(&folder, |request, _| {
            drop(request.secrets.insert(SecretName::parse("TOKEN").unwrap(), SecretString::from("marked")));
        }));
        keys.push(key_of(&folder, |request, _| {
            drop(request.ssh_agents.insert("default".into(), "/run/agent".into()));
        }));
        keys.push(key_of(&folder, |_, facts| facts.builder = "buildx".to_owned()));
        keys.push(key_of(&folder, |_, facts| facts.architectures = "arm64".to_owned()));
        keys.push(key_of(&folder, |_, facts| drop(facts.bases.insert("ruby:3".into(), "sha256:1".into()))));
        keys.push(key_of(&folder, |_, facts| drop(facts.bases.insert("ruby:3".into(), "sha256:2".into()))));
        let file = folder.path().join("app/main.rb");
        fs_err::write(&file, "puts 2").unwrap();
        keys.push(key_of(&folder, |_, _| ()));
        fs_err::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        keys.push(key_of(&folder, |_, _| ()));
        fs_err::rename(&file, folder.path().join("app/other.rb")).unwrap();
        keys.push(key_of(&folder, |_, _| ()));
        std::os::unix::fs::symlink("other.rb", &file).unwrap();
        keys.push(key_of(&folder, |_, _| ()));
        fs_err::create_dir(folder.path().join("empty")).unwrap();
        keys.push(key_of(&folder, |_, _| ()));
        fs_err::write(folder.path().join("Dockerfile"), "FROM ruby:3\nCOPY . /other\n").unwrap();
        keys.push(key_of(&folder, |_, _| ()));
        let mut unique = keys.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), keys.len(), "{keys:?}");
    }

    #[test]
    fn a_key_stays_with_what_does_not() {
        let folder = project();
        let first = key_of(&folder, |_, _| ());
        fs_err::write(folder.path().join("config/deploy.yml"), "service: x\nenv: {}").unwrap();
        fs_err::write(folder.path().join("x.log"), "ignored").unwrap();
        // Written again, with another time.
        fs_err::write(folder.path().join("app/main.rb"), "puts 1").unwrap();
        let tagged = key_of(&folder, |request, _| {
            request.tags = vec![freehold_model::ImageReference {
                repository: freehold_model::Repository::parse("x").unwrap(),
                tag: freehold_model::Tag::parse("2").unwrap(),
            }];
        });
        assert_eq!(first, tagged);
        let secret = |value: &str| {
            key_of(&folder, |request, _| {
                drop(request.secrets.insert(SecretName::parse("TOKEN").unwrap(), SecretString::from(value)));
            })
        };
        assert_eq!(secret("one"), secret("two"), "values of secrets are not in it");
    }

    #[test]
    fn a_clone_is_known_by_its_commit_and_not_by_what_git_keeps() {
        let folder = project();
        let of =
            |commit: Option<&str>| key_of(&folder, |_, facts| facts.clone_of = commit.map(ToOwned::to_owned));
        let (first, tree) = (of(Some("aaaa")), of(None));
        fs_err::write(folder.path().join(".git/FETCH_HEAD"), "other").unwrap();
        assert_eq!(of(Some("aaaa")), first);
        assert_ne!(of(Some("bbbb")), first);
        assert_ne!(of(None), tree, "a working tree is taken as it is");
        fs_err::write(folder.path().join(".dockerignore"), ".git\nconfig/deploy.yml\n").unwrap();
        assert_eq!(of(Some("aaaa")), of(Some("bbbb")), "an ignored `.git` does not count");
    }
}

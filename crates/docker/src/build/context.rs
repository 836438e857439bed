use std::fs::Metadata;
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::byte_channel::{ByteFlow, written_by};

use super::ignore::{Ignore, IgnorePatternError, Verdict};

/// A build context that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The folder is not there, or is not one.
    #[error("the build context `{}` is not a folder that can be read", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The Dockerfile is not there.
    #[error("there is no Dockerfile `{}`", path.display())]
    Dockerfile {
        /// Where it was looked for.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The list of files to leave out cannot be read.
    #[error("`{}` cannot be read", path.display())]
    IgnoreFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The list of files to leave out has a bad line.
    #[error("`{}` has a line that cannot be understood", path.display())]
    IgnorePattern {
        /// The file.
        path: PathBuf,
        /// Which.
        source: IgnorePatternError,
    },
}

/// The files that a build may use.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) folder: PathBuf,
    ignore: Ignore,
    /// Where the Dockerfile is.
    pub(crate) dockerfile_path: PathBuf,
    /// The Dockerfile's name in the archive.
    pub(crate) dockerfile: String,
    /// A Dockerfile from outside the folder, which joins the archive under `dockerfile`.
    outside: Option<Vec<u8>>,
}

impl Context {
    /// Looks at the folder and its `.dockerignore`. A relative Dockerfile is one in the folder.
    pub(crate) fn open(folder: &Path, dockerfile: &Path) -> Result<Self, ContextError> {
        let real = fs_err::canonicalize(folder)
            .and_then(|real| fs_err::read_dir(&real).map(|_| real))
            .map_err(|source| ContextError::Folder { path: folder.to_owned(), source })?;
        let path = real.join(dockerfile);
        let missing = |source| ContextError::Dockerfile { path: path.clone(), source };
        let text = fs_err::read(&path).map_err(missing)?;
        let own = fs_err::canonicalize(path.parent().unwrap_or(&real)).map_err(missing)?;
        let name = path.file_name().unwrap_or_default();
        let inside = own.join(name).strip_prefix(&real).ok().and_then(Path::to_str).map(str::to_owned);
        let ignore = Self::read_ignore(&real, &path)?;
        Ok(match inside {
            Some(dockerfile) => {
                Self { folder: real, ignore, dockerfile_path: path, dockerfile, outside: None }
            }
            None => {
                let dockerfile = ".dockerfile.outside-the-context".to_owned();
                Self { folder: real, ignore, dockerfile_path: path, dockerfile, outside: Some(text) }
            }
        })
    }

    /// `Dockerfile.dockerignore` beside the Dockerfile goes before `.dockerignore` in the folder.
    fn read_ignore(folder: &Path, dockerfile: &Path) -> Result<Ignore, ContextError> {
        let mut own = dockerfile.as_os_str().to_owned();
        own.push(".dockerignore");
        for path in [PathBuf::from(own), folder.join(".dockerignore")] {
            match fs_err::read_to_string(&path) {
                Ok(text) => {
                    return Ignore::parse(&text)
                        .map_err(|source| ContextError::IgnorePattern { path, source });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(ContextError::IgnoreFile { path, source }),
            }
        }
        Ok(Ignore::default())
    }

    /// Returns the context as a tar, read from the files as it is sent, with the Dockerfile in it.
    pub(crate) fn archive(self) -> ByteFlow {
        written_by(move |writer| {
            let mut archive = tar::Builder::new(writer);
            self.visit(Extras::BuildFiles, &mut |path, relative, metadata| {
                append(&mut archive, path, relative, metadata)
            })?;
            if let Some(text) = &self.outside {
                let mut header = tar::Header::new_gnu();
                header.set_mode(0o644);
                header.set_size(u64::try_from(text.len()).map_err(io::Error::other)?);
                archive.append_data(&mut header, &self.dockerfile, text.as_slice())?;
            }
            archive.finish()
        })
    }

    /// Calls `visit` with everything that is not ignored: folders before what is in them, names in order.
    pub(crate) fn visit(&self, extras: Extras, visit: &mut Visit<'_>) -> io::Result<()> {
        let mut walk = Walk { context: self, extras, visit, waiting: Vec::new() };
        walk.folder(&self.folder, "", None)
    }
}

/// Gets the path, the path within the context, and what is there.
pub(crate) type Visit<'a> = dyn FnMut(&Path, &str, &Metadata) -> io::Result<()> + 'a;

/// What is visited although it is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extras {
    /// Nothing.
    None,
    /// The Dockerfile and `.dockerignore`: a builder that gets a tar looks for both in it.
    BuildFiles,
}

struct Walk<'a, 'v> {
    context: &'a Context,
    extras: Extras,
    visit: &'a mut Visit<'v>,
    /// Ignored folders on the way to something that is not ignored.
    waiting: Vec<(PathBuf, String)>,
}

impl Walk<'_, '_> {
    fn folder(&mut self, folder: &Path, relative: &str, verdict: Option<&Verdict>) -> io::Result<()> {
        let mut entries = fs_err::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs_err::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| {
                io::Error::other(format!("`{}` is not a name in UTF-8", entry.path().display()))
            })?;
            let relative = if relative.is_empty() { name.to_owned() } else { format!("{relative}/{name}") };
            let path = entry.path();
            let own = self.context.ignore.judge(&relative, verdict);
            if fs_err::symlink_metadata(&path)?.is_dir() {
                self.sub_folder(path, relative, &own)?;
            } else if !own.ignored || self.is_extra(&relative) {
                self.parents()?;
                self.entry(&path, &relative)?;
            }
        }
        Ok(())
    }

    fn is_extra(&self, path: &str) -> bool {
        self.extras == Extras::BuildFiles && (path == self.context.dockerfile || path == ".dockerignore")
    }

    fn sub_folder(&mut self, path: PathBuf, relative: String, verdict: &Verdict) -> io::Result<()> {
        if !verdict.ignored {
            self.parents()?;
            self.entry(&path, &relative)?;
            return self.folder(&path, &relative, Some(verdict));
        }
        let dockerfile_inside =
            self.extras == Extras::BuildFiles && self.context.dockerfile.starts_with(&format!("{relative}/"));
        if !dockerfile_inside && !self.context.ignore.may_bring_back(&relative) {
            return Ok(());
        }
        let depth = self.waiting.len();
        self.waiting.push((path.clone(), relative.clone()));
        self.folder(&path, &relative, Some(verdict))?;
        self.waiting.truncate(depth);
        Ok(())
    }

    /// Visits the ignored folders above the entry that comes next.
    fn parents(&mut self) -> io::Result<()> {
        for (path, relative) in std::mem::take(&mut self.waiting) {
            self.entry(&path, &relative)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, relative: &str) -> io::Result<()> {
        let metadata = fs_err::symlink_metadata(path)?;
        // A socket cannot be sent; Docker's client leaves it out too.
        if metadata.file_type().is_socket() {
            return Ok(());
        }
        (self.visit)(path, relative, &metadata)
    }
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    path: &Path,
    relative: &str,
    metadata: &Metadata,
) -> io::Result<()> {
    let kind = metadata.file_type();
    let mut header = tar::Header::new_gnu();
    header.set_metadata(metadata);
    // As Docker's client does: owners of this machine mean nothing in the image.
    header.set_uid(0);
    header.set_gid(0);
    if kind.is_file() {
        let file = fs_err::File::open(path)?;
        let size = file.metadata()?.size();
        header.set_size(size);
        let mut content = io::Read::take(file, size);
        archive.append_data(&mut header, relative, &mut content)?;
        if content.limit() > 0 {
            return Err(io::Error::other(format!("`{}` became shorter while it was read", path.display())));
        }
        return Ok(());
    }
    header.set_size(0);
    if kind.is_dir() {
        archive.append_data(&mut header, format!("{relative}/"), io::empty())
    } else if kind.is_symlink() {
        archive.append_link(&mut header, relative, fs_err::read_link(path)?)
    } else {
        archive.append_data(&mut header, relative, io::empty())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use futures_util::TryStreamExt;

    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, format!("content of {file}")).unwrap();
        }
        folder
    }

    async fn sent(context: Context) -> BTreeMap<String, String> {
        let pieces: Vec<bytes::Bytes> = context.archive().try_collect().await.unwrap();
        let mut archive = BTreeMap::new();
        for entry in tar::Archive::new(pieces.concat().as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            archive.insert(entry.path().unwrap().display().to_string(), content);
        }
        archive
    }

    async fn names(folder: &tempfile::TempDir, dockerfile: &str) -> Vec<String> {
        sent(Context::open(folder.path(), Path::new(dockerfile)).unwrap()).await.into_keys().collect()
    }

    #[tokio::test]
    async fn ignored_files_stay_and_the_dockerfile_goes() {
        let folder = folder(&["Dockerfile", "a/x.log", "a/y", "b/deep/keep", "b/deep/drop", "c/z", "secret"]);
        let ignore = "**/*.log\nb\n!b/deep/keep\nDockerfile\n.dockerignore\nc\nsecret";
        fs_err::write(folder.path().join(".dockerignore"), ignore).unwrap();
        assert_eq!(
            names(&folder, "Dockerfile").await,
            [".dockerignore", "Dockerfile", "a/", "a/y", "b/", "b/deep/", "b/deep/keep"]
        );
    }

    #[tokio::test]
    async fn a_dockerfile_may_have_a_list_of_its_own_and_lie_in_an_ignored_folder() {
        let folder = folder(&["docker/web", "docker/other", "app", "big"]);
        fs_err::write(folder.path().join(".dockerignore"), "app").unwrap();
        fs_err::write(folder.path().join("docker/web.dockerignore"), "big\ndocker").unwrap();
        assert_eq!(names(&folder, "docker/web").await, [".dockerignore", "app", "docker/", "docker/web"]);
    }

    #[tokio::test]
    async fn a_dockerfile_from_elsewhere_joins_the_archive() {
        let context = folder(&["app"]);
        let elsewhere = folder(&["Dockerfile"]);
        let opened = Context::open(context.path(), &elsewhere.path().join("Dockerfile")).unwrap();
        let name = opened.dockerfile.clone();
        assert_eq!(sent(opened).await[&name], "content of Dockerfile");
    }

    #[tokio::test]
    async fn links_and_long_names_survive() {
        let long = "n".repeat(120);
        let folder = folder(&["Dockerfile", &long]);
        std::os::unix::fs::symlink("Dockerfile", folder.path().join("link")).unwrap();
        std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        assert_eq!(names(&folder, "Dockerfile").await, ["Dockerfile", "link", &long]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = folder(&["app"]);
        assert!(matches!(
            Context::open(folder.path(), Path::new("Dockerfile")),
            Err(ContextError::Dockerfile { .. })
        ));
        let nowhere = folder.path().join("nowhere");
        assert!(matches!(Context::open(&nowhere, Path::new("Dockerfile")), Err(ContextError::Folder { .. })));
        fs_err::write(folder.path().join(".dockerignore"), "ok\n[x").unwrap();
        assert!(matches!(
            Context::open(folder.path(), Path::new("app")),
            Err(ContextError::IgnorePattern { .. })
        ));
    }
}

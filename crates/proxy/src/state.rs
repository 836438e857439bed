//! What survives a restart: the services, their targets and the fencing numbers.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use freehold_model::ProxyServiceName;
use freehold_wire::{KAMAL_STATE_FILE, KamalService, ServiceSnapshot, read_kamal_state, write_kamal_state};
use fs_err::os::unix::fs::OpenOptionsExt;
use serde::{Deserialize, Serialize};

const FILE_NAME: &str = "freehold-proxy.state";
const FORMAT: u32 = 1;

/// The state as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    format: u32,
    /// The number of the last change.
    pub(crate) generation: u64,
    /// The greatest fencing number seen, by service; kept when a service is removed.
    pub(crate) fences: BTreeMap<ProxyServiceName, u64>,
    /// The services.
    pub(crate) services: Vec<ServiceSnapshot>,
}

impl State {
    /// Makes a state.
    pub(crate) fn new(
        generation: u64,
        fences: BTreeMap<ProxyServiceName, u64>,
        services: Vec<ServiceSnapshot>,
    ) -> Self {
        Self { format: FORMAT, generation, fences, services }
    }
}

/// The state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("the folder cannot be made")]
    Folder { source: io::Error },
    #[error("cannot read the state file")]
    Read { source: io::Error },
    #[error("the state file `{path}` is damaged and was set aside as `{aside}`", path = path.display(), aside = aside.display())]
    Damaged { path: PathBuf, aside: PathBuf, source: serde_json::Error },
    #[error("the state file `{path}` has format {format}, which this version does not know; it was set aside as `{aside}`", path = path.display(), aside = aside.display())]
    Format { path: PathBuf, aside: PathBuf, format: u32 },
    #[error("cannot write the state file")]
    Write { source: io::Error },
}

/// The file that holds the state.
#[derive(Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// Names the file in a folder, which is made where there is none.
    ///
    /// # Errors
    /// [`StateError::Folder`] where the folder cannot be made.
    pub(crate) fn in_folder(folder: &Path) -> Result<Self, StateError> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| StateError::Folder { source })?;
        Ok(Self { path: folder.join(FILE_NAME) })
    }

    /// Reads the state; none where there is no file yet.
    ///
    /// # Errors
    /// A file that cannot be understood is moved aside, so that nothing overwrites it, and the error says where to.
    pub(crate) fn load(&self) -> Result<Option<State>, StateError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let text = match fs_err::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::Read { source }),
        };
        let path = self.path.clone();
        match serde_json::from_slice::<Format>(&text) {
            Ok(Format { format: FORMAT }) => {}
            Ok(Format { format }) => {
                return Err(StateError::Format { path, aside: self.set_aside()?, format });
            }
            Err(source) => return Err(StateError::Damaged { path, aside: self.set_aside()?, source }),
        }
        match serde_json::from_slice(&text) {
            Ok(state) => Ok(Some(state)),
            Err(source) => Err(StateError::Damaged { path, aside: self.set_aside()?, source }),
        }
    }

    fn set_aside(&self) -> Result<PathBuf, StateError> {
        let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let aside = self.path.with_extension(format!("damaged-{stamp}"));
        fs_err::rename(&self.path, &aside).map_err(|source| StateError::Write { source })?;
        Ok(aside)
    }

    /// Reads what kamal-proxy stored after us, as it did where it served in our place. None where it did not.
    ///
    /// # Errors
    /// [`StateError::Read`], also for a file that is not kamal-proxy's.
    pub(crate) fn load_kamal(&self) -> Result<Option<Vec<KamalService>>, StateError> {
        let written = |path: &Path| match fs_err::metadata(path).and_then(|metadata| metadata.modified()) {
            Ok(time) => Ok(Some(time)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateError::Read { source }),
        };
        let path = self.kamal_path();
        match (written(&path)?, written(&self.path)?) {
            (Some(theirs), ours) if ours.is_none_or(|ours| theirs > ours) => {
                let text = fs_err::read(&path).map_err(|source| StateError::Read { source })?;
                let services =
                    read_kamal_state(&text).map_err(|error| StateError::Read { source: error.into() })?;
                Ok(Some(services))
            }
            _ => Ok(None),
        }
    }

    /// Keeps a copy of what kamal-proxy stored, because not all of it could be carried over and the next change replaces it.
    ///
    /// # Errors
    /// [`StateError::Write`], as in a folder that may only be read.
    pub(crate) fn keep_kamal(&self) -> Result<PathBuf, StateError> {
        let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let path = self.kamal_path();
        let kept = path.with_extension(format!("state.kept-{stamp}"));
        fs_err::copy(&path, &kept).map_err(|source| StateError::Write { source })?;
        Ok(kept)
    }

    fn kamal_path(&self) -> PathBuf {
        self.path.with_file_name(KAMAL_STATE_FILE)
    }

    /// Replaces the file: after a crash there is the old state or the new one, never a part.
    ///
    /// # Errors
    /// [`StateError::Write`]; the old file stays.
    pub(crate) fn save(&self, state: &State) -> Result<(), StateError> {
        self.replace(state).map_err(|source| StateError::Write { source })
    }

    fn replace(&self, state: &State) -> io::Result<()> {
        // A kamal-proxy that takes our place serves the same. Ours is written last, which makes it the newer one.
        put(&self.kamal_path(), &write_kamal_state(&state.services)?, 0o644)?;
        put(&self.path, &serde_json::to_vec_pretty(state)?, 0o600)?;
        match self.path.parent() {
            Some(folder) => fs_err::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

/// Puts a file in the place of another in one step.
fn put(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let fresh = path.with_extension("state.new");
    let mut file =
        fs_err::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs_err::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let text = r#"{"name":"shop-web","targets":["web:3000"],"settings":{"hosts":["shop.example.com"]},"generation":3}"#;
        let name = ProxyServiceName::parse("shop-web").unwrap();
        State::new(3, BTreeMap::from([(name, 7)]), vec![serde_json::from_str(text).unwrap()])
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::in_folder(&folder.path().join("a/b")).unwrap();
        assert_eq!(file.load().unwrap(), None);
        file.save(&state()).unwrap();
        assert_eq!(file.load().unwrap(), Some(state()));
        file.save(&State::new(4, BTreeMap::new(), Vec::new())).unwrap();
        assert_eq!(file.load().unwrap().unwrap().generation, 4);
    }

    #[test]
    fn a_file_that_is_not_understood_is_kept_aside() {
        let whole = serde_json::to_vec(&state()).unwrap();
        let newer = String::from_utf8(whole.clone()).unwrap().replace("\"format\":1", "\"format\":9");
        for text in [&b""[..], b"{", &whole[..whole.len() / 2], b"[]", br#"{"format":1}"#, newer.as_bytes()] {
            let folder = tempfile::tempdir().unwrap();
            let file = StateFile::in_folder(folder.path()).unwrap();
            fs_err::write(&file.path, text).unwrap();
            let error = file.load().unwrap_err();
            let (StateError::Damaged { aside, .. } | StateError::Format { aside, .. }) = &error else {
                panic!("{error:?}")
            };
            assert_eq!(fs_err::read(aside).unwrap(), text, "{error}");
            assert_eq!(file.load().unwrap(), None);
        }
    }

    /// kamal-compat §16 row 17: one proxy takes the place of the other with the state in their volume.
    #[test]
    fn what_kamal_proxy_stored_after_us_counts() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::in_folder(folder.path()).unwrap();
        assert!(file.load_kamal().unwrap().is_none());
        file.save(&state()).unwrap();
        assert!(file.load_kamal().unwrap().is_none(), "what we wrote for kamal-proxy is no news");
        let theirs = fs_err::read(file.kamal_path()).unwrap();
        let services = read_kamal_state(&theirs).unwrap();
        assert_eq!(services[0].snapshot(3).unwrap(), state().services[0]);

        let changed = String::from_utf8(theirs).unwrap().replace("web:3000", "web:4000");
        fs_err::write(file.kamal_path(), changed).unwrap();
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
        let touched = fs_err::OpenOptions::new().write(true).open(file.kamal_path()).unwrap();
        touched.set_modified(later).unwrap();
        let services = file.load_kamal().unwrap().unwrap();
        assert_eq!(services[0].targets(), ["web:4000"]);

        fs_err::remove_file(&file.path).unwrap();
        assert_eq!(file.load_kamal().unwrap().unwrap().len(), 1, "where there is nothing of ours");
        fs_err::write(file.kamal_path(), "{").unwrap();
        assert!(file.load_kamal().is_err());
        assert_eq!(fs_err::read(file.keep_kamal().unwrap()).unwrap(), b"{");
    }

    #[test]
    fn a_failed_save_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::in_folder(folder.path()).unwrap();
        file.save(&state()).unwrap();
        fs_err::create_dir(file.path.with_extension("state.new")).unwrap();
        assert!(file.save(&State::new(9, BTreeMap::new(), Vec::new())).is_err());
        assert_eq!(file.load().unwrap(), Some(state()));
    }
}

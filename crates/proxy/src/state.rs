//! What survives a restart: the services, their targets and the fencing numbers.

mod guarded;
mod salvage;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use freehold_model::ProxyServiceName;
use freehold_wire::{KAMAL_STATE_FILE, KamalService, ServiceSnapshot, read_kamal_state, write_kamal_state};
use fs_err::os::unix::fs::OpenOptionsExt;
use serde::{Deserialize, Serialize};

pub(crate) use guarded::Guarded;
use salvage::{Copy, Salvaged, salvage, write_copy};

const FILE_NAME: &str = "freehold-proxy.state";
/// The copy, from which a damaged file is put together again.
const COPY_NAME: &str = "freehold-proxy.state.copy";
/// Where a damaged file is kept.
const DAMAGED_NAME: &str = "freehold-proxy.state.damaged";

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

/// What was found when the proxy started.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub(crate) state: State,
    pub(crate) damage: Option<Damage>,
}

/// That the file was damaged, and what it comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// The services that could not be saved.
    pub(crate) lost: Vec<String>,
    /// Where the file is kept as it was.
    pub(crate) aside: PathBuf,
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

    /// Reads the state; none where there is no file yet. Of a damaged file everything is used that is whole, there or in the
    /// copy; the file is kept aside as it was, and [`StateFile::repair`] replaces it.
    ///
    /// # Errors
    /// Where nothing of the file can be used, or a newer version wrote it, it is moved aside, and the error says where to.
    pub(crate) fn load(&self) -> Result<Option<Loaded>, StateError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Some(text) = read(&self.path)? else {
            // Whoever removes the file removes its copy, too, where the services are to be forgotten.
            let copy = Copy::read(&read(&self.copy_path()).ok().flatten().unwrap_or_default());
            let state = salvage(&[], copy).map(|Salvaged { state, .. }| state);
            return Ok(state.map(|state| Loaded { state, damage: None }));
        };
        let path = self.path.clone();
        if let Ok(Format { format }) = serde_json::from_slice::<Format>(&text)
            && format > FORMAT
        {
            return Err(StateError::Format { path, aside: self.set_aside()?, format });
        }
        // Without a copy, as an earlier version leaves none, the file is what there is.
        let copy = Copy::read(&read(&self.copy_path()).ok().flatten().unwrap_or_default());
        let parsed = serde_json::from_slice::<State>(&text).and_then(|state| match state.format {
            FORMAT => Ok(state),
            format => Err(serde::de::Error::custom(format!("there is no format {format}"))),
        });
        let error = match parsed {
            Ok(state) if copy.is_of(&text) || !copy.is_newer_than(&state) => {
                return Ok(Some(Loaded { state, damage: None }));
            }
            Ok(_) => None,
            Err(error) => Some(error),
        };
        match (salvage(&text, copy), error) {
            (Some(Salvaged { state, lost }), _) => {
                let aside = self.aside();
                // In a folder that may only be read nothing is overwritten either.
                fs_err::copy(&self.path, &aside).ok();
                Ok(Some(Loaded { state, damage: Some(Damage { lost, aside }) }))
            }
            (None, Some(source)) => Err(StateError::Damaged { path, aside: self.set_aside()?, source }),
            (None, None) => Ok(None),
        }
    }

    fn set_aside(&self) -> Result<PathBuf, StateError> {
        let aside = self.aside();
        fs_err::rename(&self.path, &aside).map_err(|source| StateError::Write { source })?;
        Ok(aside)
    }

    /// One name for all: what was damaged last is what somebody may want to look at, and copies must not fill the disk.
    fn aside(&self) -> PathBuf {
        self.path.with_file_name(DAMAGED_NAME)
    }

    /// Puts what was saved of a damaged file in its place, with a fresh copy. What is written for kamal-proxy stays.
    ///
    /// # Errors
    /// [`StateError::Write`], as in a folder that may only be read.
    pub(crate) fn repair(&self, state: &State) -> Result<(), StateError> {
        self.replace_own(state).map_err(|source| StateError::Write { source })
    }

    /// Reads which services have rules that only our own files tell. None where no file says so; one that cannot be read
    /// is there, and may name any.
    pub(crate) fn guarded(&self) -> Option<Guarded> {
        match read(&self.guarded_path()) {
            Ok(None) => None,
            Ok(Some(text)) => Some(Guarded::read(&text)),
            Err(_) => Some(Guarded::Unknown),
        }
    }

    fn guarded_path(&self) -> PathBuf {
        self.path.with_file_name(guarded::FILE_NAME)
    }

    /// Returns the file that a service names in the place of rules that are lost: it is there, and lets nobody in.
    pub(crate) fn lost_rules(&self) -> io::Result<PathBuf> {
        let path = self.path.with_file_name(guarded::LOST_NAME);
        put(&path, guarded::LOST_TEXT.as_bytes(), 0o600)?;
        Ok(path)
    }

    fn copy_path(&self) -> PathBuf {
        self.path.with_file_name(COPY_NAME)
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
        self.replace_own(state)
    }

    fn replace_own(&self, state: &State) -> io::Result<()> {
        let guarded = guarded::write(&state.services);
        if read(&self.guarded_path()).ok().flatten().as_deref() != Some(&guarded) {
            put(&self.guarded_path(), &guarded, 0o600)?;
        }
        let (text, copy) = write(state)?;
        put(&self.copy_path(), &copy, 0o600)?;
        put(&self.path, &text, 0o600)?;
        match self.path.parent() {
            Some(folder) => fs_err::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

/// Writes the file of a state and its copy.
fn write(state: &State) -> serde_json::Result<(Vec<u8>, Vec<u8>)> {
    let text = serde_json::to_vec_pretty(state)?;
    let copy = write_copy(state, &text)?;
    Ok((text, copy))
}

#[cfg(any(feature = "fuzzing", test))]
pub(crate) fn written(state: &State) -> serde_json::Result<(Vec<u8>, Vec<u8>)> {
    write(state)
}

#[cfg(any(feature = "fuzzing", test))]
pub(crate) fn rebuild(file: &[u8], copy: &[u8]) -> Option<Salvaged> {
    salvage(file, Copy::read(copy))
}

/// Reads a file; none where there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    match fs_err::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::Read { source }),
    }
}

/// Puts a file in the place of another in one step.
fn put(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let fresh = path.with_added_extension("new");
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

    fn state_in(file: &StateFile) -> Option<State> {
        let loaded = file.load().unwrap()?;
        assert_eq!(loaded.damage, None);
        Some(loaded.state)
    }

    /// A state of several services, as the file has them.
    fn several() -> State {
        let names = ["api", "blog", "shop"];
        let services = names.map(|name| {
            let text = format!(
                r#"{{"name":"{name}","targets":["{name}:3000"],"settings":{{"hosts":["{name}.example.com"]}},"generation":3}}"#
            );
            serde_json::from_str(&text).unwrap()
        });
        let fences = names.map(|name| (ProxyServiceName::parse(name).unwrap(), 7));
        State::new(5, BTreeMap::from(fences), services.to_vec())
    }

    /// Damages the file in every way, with the copy and without; returns what was lost each time, and what is left.
    fn damaged(text: &[u8], original: &[u8], copy: Option<&[u8]>) -> Option<Loaded> {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::in_folder(folder.path()).unwrap();
        fs_err::write(&file.path, text).unwrap();
        if let Some(copy) = copy {
            fs_err::write(file.copy_path(), copy).unwrap();
        }
        match file.load() {
            Ok(loaded) => {
                if let Some(Loaded { damage: Some(damage), .. }) = &loaded {
                    assert_eq!(fs_err::read(&damage.aside).unwrap(), text, "kept as it was");
                }
                loaded
            }
            Err(StateError::Damaged { aside, .. } | StateError::Format { aside, .. }) => {
                assert_eq!(fs_err::read(aside).unwrap(), text);
                assert_ne!(text, original);
                None
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    fn written(state: &State) -> (Vec<u8>, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::in_folder(folder.path()).unwrap();
        file.save(state).unwrap();
        (fs_err::read(&file.path).unwrap(), fs_err::read(file.copy_path()).unwrap())
    }

    #[test]
    fn a_file_cut_at_any_byte_loses_nothing_that_the_copy_has() {
        let (text, copy) = written(&several());
        for length in 0..text.len() {
            let loaded = damaged(&text[..length], &text, Some(&copy)).unwrap();
            assert_eq!(loaded.state, several(), "{length}");
            assert_eq!(loaded.damage.unwrap().lost, [""; 0]);
        }
        // Where both are cut, what is in one of them is there, and what is in none is named.
        for length in 0..text.len() {
            let cut = length * copy.len() / text.len();
            let Some(loaded) = damaged(&text[..length], &text, Some(&copy[..cut])) else { continue };
            let names: Vec<_> =
                loaded.state.services.iter().map(|service| service.name.to_string()).collect();
            let lost = loaded.damage.unwrap().lost;
            assert!(loaded.state.services.iter().all(|service| several().services.contains(service)));
            if cut > copy.iter().position(|byte| *byte == b'\n').unwrap() {
                assert_eq!(names.len() + lost.len(), 3, "{names:?} {lost:?}");
            }
        }
    }

    #[test]
    fn a_byte_that_is_not_what_it_was_costs_one_service_at_most_and_changes_none() {
        let (text, copy) = written(&several());
        for at in 0..text.len() {
            let mut flipped = text.clone();
            flipped[at] ^= [1_u8, 0x10, 0x80][at % 3];
            // In the file: the copy knows better.
            let loaded = damaged(&flipped, &text, Some(&copy));
            if let Some(loaded) = &loaded {
                assert_eq!(loaded.state.services, several().services, "{at}");
            }
            assert!(loaded.is_some() || String::from_utf8_lossy(&flipped).contains("\"format\": "), "{at}");
            // Without a copy, as an earlier version leaves the file, what is not valid any more is one service.
            if let Some(Loaded { state, damage: Some(damage) }) = damaged(&flipped, &text, None) {
                assert!(state.services.len() >= 2, "{at} {damage:?}");
                assert!(damage.lost.len() <= 1, "{at} {damage:?}");
            }
        }
        for at in 0..copy.len() {
            let mut flipped = copy.clone();
            flipped[at] ^= 1;
            // In the copy: the file is whole, and nobody needs it.
            assert_eq!(
                damaged(&text, &text, Some(&flipped)).unwrap().state.services,
                several().services,
                "{at}"
            );
        }
    }

    #[test]
    fn a_service_that_this_version_does_not_know_is_named_and_the_others_serve() {
        let (text, _) = written(&several());
        let text = String::from_utf8(text).unwrap();
        let unknown = text.replacen("\"blog:3000\"", "\"blog:3000\"\n      ],\n      \"colour\": [", 1);
        let loaded = damaged(unknown.as_bytes(), text.as_bytes(), None).unwrap();
        let names: Vec<_> = loaded.state.services.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, ["api", "shop"]);
        assert_eq!((loaded.state.generation, loaded.state.fences.len()), (5, 3));
        assert_eq!(loaded.damage.unwrap().lost, ["blog"]);
        // A file of a version that leaves no copy, and one that was written after the copy, count as they are.
        assert_eq!(damaged(text.as_bytes(), b"", None).unwrap(), Loaded { state: several(), damage: None });
        let (later, _) = written(&State::new(9, BTreeMap::new(), Vec::new()));
        let (_, copy) = written(&several());
        let loaded = damaged(&later, b"", Some(&copy)).unwrap();
        assert_eq!((loaded.state.generation, loaded.damage), (9, None));
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::in_folder(&folder.path().join("a/b")).unwrap();
        assert_eq!(file.load().unwrap(), None);
        file.save(&state()).unwrap();
        assert_eq!(state_in(&file), Some(state()));
        file.save(&State::new(4, BTreeMap::new(), Vec::new())).unwrap();
        assert_eq!(state_in(&file).unwrap().generation, 4);
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
        fs_err::create_dir(file.copy_path().with_added_extension("new")).unwrap();
        assert!(file.save(&State::new(9, BTreeMap::new(), Vec::new())).is_err());
        assert_eq!(state_in(&file), Some(state()));
    }
}

//! What survives a restart: for each schedule one file with its jobs, one with its runs, and one for what each run wrote.

use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use freehold_model::{JobName, ScheduleName};
use fs_err::os::unix::fs::OpenOptionsExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::book::{Book, History, Plan};
use crate::error::chain;
use crate::output::Output;

const FORMAT: u32 = 1;

/// What stands in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<T> {
    format: u32,
    content: T,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it is damaged")]
    Damaged(#[source] serde_json::Error),
    #[error("it has format {0}, which this version does not know")]
    Format(u32),
    #[error("it is about schedule `{0}`")]
    Name(ScheduleName),
}

/// The folder with the files.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
}

impl Store {
    /// Names the folder, which is made where there is none.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub(crate) fn in_folder(folder: &Path) -> io::Result<Self> {
        for folder in [folder.to_owned(), folder.join("schedules"), folder.join("output")] {
            make_folder(&folder)?;
        }
        Ok(Self { folder: folder.to_owned() })
    }

    fn plan_path(&self, name: &ScheduleName) -> PathBuf {
        self.folder.join("schedules").join(format!("{name}.jobs.json"))
    }

    fn history_path(&self, name: &ScheduleName) -> PathBuf {
        self.folder.join("schedules").join(format!("{name}.runs.json"))
    }

    fn output_folder(&self, name: &ScheduleName) -> PathBuf {
        self.folder.join("output").join(name.as_str())
    }

    fn output_path(&self, name: &ScheduleName, (job, run): (&JobName, u64)) -> PathBuf {
        self.output_folder(name).join(format!("{job}-{run}.json"))
    }

    /// Reads every schedule. A file that cannot be used is moved aside, so that nothing overwrites it, and named in the
    /// log; the other schedules are not concerned.
    ///
    /// # Errors
    /// Why the folder or a file cannot be read at all.
    pub(crate) fn load(&self) -> io::Result<Vec<Book>> {
        let mut books = Vec::new();
        for entry in fs_err::read_dir(self.folder.join("schedules"))? {
            let path = entry?.path();
            let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(name) = file.strip_suffix(".jobs.json").and_then(|name| ScheduleName::parse(name).ok())
            else {
                continue;
            };
            let read: Result<Plan, Unusable> = parse(&fs_err::read(&path)?);
            let plan = match read {
                Ok(plan) if plan.name == name => plan,
                Ok(plan) => {
                    self.set_aside(&path, &Unusable::Name(plan.name))?;
                    continue;
                }
                Err(error) => {
                    self.set_aside(&path, &error)?;
                    continue;
                }
            };
            let history = self.load_history(&name)?;
            books.push(Book { plan, history });
        }
        Ok(books)
    }

    fn load_history(&self, name: &ScheduleName) -> io::Result<History> {
        let path = self.history_path(name);
        let text = match fs_err::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(History::default()),
            Err(error) => return Err(error),
        };
        match parse(&text) {
            Ok(history) => Ok(history),
            Err(error) => {
                self.set_aside(&path, &error)?;
                Ok(History::default())
            }
        }
    }

    fn set_aside(&self, path: &Path, error: &Unusable) -> io::Result<()> {
        let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let mut aside = path.to_owned().into_os_string();
        aside.push(format!(".damaged-{stamp}"));
        fs_err::rename(path, &aside)?;
        let (path, aside) = (path.display(), aside.display());
        tracing::error!(%path, %aside, error = chain(error), "a file cannot be used and was set aside");
        Ok(())
    }

    /// Replaces the file with the jobs of a schedule.
    ///
    /// # Errors
    /// Why it cannot be written; the old file stays.
    pub(crate) fn save_plan(&self, plan: &Plan) -> io::Result<()> {
        put(&self.plan_path(&plan.name), plan)
    }

    /// Replaces the file with the runs of a schedule.
    ///
    /// # Errors
    /// Why it cannot be written; the old file stays.
    pub(crate) fn save_history(&self, name: &ScheduleName, history: &History) -> io::Result<()> {
        put(&self.history_path(name), history)
    }

    /// Writes down what a run wrote.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub(crate) fn save_output(
        &self,
        name: &ScheduleName,
        run: (&JobName, u64),
        output: &Output,
    ) -> io::Result<()> {
        make_folder(&self.output_folder(name))?;
        put(&self.output_path(name, run), output)
    }

    /// Reads what a run wrote; nothing where nothing is kept or it cannot be read.
    pub(crate) fn load_output(&self, name: &ScheduleName, run: (&JobName, u64)) -> Output {
        let text = fs_err::read(self.output_path(name, run)).unwrap_or_default();
        parse(&text).unwrap_or_default()
    }

    /// Removes what a run wrote. There may be nothing.
    ///
    /// # Errors
    /// Why it cannot be removed.
    pub(crate) fn remove_output(&self, name: &ScheduleName, run: (&JobName, u64)) -> io::Result<()> {
        is_gone(fs_err::remove_file(self.output_path(name, run)))
    }

    /// Removes the runs of a schedule and all that they wrote. There may be nothing.
    ///
    /// # Errors
    /// Why something cannot be removed.
    pub(crate) fn remove_runs(&self, name: &ScheduleName) -> io::Result<()> {
        is_gone(fs_err::remove_dir_all(self.output_folder(name)))?;
        is_gone(fs_err::remove_file(self.history_path(name)))
    }
}

/// Makes a folder that only its owner may look into.
fn make_folder(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn is_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, Unusable> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    match serde_json::from_slice::<Format>(text).map_err(Unusable::Damaged)? {
        Format { format: FORMAT } => {}
        Format { format } => return Err(Unusable::Format(format)),
    }
    let stored: Stored<T> = serde_json::from_slice(text).map_err(Unusable::Damaged)?;
    Ok(stored.content)
}

/// Puts a file in the place of another in one step: after a crash there is the old one or the new one. Only its owner may
/// read it, as it may hold secrets.
fn put<T: Serialize>(path: &Path, content: &T) -> io::Result<()> {
    let text = serde_json::to_vec(&Stored { format: FORMAT, content })?;
    let fresh = path.with_extension("json.new");
    let mut file =
        fs_err::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs_err::rename(&fresh, path)?;
    match path.parent() {
        Some(folder) => fs_err::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::book::tests::{book, time};

    #[test]
    fn what_is_saved_is_loaded_and_nobody_else_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::in_folder(folder.path()).unwrap();
        let mut book = book("app-web");
        book.due(time("2026-11-30T08:00:00Z"));
        store.save_plan(&book.plan).unwrap();
        store.save_history(&book.plan.name, &book.history).unwrap();
        let loaded = store.load().unwrap();
        assert_eq!(loaded.len(), 1);
        assert_eq!(loaded[0].history, book.history);
        assert_eq!(loaded[0].set().unwrap().0, book.set().unwrap().0);
        let mode = fs_err::metadata(store.plan_path(&book.plan.name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_costs_one_schedule_and_is_kept() {
        for text in ["", "{", "[]", r#"{"format":1}"#, r#"{"format":9,"content":{}}"#] {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::in_folder(folder.path()).unwrap();
            store.save_plan(&book("app-web").plan).unwrap();
            store.save_plan(&book("shop-web").plan).unwrap();
            fs_err::write(store.plan_path(&ScheduleName::parse("app-web").unwrap()), text).unwrap();
            let loaded = store.load().unwrap();
            assert_eq!(loaded.len(), 1, "{text}");
            assert_eq!(loaded[0].plan.name.as_str(), "shop-web");
            let aside =
                fs_err::read_dir(folder.path().join("schedules")).unwrap().map(|entry| entry.unwrap().path());
            let aside = aside.into_iter().find(|path| path.to_string_lossy().contains(".damaged-")).unwrap();
            assert_eq!(fs_err::read_to_string(aside).unwrap(), text);
        }
    }

    #[test]
    fn a_damaged_history_does_not_cost_the_jobs() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::in_folder(folder.path()).unwrap();
        let book = book("app-web");
        store.save_plan(&book.plan).unwrap();
        fs_err::write(store.history_path(&book.plan.name), "?").unwrap();
        let loaded = store.load().unwrap();
        assert_eq!(loaded[0].history, History::default());
        assert!(loaded[0].set().is_some());
    }

    #[test]
    fn what_a_run_wrote_is_kept_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::in_folder(folder.path()).unwrap();
        let (name, job) = (ScheduleName::parse("app-web").unwrap(), JobName::parse("tidy").unwrap());
        let mut output = Output::default();
        output.push("one".to_owned());
        store.save_output(&name, (&job, 3), &output).unwrap();
        let mode = fs_err::metadata(store.output_folder(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(store.load_output(&name, (&job, 3)).after(0), (0, vec!["one".to_owned()]));
        store.remove_output(&name, (&job, 3)).unwrap();
        store.remove_output(&name, (&job, 3)).unwrap();
        assert_eq!(store.load_output(&name, (&job, 3)), Output::default());
        store.remove_runs(&name).unwrap();
        store.remove_runs(&name).unwrap();
    }
}

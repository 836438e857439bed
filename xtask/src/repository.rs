use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The files of the repository and what cargo knows of its packages.
#[derive(Debug)]
pub(crate) struct Repository {
    pub(crate) root: PathBuf,
    pub(crate) packages: Vec<Package>,
    /// Every file that git does not ignore, relative to the root, in order.
    pub(crate) files: Vec<PathBuf>,
}

/// A member of the workspace.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Its folder, relative to the root.
    pub(crate) folder: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a package's dependencies.
#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// What the code calls it.
    pub(crate) alias: String,
    pub(crate) is_dev: bool,
}

impl Repository {
    pub(crate) fn read(root: &Path) -> Result<Self, String> {
        let metadata =
            output(root, "cargo", &["metadata", "--format-version", "1", "--no-deps", "--offline"])?;
        let metadata: Value = serde_json::from_str(&metadata).map_err(|error| error.to_string())?;
        let packages =
            list(&metadata, "packages").iter().map(|package| Package::read(root, package)).collect();
        let listed = output(root, "git", &["ls-files", "--cached", "--others", "--exclude-standard"])?;
        let files = listed.lines().map(PathBuf::from).filter(|file| root.join(file).is_file());
        let mut files: Vec<PathBuf> = files.collect();
        files.sort();
        Ok(Self { root: root.to_path_buf(), packages, files })
    }

    /// Reads a file, given relative to the root.
    pub(crate) fn text(&self, file: &Path) -> Result<String, String> {
        fs_err::read_to_string(self.root.join(file)).map_err(|error| error.to_string())
    }

    /// Returns the Rust files below a folder.
    pub(crate) fn rust_files<'a>(&'a self, folder: &'a Path) -> impl Iterator<Item = &'a Path> {
        let is_rust = |file: &&Path| file.extension().is_some_and(|extension| extension == "rs");
        self.files.iter().map(PathBuf::as_path).filter(move |file| file.starts_with(folder)).filter(is_rust)
    }
}

impl Package {
    fn read(root: &Path, package: &Value) -> Self {
        let manifest = Path::new(text(package, "manifest_path"));
        let folder = manifest.parent().and_then(|folder| folder.strip_prefix(root).ok());
        let dependency = |dependency: &Value| {
            let name = text(dependency, "name");
            let alias = dependency.get("rename").and_then(Value::as_str).unwrap_or(name).replace('-', "_");
            Dependency { name: name.to_owned(), alias, is_dev: text(dependency, "kind") == "dev" }
        };
        Self {
            name: text(package, "name").to_owned(),
            folder: folder.map(Path::to_path_buf).unwrap_or_default(),
            dependencies: list(package, "dependencies").iter().map(dependency).collect(),
        }
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Runs a program in the repository and returns what it printed.
pub(crate) fn output(root: &Path, program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root)
        .output()
        .map_err(|error| format!("cannot start `{program}`: {error}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{program} {}` ended with {}: {stderr}", arguments.join(" "), output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

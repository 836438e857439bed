//! The reference in `docs/reference`, written by the executable so that it cannot say anything else than the code does.

use std::path::{Path, PathBuf};

use crate::finding::Finding;
use crate::repository::{Repository, output};

/// Where the reference is.
const FOLDER: &str = "docs/reference";

/// The pages: the file, and its name for the hidden command that prints it.
const PAGES: [(&str, &str); 6] = [
    ("cli.md", "cli"),
    ("deploy-file.md", "deploy-file"),
    ("deploy-file.schema.json", "deploy-file-schema"),
    ("environment.md", "environment"),
    ("exit-codes.md", "exit-codes"),
    ("json.md", "json"),
];

/// Writes the pages, and removes those that are no more.
pub(crate) fn write(repository: &Repository) -> Result<(), String> {
    let folder = repository.root.join(FOLDER);
    fs_err::create_dir_all(&folder).map_err(|error| error.to_string())?;
    for page in strays(repository) {
        fs_err::remove_file(folder.join(page)).map_err(|error| error.to_string())?;
    }
    for (file, page) in PAGES {
        fs_err::write(folder.join(file), print(repository, page)?).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Compares the pages in the repository with those that the code gives.
pub(crate) fn check(repository: &Repository) -> Result<Vec<Finding>, String> {
    let mut findings = Vec::new();
    for (file, page) in PAGES {
        let file = Path::new(FOLDER).join(file);
        if repository.text(&file).ok() != Some(print(repository, page)?) {
            findings.push(Finding::file(file, "differs from the code: run `cargo xtask reference`"));
        }
    }
    for page in strays(repository) {
        findings.push(Finding::file(
            Path::new(FOLDER).join(page),
            "is not generated: run `cargo xtask reference`",
        ));
    }
    Ok(findings)
}

fn print(repository: &Repository, page: &str) -> Result<String, String> {
    output(&repository.root, "cargo", &["run", "--quiet", "--package", "freehold", "--", "reference", page])
}

/// Returns the files in the folder that are no page.
fn strays(repository: &Repository) -> Vec<PathBuf> {
    let present = repository.files.iter().filter_map(|file| file.strip_prefix(FOLDER).ok());
    let is_page = |file: &&Path| PAGES.iter().any(|(name, _)| Path::new(name) == *file);
    present.filter(|file| !is_page(file)).map(Path::to_path_buf).collect()
}

//! The reference in `docs/reference`, written from the code so that it cannot say anything else than the code does.

use std::path::{Path, PathBuf};

use freehold_model::ErrorKind;

use crate::finding::Finding;
use crate::repository::Repository;

/// Where the reference is.
const FOLDER: &str = "docs/reference";

/// Writes the pages, and removes those that are no more.
pub(crate) fn write(repository: &Repository) -> Result<(), String> {
    let folder = repository.root.join(FOLDER);
    fs_err::create_dir_all(&folder).map_err(|error| error.to_string())?;
    for page in strays(repository) {
        fs_err::remove_file(folder.join(page)).map_err(|error| error.to_string())?;
    }
    for (name, text) in pages() {
        fs_err::write(folder.join(name), text).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Compares the pages in the repository with those that the code gives.
pub(crate) fn check(repository: &Repository) -> Result<Vec<Finding>, String> {
    let mut findings = Vec::new();
    for (name, text) in pages() {
        let file = Path::new(FOLDER).join(name);
        if repository.text(&file).ok() != Some(text) {
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

fn pages() -> [(&'static str, String); 3] {
    [
        ("deploy-file.md", freehold_config::reference_markdown()),
        ("deploy-file.schema.json", freehold_config::json_schema()),
        ("exit-codes.md", exit_codes()),
    ]
}

fn exit_codes() -> String {
    let mut text =
        "# Exit codes\n\n<!-- Written by `cargo xtask reference`. -->\n\n| code | meaning |\n| --- | --- |\n\
                    | 0 | Done. |\n"
            .to_owned();
    for kind in ErrorKind::ALL {
        text.push_str(&format!("| {} | {} |\n", kind.exit_code(), kind.meaning()));
    }
    text
}

/// Returns the files in the folder that are no page.
fn strays(repository: &Repository) -> Vec<PathBuf> {
    let present = repository.files.iter().filter_map(|file| file.strip_prefix(FOLDER).ok());
    let pages = pages();
    let is_page = |file: &&Path| pages.iter().any(|(name, _)| Path::new(name) == *file);
    present.filter(|file| !is_page(file)).map(Path::to_path_buf).collect()
}

//! Files that a repository like this one has.

use std::path::Path;

use crate::finding::Finding;
use crate::repository::Repository;

const REQUIRED: [&str; 13] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "SECURITY.md",
    "clippy.toml",
    "deny.toml",
    "rustfmt.toml",
    "script/demo",
    "script/test",
];

pub(crate) fn check(repository: &Repository) -> Result<Vec<Finding>, String> {
    let mut findings: Vec<Finding> = Vec::new();
    for file in REQUIRED {
        if repository.text(Path::new(file)).unwrap_or_default().trim().is_empty() {
            findings.push(Finding::file(file, "is missing or empty"));
        }
    }
    let ci = repository.text(Path::new(".ci/run")).unwrap_or_default();
    if !ci.contains("script/test") {
        findings.push(Finding::file(".ci/run", "calls script/test and nothing else"));
    }
    Ok(findings)
}

//! Dependencies that no file of their package names.

use std::path::Path;

use crate::finding::Finding;
use crate::repository::Repository;
use crate::rust_text::{code_only, has_word};

pub(crate) fn check(repository: &Repository) -> Result<Vec<Finding>, String> {
    let mut findings = Vec::new();
    for package in &repository.packages {
        let mut code = String::new();
        for file in repository.rust_files(&package.folder) {
            code.push_str(&code_only(&repository.text(file)?));
        }
        for dependency in &package.dependencies {
            if !has_word(&code, &dependency.alias) {
                let message = format!("the dependency `{}` is not used", dependency.name);
                findings.push(Finding::file(package.folder.join(Path::new("Cargo.toml")), message));
            }
        }
    }
    Ok(findings)
}

//! Checks of the house style that neither the compiler nor clippy makes, and the generator of the reference.
//!
//! `cargo xtask check` runs every check; `cargo xtask layers` one of them; `cargo xtask reference` writes `docs/reference`;
//! `cargo xtask compat` lists the rows of the compatibility specifications, Kamal's and kamal-proxy's, that no test names.

mod check;
mod compat;
mod docs;
mod finding;
mod repository;
mod rust_text;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::finding::Finding;
use crate::repository::Repository;

/// A check by its name on the command line.
type Check = (&'static str, fn(&Repository) -> Result<Vec<Finding>, String>);

const CHECKS: [Check; 7] = [
    ("layers", check::layers::check),
    ("purity", check::purity::check),
    ("sources", check::sources::check),
    ("manifests", check::manifests::check),
    ("unused", check::unused::check),
    ("files", check::files::check),
    ("docs", docs::check),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = Repository::read(&root()).and_then(|repository| match arguments.as_slice() {
        ["check"] => run(&repository, &CHECKS),
        ["compat"] => run(&repository, &[("compat", compat::check)]),
        ["reference"] => docs::write(&repository).map(|()| true),
        [name] => match CHECKS.iter().find(|check| check.0 == *name) {
            Some(check) => run(&repository, &[*check]),
            None => Err(usage()),
        },
        _ => Err(usage()),
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            writeln!(std::io::stderr(), "error: {message}").ok();
            ExitCode::from(2)
        }
    }
}

fn run(repository: &Repository, checks: &[Check]) -> Result<bool, String> {
    let mut findings = Vec::new();
    for (_, check) in checks {
        findings.extend(check(repository)?);
    }
    findings.sort();
    let text: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| error.to_string())?;
    writeln!(std::io::stdout(), "{} checks, {} findings", checks.len(), findings.len()).ok();
    Ok(findings.is_empty())
}

fn usage() -> String {
    let names: Vec<&str> = CHECKS.iter().map(|check| check.0).collect();
    format!("usage: cargo xtask check | compat | reference | {}", names.join(" | "))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

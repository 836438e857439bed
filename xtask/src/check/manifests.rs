//! Dependencies: declared once in the workspace, without default features, from the registry; the lock has a budget.

use std::path::Path;

use crate::finding::Finding;
use crate::repository::Repository;

/// How many packages `Cargo.lock` may name. Raise it only in the commit that says what the new ones are for.
const LOCK_PACKAGES: usize = 370;

pub(crate) fn check(repository: &Repository) -> Result<Vec<Finding>, String> {
    let root = Path::new("Cargo.toml");
    let mut findings = workspace_findings(&repository.text(root)?);
    for package in &repository.packages {
        let manifest = package.folder.join("Cargo.toml");
        findings.extend(member_findings(&manifest, &repository.text(&manifest)?));
    }
    let lock = Path::new("Cargo.lock");
    let count = repository.text(lock)?.lines().filter(|line| *line == "[[package]]").count();
    if count > LOCK_PACKAGES {
        let message =
            format!("{count} packages; the budget is {LOCK_PACKAGES} (xtask/src/check/manifests.rs)");
        findings.push(Finding::file(lock, message));
    }
    Ok(findings)
}

/// Checks `[workspace.dependencies]`.
fn workspace_findings(text: &str) -> Vec<Finding> {
    let lines = section_lines(text, |section| section == "[workspace.dependencies]");
    let mut findings = Vec::new();
    for (number, line) in lines {
        let mut find = |message: &str| findings.push(Finding::line("Cargo.toml", number, message));
        if line.contains("git = ") {
            find("dependencies come from the registry, never from git");
        }
        if !line.contains("path = ") && !line.contains("default-features = false") {
            find("a dependency has `default-features = false` and lists its features");
        }
    }
    findings
}

/// Checks a member: its dependencies are the workspace's, its lints too.
fn member_findings(manifest: &Path, text: &str) -> Vec<Finding> {
    let is_list = |section: &str| section.trim_end_matches(']').ends_with("dependencies");
    let mut findings = Vec::new();
    for (number, line) in section_lines(text, is_list) {
        if !line.contains(".workspace = true") && !line.contains("workspace = true") {
            findings.push(Finding::line(manifest, number, "a dependency is declared once, in the workspace"));
        }
    }
    if !section_lines(text, |section| section == "[lints]").any(|(_, line)| line == "workspace = true") {
        findings
            .push(Finding::file(manifest, "a package has the workspace's lints: `[lints] workspace = true`"));
    }
    findings
}

/// Returns the lines, with their numbers, of the sections that a test picks.
fn section_lines(text: &str, is_wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = (usize, &str)> {
    let mut is_inside = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let line = line.trim();
        if line.starts_with('[') && line.ends_with(']') {
            is_inside = is_wanted(line);
            return None;
        }
        (is_inside && !line.is_empty() && !line.starts_with('#')).then_some((index + 1, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_declares_versions_without_default_features() {
        let text = "[workspace.dependencies]\na = { path = \"a\" }\nb = { version = \"1\", default-features = false }\n\
                    c = \"1\"\nd = { git = \"x\", default-features = false }\n\n[profile.dev]\ndebug = 1\n";
        let lines: Vec<String> = workspace_findings(text).iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines.iter().all(|line| line.starts_with("Cargo.toml:4:") || line.starts_with("Cargo.toml:5:"))
        );
    }

    #[test]
    fn members_take_everything_from_the_workspace() {
        let good = "[dependencies]\na.workspace = true\nb = { workspace = true, features = [\"x\"] }\n[lints]\nworkspace = true\n";
        assert!(member_findings(Path::new("a"), good).is_empty());
        let bad = "[dependencies]\na = \"1\"\n[dev-dependencies]\nb = { version = \"1\" }\n";
        assert_eq!(member_findings(Path::new("a"), bad).len(), 3);
    }
}

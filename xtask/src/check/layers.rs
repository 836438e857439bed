//! Who may import whom: the table of the layout, compared with the manifests.

use crate::finding::Finding;
use crate::repository::Repository;

/// One row of the table.
struct Row {
    name: &'static str,
    floor: u8,
    imports: Imports,
}

/// What a crate may import of ours.
enum Imports {
    /// Exactly these.
    Crates(&'static [&'static str]),
    /// Any crate of a floor up to this one.
    FloorsUpTo(u8),
}

/// The floor of the executable.
const TOP: u8 = 5;
/// The lowest floor whose tests may use the fakes.
const TESTKIT_FROM: u8 = 3;

const TABLE: [Row; 14] = [
    Row { name: "freehold", floor: TOP, imports: Imports::Crates(&["cli", "proxy", "agent", "model"]) },
    Row { name: "cli", floor: 4, imports: Imports::FloorsUpTo(3) },
    Row { name: "agent", floor: 4, imports: Imports::FloorsUpTo(3) },
    Row { name: "proxy", floor: 4, imports: Imports::Crates(&["wire", "model"]) },
    Row { name: "fleet", floor: 3, imports: Imports::FloorsUpTo(2) },
    Row { name: "ssh", floor: 2, imports: Imports::Crates(&["model"]) },
    Row { name: "docker", floor: 2, imports: Imports::Crates(&["model"]) },
    Row { name: "secrets", floor: 2, imports: Imports::Crates(&["model"]) },
    Row { name: "cloud", floor: 2, imports: Imports::Crates(&["model"]) },
    Row { name: "wire", floor: 2, imports: Imports::Crates(&["model"]) },
    Row { name: "postgres", floor: 1, imports: Imports::Crates(&["plan", "model"]) },
    Row { name: "plan", floor: 1, imports: Imports::Crates(&["model"]) },
    Row { name: "config", floor: 1, imports: Imports::Crates(&["model"]) },
    Row { name: "model", floor: 0, imports: Imports::Crates(&[]) },
];

/// Packages outside the floors, with the highest floor that they may import; `None` for none at all. The tests in
/// `e2e` drive the executable from outside.
const OUTSIDE: [(&str, Option<u8>); 4] =
    [("testkit", Some(3)), ("e2e", None), ("hello", None), ("xtask", None)];

pub(crate) fn check(repository: &Repository) -> Result<Vec<Finding>, String> {
    let mut findings = Vec::new();
    for package in &repository.packages {
        let manifest = package.folder.join("Cargo.toml");
        let name = short(&package.name);
        let row = TABLE.iter().find(|row| row.name == name);
        let outside = OUTSIDE.iter().find(|row| row.0 == name);
        if row.is_none() && outside.is_none() {
            findings
                .push(Finding::file(&manifest, format!("`{}` is not in the table of crates", package.name)));
        }
        for dependency in
            package.dependencies.iter().filter(|dependency| is_ours(repository, &dependency.name))
        {
            let imported = short(&dependency.name);
            let may = match (row, outside) {
                (Some(row), _) => {
                    may_import(row, imported) || (dependency.is_dev && may_test_with(row, imported))
                }
                (None, Some((_, top))) => floor(imported).zip(*top).is_some_and(|(floor, top)| floor <= top),
                (None, None) => true,
            };
            if !may {
                findings.push(Finding::file(&manifest, format!("`{name}` may not import `{imported}`")));
            }
        }
    }
    Ok(findings)
}

fn may_import(row: &Row, imported: &str) -> bool {
    match row.imports {
        Imports::Crates(crates) => crates.contains(&imported),
        Imports::FloorsUpTo(top) => floor(imported).is_some_and(|floor| floor <= top),
    }
}

fn may_test_with(row: &Row, imported: &str) -> bool {
    imported == "testkit" && row.floor >= TESTKIT_FROM
}

fn floor(name: &str) -> Option<u8> {
    TABLE.iter().find(|row| row.name == name).map(|row| row.floor)
}

/// Returns the crate's name as the table has it.
pub(crate) fn short(package: &str) -> &str {
    package.strip_prefix("freehold-").unwrap_or(package)
}

/// Returns the crates that have no clock, file, socket or environment.
pub(crate) fn pure_crates() -> impl Iterator<Item = &'static str> {
    TABLE.iter().filter(|row| row.floor <= 1).map(|row| row.name)
}

fn is_ours(repository: &Repository, name: &str) -> bool {
    repository.packages.iter().any(|package| package.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::{Dependency, Package};

    fn repository(packages: &[(&str, &str, bool)]) -> Repository {
        let package = |(name, imported, is_dev): &(&str, &str, bool)| Package {
            name: (*name).to_owned(),
            folder: format!("crates/{name}").into(),
            dependencies: vec![Dependency {
                name: (*imported).to_owned(),
                alias: imported.replace('-', "_"),
                is_dev: *is_dev,
            }],
        };
        let names = ["freehold-model", "freehold-fleet", "freehold-testkit", "freehold-cli", "freehold-ssh"];
        let empty =
            names.map(|name| Package { name: name.to_owned(), folder: "x".into(), dependencies: Vec::new() });
        let packages = packages.iter().map(package).chain(empty).collect();
        Repository { root: ".".into(), packages, files: Vec::new() }
    }

    #[test]
    fn imports_upwards_and_sideways_are_found() {
        for (name, imported, is_dev, is_allowed) in [
            ("freehold-cli", "freehold-fleet", false, true),
            ("freehold-fleet", "freehold-cli", false, false),
            ("freehold-ssh", "freehold-model", false, true),
            ("freehold-docker", "freehold-ssh", false, false),
            ("freehold-proxy", "freehold-fleet", false, false),
            ("freehold-fleet", "freehold-testkit", true, true),
            ("freehold-fleet", "freehold-testkit", false, false),
            ("freehold-ssh", "freehold-testkit", true, false),
            ("freehold-e2e", "freehold-model", false, false),
            ("freehold-unknown", "serde", false, false),
        ] {
            let findings = check(&repository(&[(name, imported, is_dev)])).unwrap();
            assert_eq!(findings.is_empty(), is_allowed, "{name} -> {imported}: {findings:?}");
        }
    }
}

//! Which rows of the Kamal compatibility specification have a test that names them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::finding::Finding;
use crate::repository::Repository;

/// The table of rows.
const TABLE: &str = "xtask/compat.txt";

/// What stands before the rows that a test names.
const MARK: &str = "kamal-compat §";

/// Returns a finding for each row without a test, and for each test that names a row that does not exist.
pub(crate) fn check(repository: &Repository) -> Result<Vec<Finding>, String> {
    let table = repository.text(Path::new(TABLE))?;
    let rows = rows(&table);
    let mut named = BTreeSet::new();
    let mut findings = Vec::new();
    for file in repository.files.iter().filter(|file| may_test(file)) {
        // Files that are not text have no marks.
        let Ok(text) = repository.text(file) else { continue };
        for (index, line) in tests_of(file, &text) {
            for row in marks(line) {
                if !rows.contains_key(row.as_str()) {
                    findings.push(Finding::line(
                        file,
                        index,
                        format!("names `{row}`, which `{TABLE}` does not have"),
                    ));
                }
                named.insert(row);
            }
        }
    }
    for (row, (line, title)) in &rows {
        if !named.contains(*row) {
            findings.push(Finding::line(TABLE, *line, format!("{row} ({title}) has no test")));
        }
    }
    Ok(findings)
}

/// The rows of the table with their lines and titles.
fn rows(table: &str) -> BTreeMap<&str, (usize, &str)> {
    let lines = table.lines().enumerate().filter(|(_, line)| line.starts_with('§'));
    lines
        .filter_map(|(index, line)| line.split_once(" | ").map(|(row, title)| (row, (index + 1, title))))
        .collect()
}

fn may_test(file: &Path) -> bool {
    let is_known =
        file.extension().is_some_and(|extension| ["rs", "yml", "sh"].iter().any(|known| extension == *known));
    is_known && !file.starts_with("xtask")
}

/// The lines of a file that belong to tests, counted from 1.
fn tests_of<'a>(file: &Path, text: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let in_folder =
        file.components().any(|part| ["tests", "e2e"].iter().any(|name| part.as_os_str() == *name));
    let is_test = in_folder || file.ends_with("tests.rs");
    let from = if is_test { Some(0) } else { text.lines().position(|line| line.trim() == "#[cfg(test)]") };
    text.lines().enumerate().skip(from.unwrap_or(usize::MAX)).map(|(index, line)| (index + 1, line))
}

/// The rows that a line names: `kamal-compat §7.1 row 9`, `kamal-compat §9 ssh rows 1, 2`.
fn marks(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in line.split(MARK).skip(1) {
        let Some((section, rest)) = part.split_once(" row") else { continue };
        let rest = rest.strip_prefix('s').unwrap_or(rest);
        let is_section = section.len() < 16 && section.starts_with(|c: char| c.is_ascii_digit());
        if !is_section {
            continue;
        }
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == ',' || c == ' ')).unwrap_or(rest.len());
        let numbers = rest.get(..end).unwrap_or_default().split(',').map(str::trim);
        found.extend(
            numbers.filter(|number| !number.is_empty()).map(|number| format!("§{section} row {number}")),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_name_one_row_or_several() {
        assert_eq!(marks(&format!("# {MARK}4 row 6")), ["§4 row 6"]);
        assert_eq!(
            marks(&format!("// {MARK}9 ssh rows 1, 12; {MARK}7.1 row 9.")),
            ["§9 ssh row 1", "§9 ssh row 12", "§7.1 row 9"]
        );
        assert!(marks(&format!("({MARK}1.3): maps key by key")).is_empty());
    }

    #[test]
    fn only_tests_count() {
        let code = "/// a\n#[cfg(test)]\nmod tests {\n";
        assert_eq!(tests_of(Path::new("crates/x/src/a.rs"), code).count(), 2);
        assert_eq!(tests_of(Path::new("crates/x/src/a.rs"), "fn a() {}\n").count(), 0);
        assert_eq!(tests_of(Path::new("crates/x/tests/it/a.rs"), code).count(), 3);
    }
}

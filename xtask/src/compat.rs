//! Which rows of the compatibility specifications have a test that names them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::finding::Finding;
use crate::repository::Repository;

/// A specification, by the table of its rows.
struct Specification {
    /// The table.
    table: &'static str,
    /// What every row begins with.
    row: &'static str,
    /// The rows that a line of a test names.
    marks: fn(&str) -> Vec<String>,
}

const SPECIFICATIONS: [Specification; 2] = [
    Specification { table: "xtask/compat.txt", row: "§", marks: rows_of_kamal },
    Specification { table: "xtask/proxy-compat.txt", row: "case ", marks: cases_of_the_proxy },
];

/// What stands before the rows of Kamal's specification that a test names.
const KAMAL_MARK: &str = "kamal-compat §";

/// What stands before the cases of kamal-proxy's specification that a test names.
const PROXY_MARK: &str = "proxy-compat case";

/// Returns a finding for each row without a test, and for each test that names a row that does not exist.
pub(crate) fn check(repository: &Repository) -> Result<Vec<Finding>, String> {
    let mut findings = Vec::new();
    for specification in &SPECIFICATIONS {
        findings.extend(specification.check(repository)?);
    }
    Ok(findings)
}

impl Specification {
    fn check(&self, repository: &Repository) -> Result<Vec<Finding>, String> {
        let table = repository.text(Path::new(self.table))?;
        let rows = self.rows(&table);
        let mut named = BTreeSet::new();
        let mut findings = Vec::new();
        for file in repository.files.iter().filter(|file| may_test(file)) {
            // Files that are not text have no marks.
            let Ok(text) = repository.text(file) else { continue };
            for (index, line) in tests_of(file, &text) {
                for row in (self.marks)(line) {
                    if !rows.contains_key(row.as_str()) {
                        let message = format!("names `{row}`, which `{}` does not have", self.table);
                        findings.push(Finding::line(file, index, message));
                    }
                    named.insert(row);
                }
            }
        }
        for (row, (line, title)) in &rows {
            if !named.contains(*row) {
                findings.push(Finding::line(self.table, *line, format!("{row} ({title}) has no test")));
            }
        }
        Ok(findings)
    }

    /// The rows of the table with their lines and titles.
    fn rows<'t>(&self, table: &'t str) -> BTreeMap<&'t str, (usize, &'t str)> {
        let lines = table.lines().enumerate().filter(|(_, line)| line.starts_with(self.row));
        lines
            .filter_map(|(index, line)| line.split_once(" | ").map(|(row, title)| (row, (index + 1, title))))
            .collect()
    }
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
fn rows_of_kamal(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in line.split(KAMAL_MARK).skip(1) {
        let Some((section, rest)) = part.split_once(" row") else { continue };
        let is_section = section.len() < 16 && section.starts_with(|c: char| c.is_ascii_digit());
        if is_section {
            let numbers = numbers(rest.strip_prefix('s').unwrap_or(rest));
            found.extend(numbers.into_iter().map(|number| format!("§{section} row {number}")));
        }
    }
    found
}

/// The cases that a line names: `proxy-compat case 6`, `proxy-compat cases 6, 9, 12-14`.
fn cases_of_the_proxy(line: &str) -> Vec<String> {
    let parts = line.split(PROXY_MARK).skip(1);
    let numbers = parts.flat_map(|part| numbers(part.strip_prefix('s').unwrap_or(part)));
    numbers.map(|number| format!("case {number}")).collect()
}

/// The numbers at the begin of a text, separated by commas; `12-14` is three of them.
fn numbers(text: &str) -> Vec<u32> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || ", -".contains(c))).unwrap_or(text.len());
    let text = text.get(..end).unwrap_or_default().trim_end_matches([' ', '-', ',']);
    let parts = text.split(',').map(str::trim);
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    parts.filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_name_one_row_or_several() {
        assert_eq!(rows_of_kamal(&format!("# {KAMAL_MARK}4 row 6")), ["§4 row 6"]);
        assert_eq!(
            rows_of_kamal(&format!("// {KAMAL_MARK}9 ssh rows 1, 12; {KAMAL_MARK}7.1 row 9.")),
            ["§9 ssh row 1", "§9 ssh row 12", "§7.1 row 9"]
        );
        assert!(rows_of_kamal(&format!("({KAMAL_MARK}1.3): maps key by key")).is_empty());
    }

    #[test]
    fn marks_name_one_case_or_several_or_a_range() {
        assert_eq!(cases_of_the_proxy(&format!("// {PROXY_MARK} 12.")), ["case 12"]);
        assert_eq!(
            cases_of_the_proxy(&format!("// {PROXY_MARK}s 1, 31-33: whole; {PROXY_MARK} 7 - not all")),
            ["case 1", "case 31", "case 32", "case 33", "case 7"]
        );
        assert!(cases_of_the_proxy("a case 3 of nothing").is_empty());
    }

    #[test]
    fn only_tests_count() {
        let code = "/// a\n#[cfg(test)]\nmod tests {\n";
        assert_eq!(tests_of(Path::new("crates/x/src/a.rs"), code).count(), 2);
        assert_eq!(tests_of(Path::new("crates/x/src/a.rs"), "fn a() {}\n").count(), 0);
        assert_eq!(tests_of(Path::new("crates/x/tests/it/a.rs"), code).count(), 3);
    }
}

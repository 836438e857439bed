//! Rules for the text of every source file.

use std::path::Path;

use crate::finding::Finding;
use crate::repository::Repository;
use crate::rust_text::{code_only, has_word, without_tests};

/// The longest a source file may be.
const LINES: usize = 500;
/// Files that may be longer, one path a line, with the reason behind a `#`.
const LONG_FILES: &str = "xtask/long-files.txt";

/// What `fs-err` does with the file's name in its errors; clippy's list has only the most frequent ones.
const PLAIN_FILE_CALLS: [&str; 13] = [
    "std::fs::read_dir",
    "std::fs::rename",
    "std::fs::copy",
    "std::fs::create_dir",
    "std::fs::remove_dir",
    "std::fs::remove_dir_all",
    "std::fs::metadata",
    "std::fs::symlink_metadata",
    "std::fs::canonicalize",
    "std::fs::hard_link",
    "std::fs::read_link",
    "std::fs::set_permissions",
    "tokio::fs::",
];

pub(crate) fn check(repository: &Repository) -> Result<Vec<Finding>, String> {
    let long = repository.text(Path::new(LONG_FILES)).unwrap_or_default();
    let long: Vec<&str> = long.lines().filter_map(|line| line.split('#').next()).map(str::trim).collect();
    let mut findings = Vec::new();
    for file in repository.rust_files(Path::new("")) {
        let text = repository.text(file)?;
        let lines = text.lines().count();
        if lines > LINES && !long.iter().any(|allowed| Path::new(allowed) == file) {
            findings.push(Finding::file(file, format!("{lines} lines; split files of more than {LINES}")));
        }
        if file.ends_with("mod.rs") {
            findings.push(Finding::file(file, "a module `foo` is `foo.rs`, not `foo/mod.rs`"));
        }
        if file.ends_with("src/lib.rs") {
            findings.extend(beyond_table_of_contents(&text).map(|line| {
                Finding::line(
                    file,
                    line,
                    "lib.rs has the crate's docs, its modules and re-exports, nothing else",
                )
            }));
        }
        findings.extend(lines_of(file, &text));
    }
    for file in repository.files.iter().filter(|file| is_checked_for_todo(file)) {
        let text = repository.text(file).unwrap_or_default();
        findings.extend(
            nameless_todos(&text).map(|line| Finding::line(file, line, "a TODO carries an issue: TODO(#12)")),
        );
    }
    for allowed in long.iter().filter(|path| !path.is_empty()) {
        if !repository.files.iter().any(|file| file == Path::new(allowed)) {
            findings.push(Finding::file(LONG_FILES, format!("`{allowed}` does not exist")));
        }
    }
    Ok(findings)
}

fn is_checked_for_todo(file: &Path) -> bool {
    let is_code = file
        .extension()
        .is_some_and(|extension| ["rs", "toml", "yml"].iter().any(|known| extension == *known));
    is_code || file.starts_with("script") || file.starts_with("e2e/lab")
}

/// Finds what holds for one line of code.
fn lines_of(file: &Path, text: &str) -> Vec<Finding> {
    let code = code_only(text);
    let product = if is_test(file) { String::new() } else { without_tests(&code) };
    let mut findings = Vec::new();
    for (index, line) in code.lines().enumerate() {
        if line.contains("#[allow(") || line.contains("#![allow(") {
            findings.push(Finding::line(
                file,
                index + 1,
                "silence a lint with #[expect(.., reason = \"..\")]",
            ));
        }
    }
    for (index, line) in product.lines().enumerate() {
        for call in PLAIN_FILE_CALLS.iter().filter(|call| has_word(line, call)) {
            let message = format!("`{call}`: use fs-err, whose errors name the path");
            findings.push(Finding::line(file, index + 1, message));
        }
    }
    findings
}

/// Whether a file holds tests only.
fn is_test(file: &Path) -> bool {
    let is_folder = file.components().any(|part| part.as_os_str() == "tests");
    is_folder || file.ends_with("tests.rs")
}

/// Returns the lines of a `lib.rs` that are neither docs, nor attributes, nor modules, nor re-exports.
fn beyond_table_of_contents(text: &str) -> impl Iterator<Item = usize> {
    let code = code_only(text);
    let mut is_inside = false;
    let mut lines = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let line = line.trim();
        let begins =
            ["mod ", "pub mod ", "pub use ", "#![", "#["].iter().any(|start| line.starts_with(start));
        if !line.is_empty() && !begins && !is_inside {
            lines.push(index + 1);
        }
        let is_item = begins && !line.starts_with('#');
        is_inside = (is_inside || is_item) && !line.ends_with(';');
        // An inline module is code.
        if is_item && line.contains(" mod ") | line.starts_with("mod ") && line.ends_with('{') {
            lines.push(index + 1);
        }
    }
    lines.into_iter()
}

fn nameless_todos(text: &str) -> impl Iterator<Item = usize> {
    let marker = concat!("TO", "DO");
    let lines = text.lines().enumerate();
    lines
        .filter(move |(_, line)| has_word(line, marker) && !line.contains(&format!("{marker}(#")))
        .map(|(index, _)| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_contents_passes_and_code_does_not() {
        let good =
            "//! Docs.\n\nmod a;\npub mod b;\n#[cfg(test)]\nmod c;\npub use a::{\n    B,\n    C,\n};\n";
        assert_eq!(beyond_table_of_contents(good).count(), 0);
        let bad = "//! Docs.\nmod a;\nuse std::fmt;\npub fn f() {}\nmod b {\n}\n";
        assert_eq!(beyond_table_of_contents(bad).collect::<Vec<_>>(), [3, 4, 5]);
    }

    #[test]
    fn lines_are_found_in_code_only() {
        let text = "#[allow(dead_code)]\n// #[allow(x)]\nlet a = std::fs::rename(b);\n#[cfg(test)]\nmod tests { use std::fs::rename; }\n";
        let found = lines_of(Path::new("crates/x/src/a.rs"), text);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(lines_of(Path::new("crates/x/tests/it/a.rs"), text).len(), 1);
    }

    #[test]
    fn a_todo_needs_an_issue() {
        let text = format!("// {0}: later\n// {0}(#12): later\nlet {0}S = 1;\n", concat!("TO", "DO"));
        assert_eq!(nameless_todos(&text).collect::<Vec<_>>(), [1]);
    }
}

//! Floors 0 and 1 have no async, clock, randomness, file, socket, process or environment.

use crate::check::layers::{pure_crates, short};
use crate::finding::Finding;
use crate::repository::Repository;
use crate::rust_text::{code_only, has_word, without_tests};

/// Words of code that bring the world in. `std::env::consts` does not: it was settled at compile time.
const WORLD: [&str; 27] = [
    "async fn",
    ".await",
    "tokio",
    "std::fs",
    "fs_err",
    "std::env::args",
    "std::env::current",
    "std::env::var",
    "use std::env",
    "std::process",
    "std::thread",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "ToSocketAddrs",
    "SystemTime",
    "Instant",
    "Timestamp::now",
    "Zoned::now",
    "getrandom",
    "rand",
    "include_str!",
    "static mut",
];

/// Dependencies that bring the world in.
const WORLDLY: [&str; 8] =
    ["tokio", "fs-err", "getrandom", "rand", "rustix", "socket2", "hyper", "futures-util"];

pub(crate) fn check(repository: &Repository) -> Result<Vec<Finding>, String> {
    let mut findings = Vec::new();
    for package in &repository.packages {
        if !pure_crates().any(|name| name == short(&package.name)) {
            continue;
        }
        for dependency in package.dependencies.iter().filter(|dependency| !dependency.is_dev) {
            if WORLDLY.contains(&dependency.name.as_str()) {
                let message = format!("a crate of floor 0 or 1 may not use `{}`", dependency.name);
                findings.push(Finding::file(package.folder.join("Cargo.toml"), message));
            }
        }
        for file in repository.rust_files(&package.folder.join("src")) {
            findings.extend(impure_lines(&repository.text(file)?).map(|(line, word)| {
                Finding::line(file, line, format!("a crate of floor 0 or 1 may not use `{word}`"))
            }));
        }
    }
    Ok(findings)
}

fn impure_lines(text: &str) -> impl Iterator<Item = (usize, &'static str)> {
    let code = without_tests(&code_only(text));
    let words = |(index, line): (usize, &str)| {
        let found = WORLD.iter().copied().filter(|word| has_word(line, word));
        found.map(|word| (index + 1, word)).collect::<Vec<_>>()
    };
    code.lines().enumerate().flat_map(words).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_counts_and_comments_strings_and_tests_do_not() {
        let text = "// std::fs\nlet a = \"std::thread\";\nuse std::time::SystemTime;\n#[cfg(test)]\nmod tests { use std::fs; }\n";
        assert_eq!(impure_lines(text).collect::<Vec<_>>(), [(3, "SystemTime")]);
    }
}

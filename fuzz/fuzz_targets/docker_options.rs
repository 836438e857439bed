//! Any values for the flags of `docker run`: each line is a flag, picked by its first character, and its value. The
//! options are read, the same each time, or every mistake has its line.
#![no_main]

use std::collections::BTreeMap;

use freehold_config::{Nowhere, Source, Sources, docker_flags, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let flags: Vec<&str> = docker_flags().collect();
    let mut options: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in text.lines().take(40) {
        let mut characters = line.chars();
        let Some(first) = characters.next() else { continue };
        let index = usize::try_from(u32::from(first)).unwrap_or_default() % flags.len();
        options.entry(flags[index]).or_default().push(characters.as_str());
    }
    let mut file = "service: app\nservers:\n  web:\n    hosts: [192.0.2.1]\n    options:\n".to_owned();
    for (flag, values) in &options {
        match values.as_slice() {
            ["true"] => file.push_str(&format!("      {flag}: true\n")),
            [value] => file.push_str(&format!("      {flag}: {}\n", quoted(value))),
            values => {
                let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
                file.push_str(&format!("      {flag}: [{}]\n", values.join(", ")));
            }
        }
    }
    let sources = Sources {
        base: Source { path: "config/deploy.yml", text: &file },
        destination: None,
        environment: &BTreeMap::new(),
        surroundings: &Nowhere,
    };
    match (parse(&sources), parse(&sources)) {
        (Ok(first), Ok(second)) => assert_eq!(first.project, second.project),
        (Err(first), Err(second)) => {
            assert_eq!(first.render(), second.render());
            let last = file.lines().count();
            assert!(first.mistakes().iter().all(|mistake| mistake.line >= 1 && mistake.line <= last), "{file}");
        }
        _ => panic!("the same file was read in two ways: {file}"),
    }
});

/// Writes a text as YAML that holds it exactly; what is no tag of a template stays none.
fn quoted(text: &str) -> String {
    let text: String = text.chars().map(|c| match c {
        '\'' => "''".to_owned(),
        '<' => "< ".to_owned(),
        c if c.is_control() => String::new(),
        c => c.to_string(),
    }).collect();
    format!("'{text}'")
}

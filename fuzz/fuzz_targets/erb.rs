//! Any text as the code of a template's tags, in surroundings that answer: it is run to its end, and what it writes is
//! read as YAML, or the mistake can be shown. Nothing is asked of a Ruby that a deploy file's own Ruby would not be.
#![no_main]

use std::collections::BTreeMap;

use freehold_config::{Source, Sources, Surroundings, parse};
use libfuzzer_sys::fuzz_target;

/// Files and commands that always answer the same.
#[derive(Debug)]
struct Answers;

impl Surroundings for Answers {
    fn file(&self, path: &str) -> Result<Option<String>, String> {
        match path {
            "missing" => Ok(None),
            "locked" => Err("permission denied".to_owned()),
            path => Ok(Some(format!("{path} has\ntwo lines: <%= \n"))),
        }
    }

    fn command(&self, command: &str, environment: &BTreeMap<String, String>) -> Result<String, String> {
        if command.is_empty() { Err("no command".to_owned()) } else { Ok(format!("{} answers\n", environment.len())) }
    }

    fn ruby(&self, _: &str, _: &BTreeMap<String, String>) -> Option<Result<String, String>> {
        None
    }
}

fuzz_target!(|text: &str| {
    let environment = BTreeMap::from([("X".to_owned(), "a,b, c".to_owned()), ("N".to_owned(), "3".to_owned())]);
    // As an expression, as statements around text, and as a whole template.
    for text in [
        format!("service: app\nservers: [192.0.2.1]\nlabels:\n  x: \"<%= {text} %>\"\n"),
        format!("<% {text} %>\nservice: app\nservers: [192.0.2.1]\n<% end %>\n"),
        format!("{text}\nservice: app\nservers: [192.0.2.1]\n"),
    ] {
        let sources = Sources {
            base: Source { path: "config/deploy.yml", text: &text },
            destination: None,
            environment: &environment,
            surroundings: &Answers,
        };
        if let Err(errors) = parse(&sources) {
            assert!(!errors.mistakes().is_empty());
            assert!(!errors.render().chars().any(|c| c.is_control() && c != '\n'));
        }
    }
});

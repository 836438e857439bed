//! Any text as a secrets file: it is read to its end, every name is a name, lines are counted, and what follows on a line
//! of its own is found whatever comes before it, unless a quote or a command is left open.
#![no_main]

use freehold_model::SecretName;
use freehold_secrets::{extract, outline};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let lines = text.replace("\r\n", "\n").replace('\r', "\n").matches('\n').count() + 1;
    let mut previous = 0;
    for entry in outline(text) {
        assert!(SecretName::parse(entry.name.as_str()).is_ok(), "{:?}", entry.name);
        assert!(entry.line >= previous && entry.line <= lines, "line {} of {lines}", entry.line);
        previous = entry.line;
    }
    if !text.contains(['\'', '"']) {
        // The value of a `NAME:` may stand on the next line.
        let found = outline(&format!("{text}\n\n\nLAST_ONE=x\n"));
        assert!(found.iter().any(|entry| entry.name == "LAST_ONE"));
    }
    // Whatever a command prints may come here.
    drop(extract("A", text));
});

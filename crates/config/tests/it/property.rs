use std::collections::BTreeMap;

use freehold_config::{Nowhere, Source, Sources, parse};
use freehold_model::Destination;
use proptest::prelude::*;

/// Parses a text in both places, and renders what is wrong with it.
fn read(text: &str) {
    let environment = BTreeMap::new();
    let source = |text| Source { path: "deploy.yml", text };
    let staging = Destination::parse("staging").unwrap();
    let plain = "service: app\nservers: [192.0.2.1]\n";
    for sources in [
        Sources { base: source(text), destination: None, environment: &environment, surroundings: &Nowhere },
        Sources {
            base: source(plain),
            destination: Some((staging, source(text))),
            environment: &environment,
            surroundings: &Nowhere,
        },
    ] {
        match parse(&sources) {
            Ok(parsed) => assert!(parsed.project.roles.contains_key(&parsed.project.primary_role)),
            Err(errors) => assert!(!errors.render().is_empty()),
        }
    }
}

/// Pieces of deploy files in any order and nesting: nearer to what can go wrong than arbitrary text.
fn pieces() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(vec![
        "service: app\n",
        "servers:\n",
        "  web:\n",
        "  - 192.0.2.1\n",
        "env: ",
        "proxy: {",
        "}",
        "[",
        "]",
        "&a ",
        "*a",
        "<<: *a\n",
        "\n",
        "  ",
        "\t",
        "- ",
        ": ",
        ", ",
        "<%= ENV[\"X\"] %>",
        "<%",
        "%>",
        "\"é",
        "'",
        "|\n",
        ">-\n",
        "!!str ",
        "? ",
        "12:30",
        "no",
        "\r\n",
        "# ",
        "---\n",
        "...",
        "%YAML 1.1\n",
        "\u{feff}",
        "options: ",
        "secret: ",
        "clear: ",
        "tags: ",
        "日本",
    ]);
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn arbitrary_text_never_panics(text in "(?s).{0,200}") {
        read(&text);
    }

    #[test]
    fn pieces_of_deploy_files_never_panic(text in pieces()) {
        read(&text);
    }
}

#[test]
fn aliases_cannot_make_a_small_file_large() {
    let mut text = "x-a: &l0 [a, a, a, a, a, a, a, a, a, a]\n".to_owned();
    for level in 1..12 {
        let alias = format!("*l{}", level - 1);
        let row = vec![alias; 10].join(", ");
        text.push_str(&format!("x-l{level}: &l{level} [{row}]\n"));
    }
    let environment = BTreeMap::new();
    let base = Source { path: "deploy.yml", text: &text };
    let errors =
        parse(&Sources { base, destination: None, environment: &environment, surroundings: &Nowhere })
            .unwrap_err();
    assert!(errors.render().contains("aliases make this file too large"), "{errors}");
}

#[test]
fn deep_nesting_is_refused() {
    for text in ["[".repeat(10_000), "- ".repeat(5_000), "a: {".repeat(3_000), "? ".repeat(4_000)] {
        read(&text);
    }
}

//! Any text as the deploy file and as the destination's file: `parse` gives a project or mistakes that can be shown.
#![no_main]

use std::collections::BTreeMap;

use freehold_config::{Nowhere, Source, Sources, parse};
use freehold_model::Destination;
use libfuzzer_sys::fuzz_target;

const PLAIN: &str = "service: app\nservers: [192.0.2.1]\n";

fuzz_target!(|text: &str| {
    let environment = BTreeMap::from([("X".to_owned(), "value\nof: two lines".to_owned())]);
    let source = |text| Source { path: "config/deploy.yml", text };
    let destination = Destination::parse("staging").ok().map(|name| (name, source(text)));
    for sources in [
        Sources { base: source(text), destination: None, environment: &environment, surroundings: &Nowhere },
        Sources { base: source(PLAIN), destination, environment: &environment, surroundings: &Nowhere },
    ] {
        match parse(&sources) {
            Ok(parsed) => {
                let project = &parsed.project;
                assert!(project.roles.contains_key(&project.primary_role) || project.roles.is_empty());
                assert!(!(project.roles.is_empty() && project.accessories.is_empty()));
                parsed.warnings.iter().for_each(|warning| assert!(!warning.render().is_empty()));
            }
            Err(errors) => {
                assert!(!errors.mistakes().is_empty());
                assert!(!errors.render().chars().any(|c| c.is_control() && c != '\n'));
            }
        }
    }
});

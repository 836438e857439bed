//! What the proxy speaks with containers, and how it compresses their answers.

use freehold_model::{Compression, TargetProtocol};

use crate::field::{Field, Section};
use crate::report::Report;

pub(super) fn target_protocol(section: &Section<'_>, report: &mut Report) -> TargetProtocol {
    let names = [("http1", TargetProtocol::Http1), ("h2c", TargetProtocol::H2c)];
    section.get("target_protocol").and_then(|field| field.choice(&names, report)).unwrap_or_default()
}

/// `true`, `false`, or a list of codings, the most wanted first.
pub(super) fn compression(section: &Section<'_>, report: &mut Report) -> Vec<Compression> {
    let Some(field) = section.get("compress") else { return Vec::new() };
    match field.boolean_value() {
        Some(true) => Compression::ALL.to_vec(),
        Some(false) => Vec::new(),
        None if field.is_list() => codings(&field, report),
        None => {
            field.wrong_type("a boolean or a list of `zstd`, `br` and `gzip`", report);
            Vec::new()
        }
    }
}

fn codings(field: &Field<'_>, report: &mut Report) -> Vec<Compression> {
    let names = [("zstd", Compression::Zstd), ("br", Compression::Br), ("gzip", Compression::Gzip)];
    let mut found = Vec::new();
    for item in field.list(report).unwrap_or_default() {
        match item.choice(&names, report) {
            Some(coding) if found.contains(&coding) => report.mistake(item.mistake("is there twice")),
            Some(coding) => found.push(coding),
            None => {}
        }
    }
    found
}

//! Which images may run: `verify` and `scan`.

use std::path::PathBuf;

use freehold_model::{Scan, Severity, Verification};

use crate::field::Field;
use crate::report::{Finding, Report};

const SEVERITIES: [(&str, Severity); 4] = [
    ("low", Severity::Low),
    ("medium", Severity::Medium),
    ("high", Severity::High),
    ("critical", Severity::Critical),
];

/// Reads `verify`.
pub(super) fn verification(field: &Field<'_>, report: &mut Report) -> Option<Verification> {
    let section = field.section("verify", report)?;
    for field in ["identity", "issuer"].into_iter().filter_map(|key| section.get(key)) {
        let message = "signatures without a key of one's own (keyless) are not checked by this version";
        let help = "sign with a key: `cosign generate-key-pair`, and name `cosign.pub` under `keys`";
        report.mistake(Finding::new(field.key_at, &field.path, message).help(help));
    }
    let keys: Vec<PathBuf> = match section.get("keys") {
        Some(field) if field.is_list() => {
            field.texts(report).into_iter().map(|(_, text)| PathBuf::from(text)).collect()
        }
        Some(field) => field.filled_text(report).map(PathBuf::from).into_iter().collect(),
        None => Vec::new(),
    };
    if keys.is_empty() {
        let finding = Finding::new(field.key_at, &field.path, "there is no key to check signatures with");
        report.mistake(finding.help("name the file of a public key: `keys: [config/cosign.pub]`"));
        return None;
    }
    let signatures = section.get("signatures").and_then(|field| field.filled_text(report));
    Some(Verification { keys, signatures: signatures.map(PathBuf::from) })
}

/// Reads `scan`.
pub(super) fn scan(field: &Field<'_>, report: &mut Report) -> Option<Scan> {
    let section = field.section("scan", report)?;
    let fail_on = section.get("fail_on").and_then(|field| field.choice(&SEVERITIES, report));
    let Some(command) = section.get("cmd") else {
        report.mistake(Finding::new(field.key_at, &field.path, "missing required key `cmd`"));
        return None;
    };
    Some(Scan { command: command.filled_text(report)?, fail_on })
}

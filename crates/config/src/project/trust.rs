//! Which images may run: `verify` and `scan`.

use std::path::PathBuf;

use freehold_model::{Keyless, Scan, Severity, TextPattern, Verification};

use crate::field::{Field, Section};
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
    let keys: Vec<PathBuf> = match section.get("keys") {
        Some(field) if field.is_list() => {
            field.texts(report).into_iter().map(|(_, text)| PathBuf::from(text)).collect()
        }
        Some(field) => field.filled_text(report).map(PathBuf::from).into_iter().collect(),
        None => Vec::new(),
    };
    let keyless = keyless(&section, report);
    if keys.is_empty() && keyless == Asked::No {
        let finding = Finding::new(field.key_at, &field.path, "nobody is named whose signatures count");
        report.mistake(finding.help(
            "name the file of a public key, `keys: [config/cosign.pub]`, or for keyless signatures `trusted_root`, \
             `identity` and `issuer`",
        ));
        return None;
    }
    let signatures = section.get("signatures").and_then(|field| field.filled_text(report));
    let keyless = match keyless {
        Asked::No => None,
        Asked::Wrongly => return None,
        Asked::For(keyless) => Some(keyless),
    };
    Some(Verification { keys, keyless, signatures: signatures.map(PathBuf::from) })
}

/// Whether keyless signatures are asked for.
#[derive(PartialEq)]
enum Asked {
    No,
    /// With a mistake, which was told.
    Wrongly,
    For(Keyless),
}

fn keyless(section: &Section<'_>, report: &mut Report) -> Asked {
    let keys = ["trusted_root", "identity", "identity_regexp", "issuer", "issuer_regexp"];
    if keys.iter().all(|key| section.get(key).is_none()) {
        return Asked::No;
    }
    let field = section.field();
    let trusted_root = match section.get("trusted_root") {
        Some(field) => field.filled_text(report).map(PathBuf::from),
        None => {
            let message =
                "keyless signatures need a `trusted_root`: the authorities and logs that are trusted";
            let help = "for Sigstore's public ones: `cosign trusted-root create --with-default-services --out \
                        config/trusted_root.json`, and name that file";
            report.mistake(Finding::new(field.key_at, &field.path, message).help(help));
            None
        }
    };
    let identity = pattern(section, ("identity", "identity_regexp"), report);
    let issuer = pattern(section, ("issuer", "issuer_regexp"), report);
    match (trusted_root, identity, issuer) {
        (Some(trusted_root), Some(identity), Some(issuer)) => {
            Asked::For(Keyless { trusted_root, identity, issuer })
        }
        _ => Asked::Wrongly,
    }
}

/// Reads a text, or a regular expression under another key.
fn pattern(
    section: &Section<'_>,
    (exactly, matching): (&str, &str),
    report: &mut Report,
) -> Option<TextPattern> {
    let field = section.field();
    match (section.get(exactly), section.get(matching)) {
        (Some(field), None) => field.filled_text(report).map(TextPattern::Exactly),
        (None, Some(field)) => {
            let text = field.filled_text(report)?;
            if let Err(error) = regex_lite::Regex::new(&text) {
                report.mistake(field.mistake(format!("`{text}` is no regular expression: {error}")));
                return None;
            }
            Some(TextPattern::Matching(text))
        }
        (Some(_), Some(other)) => {
            let message = format!("`{exactly}` and `{matching}` exclude each other");
            report.mistake(Finding::new(other.key_at, &other.path, message));
            None
        }
        (None, None) => {
            let message =
                format!("keyless signatures need `{exactly}` or `{matching}`: anybody can have one");
            report.mistake(Finding::new(field.key_at, &field.path, message));
            None
        }
    }
}

/// Reads `scan`.
pub(super) fn scan(field: &Field<'_>, report: &mut Report) -> Option<Scan> {
    let section = field.section("scan", report)?;
    let fail_on = section.get("fail_on").and_then(|field| field.choice(&SEVERITIES, report));
    let Some(command) = section.get("cmd") else {
        report.mistake(Finding::new(field.key_at, &field.path, "missing required key `cmd`"));
        return None;
    };
    let timeout = section.get("timeout").map(|field| field.seconds(1, report));
    let timeout = match timeout {
        Some(seconds) => seconds?,
        None => Scan::TIMEOUT,
    };
    Some(Scan { command: command.filled_text(report)?, fail_on, timeout })
}

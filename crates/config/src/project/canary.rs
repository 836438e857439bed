//! How a release is tried beside the one that serves.

use std::time::Duration;

use freehold_model::{Canary, CanaryHeader, CanaryVerdict};

use crate::field::Field;
use crate::report::{Finding, Report};

/// Reads `canary`.
pub(super) fn read(field: Option<Field<'_>>, report: &mut Report) -> Canary {
    let usual = Canary::default();
    let Some(field) = field else { return usual };
    let Some(section) = field.section("canary", report) else { return usual };
    let percent = section.get("percent").and_then(|field| field.integer(0..=100, report));
    let cookie = section.get("cookie").and_then(|field| {
        let text = field.filled_text(report)?;
        if CanaryHeader::parse(&text).is_some_and(|name| name.value.is_none()) {
            return Some(text);
        }
        report.mistake(field.mistake(format!("`{text}` is not the name of a cookie")));
        None
    });
    let header = section.get("header").and_then(|field| {
        let text = field.filled_text(report)?;
        let header = CanaryHeader::parse(&text);
        if header.is_none() {
            let finding = field.mistake(format!("`{text}` is not a header"));
            report.mistake(finding.help("write it as `X-Canary`, or with its value: `\"X-Canary: yes\"`"));
        }
        header
    });
    let list = section.get("list").map(|field| field.texts(report)).unwrap_or_default();
    let anonymous = section.get("anonymous").and_then(|field| field.boolean(report));
    let canary = Canary {
        percent: percent.and_then(|percent| u8::try_from(percent).ok()).unwrap_or(usual.percent),
        anonymous: anonymous.unwrap_or(usual.anonymous),
        cookie,
        list: list.into_iter().map(|(_, text)| text).collect(),
        header,
        verdict: match section.get("verdict") {
            Some(field) => verdict(&field, report),
            None => usual.verdict,
        },
    };
    check(&field, &canary, report);
    canary
}

fn check(field: &Field<'_>, canary: &Canary, report: &mut Report) {
    if !canary.takes_anybody() {
        let finding = Finding::new(field.key_at, &field.path, "nobody would try the release");
        report.mistake(finding.help("set `percent`, `list` or `header`"));
    } else if !canary.can_be_compared() {
        let message = "a verdict needs visitors on both sides: `percent` from 1 to 99";
        report.mistake(Finding::new(field.key_at, &field.path, message).help("or set `verdict: false`"));
    }
}

/// `true`, `false`, or a map.
fn verdict(field: &Field<'_>, report: &mut Report) -> Option<CanaryVerdict> {
    let usual = CanaryVerdict::default();
    match field.boolean_value() {
        Some(true) => return Some(usual),
        Some(false) => return None,
        None if !field.is_map() => {
            field.wrong_type("a boolean or a map", report);
            return Some(usual);
        }
        None => {}
    }
    let Some(section) = field.section("canary/verdict", report) else { return Some(usual) };
    let mut number = |key: &str, range| section.get(key).and_then(|field| field.integer(range, report));
    // As the proxy takes them.
    let window = number("window", 1..=7 * 24 * 60 * 60).map(Duration::from_secs);
    let min_requests = number("min_requests", 1..=1_000_000);
    let small = |value: Option<u64>| value.and_then(|value| u32::try_from(value).ok());
    let errors_permille = small(number("errors", 0..=1000));
    let latency_percent = small(number("latency", 0..=10_000));
    let promote = section.get("promote").and_then(|field| field.boolean(report));
    Some(CanaryVerdict {
        window: window.unwrap_or(usual.window),
        min_requests: min_requests.unwrap_or(usual.min_requests),
        errors_permille: errors_permille.unwrap_or(usual.errors_permille),
        latency_percent: latency_percent.unwrap_or(usual.latency_percent),
        promote: promote.unwrap_or(usual.promote),
    })
}

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use freehold_model::{JobName, Overlap, Role, RoleName, Schedule, ScheduledJob};

use super::container::command;
use crate::field::{Field, Section};
use crate::report::{Finding, Report};

const OVERLAPS: [(&str, Overlap); 4] = [
    ("skip", Overlap::Skip),
    ("allow", Overlap::Allow),
    ("queue", Overlap::Queue),
    ("replace", Overlap::Replace),
];

/// Reads `cron`.
pub(super) fn read(
    field: &Field<'_>,
    roles: &BTreeMap<RoleName, Role>,
    primary_role: Option<&RoleName>,
    report: &mut Report,
) -> BTreeMap<JobName, ScheduledJob> {
    let mut jobs = BTreeMap::new();
    for (key, field) in field.map(report) {
        let name = match JobName::parse(key) {
            Ok(name) => name,
            Err(error) => {
                report.mistake(Finding::new(field.key_at, &field.path, error.to_string()));
                continue;
            }
        };
        jobs.extend(job(name.clone(), &field, roles, primary_role, report).map(|job| (name, job)));
    }
    jobs
}

fn job(
    name: JobName,
    field: &Field<'_>,
    roles: &BTreeMap<RoleName, Role>,
    primary_role: Option<&RoleName>,
    report: &mut Report,
) -> Option<ScheduledJob> {
    let section = field.section("cron/NAME", report)?;
    for key in ["schedule", "cmd"].into_iter().filter(|key| section.get(key).is_none()) {
        let message = format!("missing required key `{key}`");
        report.mistake(Finding::new(field.key_at, &field.path, message));
    }
    let schedule = section.get("schedule").and_then(|field| {
        field.parsed(report, |text| Schedule::parse(text).map_err(|error| (error, String::new())))
    });
    let words = section.get("cmd").and_then(|field| command(&field, report));
    let role = match section.get("role") {
        Some(field) => role(&field, roles, report),
        None => primary_role.cloned(),
    };
    let timeout = section.get("timeout").and_then(|field| field.seconds(1, report));
    let first_host = role.as_ref().and_then(|role| roles.get(role)?.hosts.first());
    let history = section.get("history").and_then(|field| field.count(report));
    Some(ScheduledJob {
        host: first_host.map(|entry| entry.name.clone()),
        overlap: overlap(&section, report),
        timeout,
        history: history.unwrap_or(NonZeroU32::MIN.saturating_add(9)),
        name,
        schedule: schedule?,
        command: words?,
        role: role?,
    })
}

fn role(field: &Field<'_>, roles: &BTreeMap<RoleName, Role>, report: &mut Report) -> Option<RoleName> {
    let text = field.filled_text(report)?;
    let found = roles.keys().find(|name| name.as_str() == text);
    if found.is_none() {
        let known: Vec<String> = roles.keys().map(|name| format!("`{name}`")).collect();
        let finding = field.mistake(format!("unknown role `{text}`"));
        report.mistake(finding.help(format!("the roles are {}", known.join(", "))));
    }
    found.cloned()
}

fn overlap(section: &Section<'_>, report: &mut Report) -> Overlap {
    let Some(field) = section.get("overlap") else { return Overlap::default() };
    field.choice(&OVERLAPS, report).unwrap_or_default()
}

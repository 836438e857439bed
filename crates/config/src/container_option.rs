//! A role's `options`: flags of `docker run`, each checked and put into its field.

use freehold_model::{ContainerOptions, RestartPolicy};

use crate::docker_flag::{ALIASES, FLAGS, Flag, Setter, UNSUPPORTED};
use crate::field::Field;
use crate::reference::nearest;
use crate::report::{Finding, Report};
use crate::yaml::{ScalarKind, Value};

/// Reads `options`.
pub(crate) fn read(field: &Field<'_>, report: &mut Report) -> ContainerOptions {
    let mut options = ContainerOptions::default();
    for (name, value) in field.map(report) {
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
        if name == "restart" {
            options.restart = restart(&value, report).unwrap_or_default();
        } else if let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) {
            set(flag, &value, &mut options, report);
        } else {
            report.mistake(unknown(name, &value));
        }
    }
    report_contradictions(field, &options, report);
    options
}

/// Flags that Docker does not take together.
fn report_contradictions(field: &Field<'_>, options: &ContainerOptions, report: &mut Report) {
    let has_check = options.health_command.is_some()
        || options.health_interval.is_some()
        || options.health_timeout.is_some()
        || options.health_start_period.is_some()
        || options.health_retries.is_some()
        || options.rare.health_start_interval.is_some();
    if options.rare.no_healthcheck && has_check {
        report.mistake(field.mistake("`no-healthcheck` and `health-…` cannot stand together"));
    }
    if options.nano_cpus.is_some() && (options.rare.cpu_period.is_some() || options.rare.cpu_quota.is_some())
    {
        let finding = field.mistake("`cpus` and `cpu-period` or `cpu-quota` cannot stand together");
        report.mistake(finding.help("keep `cpus`"));
    }
}

fn unknown(name: &str, value: &Field<'_>) -> Finding {
    if let Some((_, help)) = UNSUPPORTED.iter().find(|(flag, _)| *flag == name) {
        let message =
            format!("the `docker run` flag `--{name}` is not supported by this version of freehold");
        let finding = Finding::new(value.key_at, &value.path, message);
        return if help.is_empty() { finding } else { finding.help(*help) };
    }
    let message = format!("unknown `docker run` flag `{}`", crate::yaml::shorten(name));
    let finding = Finding::new(value.key_at, &value.path, message);
    let names = FLAGS
        .iter()
        .map(|flag| flag.name)
        .chain(UNSUPPORTED.iter().map(|(name, _)| *name))
        .chain(["restart"]);
    match nearest(name.trim_start_matches('-'), names) {
        Some(near) => finding.help(format!("did you mean `{near}`?")),
        None => finding,
    }
}

fn set(flag: &Flag, field: &Field<'_>, options: &mut ContainerOptions, report: &mut Report) {
    match flag.setter {
        Setter::Switch(set) => {
            let written = matches!(&field.node.value, Value::Scalar(scalar) if matches!(scalar.raw.as_str(), "true" | "false"));
            match field.boolean_value() {
                Some(value) => set(options, value),
                // A quoted `"true"` is what `--flag "true"` means to Docker.
                None if written => set(options, field.text(report).as_deref() == Some("true")),
                None => field.wrong_type("a boolean", report),
            }
        }
        Setter::Value(_) if field.is_list() => {
            let message = format!("`--{}` takes one value, not {}", flag.name, field.node.describe());
            report.mistake(field.mistake(message));
        }
        Setter::Value(set) => apply(field, report, |text| set(options, text)),
        Setter::Each(set) if field.is_list() => {
            for item in field.list(report).unwrap_or_default() {
                apply(&item, report, |text| set(options, text));
            }
        }
        Setter::Each(set) => apply(field, report, |text| set(options, text)),
    }
}

fn apply(
    field: &Field<'_>,
    report: &mut Report,
    set: impl FnOnce(&str) -> Result<(), crate::docker_flag::Problem>,
) {
    if field.is_boolean() {
        return field.wrong_type("a string", report);
    }
    let Some(text) = field.filled_text(report) else { return };
    if let Err(problem) = set(&text) {
        report.mistake(field.mistake(problem.message).help(problem.help));
    }
}

fn restart(field: &Field<'_>, report: &mut Report) -> Option<RestartPolicy> {
    let text = match &field.node.value {
        Value::Scalar(scalar) => match &scalar.kind {
            ScalarKind::Text(text) => text.as_str(),
            kind => {
                let finding = field.mistake(format!("should be a string, not {}", scalar.describe()));
                let is_no = *kind == ScalarKind::Boolean(false);
                report.mistake(if is_no {
                    finding.help("write `\"no\"` with quotes to disable restarts")
                } else {
                    finding
                });
                return None;
            }
        },
        _ => {
            field.wrong_type("a string", report);
            return None;
        }
    };
    let policy = match text.split_once(':') {
        None => match text {
            "no" => Some(RestartPolicy::No),
            "always" => Some(RestartPolicy::Always),
            "unless-stopped" => Some(RestartPolicy::UnlessStopped),
            "on-failure" => Some(RestartPolicy::OnFailure { maximum: None }),
            _ => None,
        },
        Some(("on-failure", maximum)) => {
            maximum.parse().ok().map(|maximum| RestartPolicy::OnFailure { maximum: Some(maximum) })
        }
        Some(_) => None,
    };
    if policy.is_none() {
        let finding = field.mistake(format!("`{text}` is not a restart policy"));
        report.mistake(
            finding.help("write `\"no\"`, `always`, `unless-stopped`, `on-failure` or `on-failure:3`"),
        );
    }
    policy
}

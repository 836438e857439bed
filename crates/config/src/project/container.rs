//! What roles and accessories have in common.

use std::collections::BTreeMap;

use crate::field::Field;
use crate::report::{Finding, Report};
use crate::shell_word::split_words;

/// Reads a command into its words; none if there are none.
pub(super) fn command(field: &Field<'_>, report: &mut Report) -> Option<Vec<String>> {
    let text = field.text(report)?;
    match split_words(&text) {
        Ok(words) => Some(words).filter(|words| !words.is_empty()),
        Err(error) => {
            let finding = field.mistake(format!("the command is not plain words: {error}"));
            report
                .mistake(finding.help("quote it, or let a shell of the container run it: `cmd: sh -c '…'`"));
            None
        }
    }
}

/// Reads `volumes`.
pub(super) fn volumes(field: &Field<'_>, report: &mut Report) -> Vec<String> {
    let mut volumes = Vec::new();
    for (item, text) in field.texts(report) {
        let text = in_login_directory(&text);
        match check_volume(&text) {
            Ok(()) => volumes.push(text),
            Err((message, help)) => report.mistake(item.mistake(message).help(help)),
        }
    }
    volumes
}

/// Kamal leaves volumes to the login shell of the host. Of what it expands, the login directory is what people write.
fn in_login_directory(text: &str) -> String {
    let homes = ["~/", "$HOME/", "${HOME}/", "$PWD/", "${PWD}/"];
    let rest = homes.iter().find_map(|home| text.strip_prefix(home));
    rest.map_or_else(|| text.to_owned(), |rest| format!("./{rest}"))
}

/// `[SOURCE:]TARGET[:OPTIONS]`.
fn check_volume(text: &str) -> Result<(), (String, String)> {
    if text.starts_with('~') || text.contains('$') {
        let help = "write a path relative to the login directory, or an absolute one".to_owned();
        return Err((format!("no shell expands the volume `{text}`"), help));
    }
    let parts: Vec<&str> = text.split(':').collect();
    let target = match parts.as_slice() {
        [target] => Some(*target),
        [source, target] | [source, target, _] if !source.is_empty() => Some(*target),
        _ => None,
    };
    match target {
        Some(target) if target.starts_with('/') => Ok(()),
        _ => Err((
            format!("`{text}` is not a volume"),
            "write `SOURCE:/TARGET` or `SOURCE:/TARGET:ro`".to_owned(),
        )),
    }
}

/// Reads labels, later layers over earlier ones. Those by which containers are found are refused.
pub(super) fn labels(layers: &[Field<'_>], report: &mut Report) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (name, value) in layers.iter().flat_map(|field| field.map(report)).collect::<Vec<_>>() {
        if ["service", "role", "destination"].contains(&name) {
            let message = format!("the label `{name}` is reserved");
            let help = "`service`, `role` and `destination` are set by freehold";
            report.mistake(Finding::new(value.key_at, &value.path, message).help(help));
        }
        labels.extend(value.text(report).map(|text| (name.to_owned(), text)));
    }
    labels
}

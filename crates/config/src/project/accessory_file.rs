//! `files` and `directories` of an accessory, each `local:remote[:options]` or a map.

use freehold_model::{AccessoryDirectory, AccessoryFile, FileContent, FileMode};

use crate::field::Field;
use crate::report::{Finding, Report};
use crate::yaml::Value;

/// One mount before it is known whether it is a file or a directory.
struct Mount {
    local: String,
    remote: String,
    options: Option<String>,
    mode: Option<FileMode>,
    owner: Option<String>,
}

/// Reads `files`.
pub(super) fn files(field: &Field<'_>, report: &mut Report) -> Vec<AccessoryFile> {
    let file = |mount: Mount| AccessoryFile {
        content: if mount.local.ends_with("erb") { FileContent::Template } else { FileContent::Verbatim },
        local: mount.local,
        remote: mount.remote,
        options: mount.options,
        mode: mount.mode.unwrap_or(FileMode::DEFAULT),
        owner: mount.owner,
    };
    mounts(field, "accessories/NAME/files", report).into_iter().map(file).collect()
}

/// Reads `directories`.
pub(super) fn directories(field: &Field<'_>, report: &mut Report) -> Vec<AccessoryDirectory> {
    let directory = |mount: Mount| AccessoryDirectory {
        local: mount.local,
        remote: mount.remote,
        options: mount.options,
        mode: mount.mode,
        owner: mount.owner,
    };
    mounts(field, "accessories/NAME/directories", report).into_iter().map(directory).collect()
}

fn mounts(field: &Field<'_>, section: &str, report: &mut Report) -> Vec<Mount> {
    let mut found: Vec<Mount> = Vec::new();
    for item in field.list(report).unwrap_or_default() {
        let mount = match &item.node.value {
            Value::Map(_) => of_map(&item, section, report),
            Value::Scalar(_) => of_text(&item, report),
            Value::List(_) => {
                item.wrong_type("a string or a map", report);
                None
            }
        };
        let Some(mount) = mount.filter(|mount| is_possible(mount, &item, report)) else { continue };
        if found.iter().any(|other| other.remote == mount.remote) {
            report.mistake(item.mistake(format!("`{}` is mounted twice", mount.remote)));
        }
        found.push(mount);
    }
    found
}

fn of_text(item: &Field<'_>, report: &mut Report) -> Option<Mount> {
    let text = item.filled_text(report)?;
    let mut parts = text.splitn(3, ':');
    let (local, remote) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if local.is_empty() || remote.is_empty() {
        let finding = item.mistake(format!("`{text}` does not say where it is mounted"));
        report.mistake(finding.help("write `LOCAL:/REMOTE` or `LOCAL:/REMOTE:ro`"));
        return None;
    }
    Some(Mount {
        local: local.to_owned(),
        remote: remote.to_owned(),
        options: parts.next().map(str::to_owned),
        mode: None,
        owner: None,
    })
}

fn of_map(item: &Field<'_>, section: &str, report: &mut Report) -> Option<Mount> {
    let section = item.section_with_strangers(section, report)?;
    let text = |key: &str, report: &mut Report| section.get(key).and_then(|field| field.filled_text(report));
    for key in ["local", "remote"].into_iter().filter(|key| section.get(key).is_none()) {
        report.mistake(item.mistake(format!("missing required key `{key}`")));
    }
    let (local, remote) = (text("local", report), text("remote", report));
    let options = text("options", report);
    let mode = section.get("mode").and_then(|field| mode(&field, report));
    let owner = section.get("owner").and_then(|field| owner(&field, report));
    Some(Mount { local: local?, remote: remote?, options, mode, owner })
}

fn is_possible(mount: &Mount, item: &Field<'_>, report: &mut Report) -> bool {
    let Mount { local, remote, .. } = mount;
    let has_parent = |path: &str| path.split('/').any(|part| part == "..");
    let (message, help) = if !remote.starts_with('/') || remote.trim_matches('/').is_empty() {
        (format!("`{remote}` is not an absolute path"), "the path in the container starts with `/`")
    } else if has_parent(remote) {
        (format!("`{remote}` leads out of its folder"), "remove `..`")
    } else if local.starts_with('~') || local.contains('$') {
        (format!("no shell expands `{local}`"), "write a relative or an absolute path")
    } else {
        return true;
    };
    report.mistake(item.mistake(message).help(help));
    false
}

/// Reads the digits that are written: `0600` without quotes is the number 384 in YAML, which nobody means.
fn mode(field: &Field<'_>, report: &mut Report) -> Option<FileMode> {
    let Value::Scalar(scalar) = &field.node.value else {
        field.wrong_type("a string", report);
        return None;
    };
    let mode = FileMode::parse(&scalar.raw);
    if mode.is_none() {
        let finding = field.mistake(format!("{} is not a file mode", scalar.describe()));
        report.mistake(finding.help("write octal digits in quotes: `\"0640\"`"));
    } else if scalar.as_text().is_some_and(|text| text != scalar.raw) {
        let message = format!("Kamal reads `{}` without quotes as another number", scalar.raw);
        report.warn(field.mistake(message).help(format!("write `\"{}\"`", scalar.raw)));
    }
    mode
}

/// `USER`, `USER:GROUP` or `:GROUP`, by name or number.
fn owner(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let text = field.filled_text(report)?;
    let is_plain = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    let is_owner = !text.starts_with('-') && text.split(':').count() <= 2 && text.split(':').all(is_plain);
    if !is_owner {
        let finding = Finding::new(field.node.at, &field.path, format!("`{text}` is not an owner"));
        report.mistake(finding.help("write `USER`, `USER:GROUP` or their numbers in quotes: `\"999:999\"`"));
    }
    is_owner.then_some(text)
}

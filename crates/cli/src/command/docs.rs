use freehold_config::reference_markdown;

use crate::context::Context;
use crate::error::{CommandError, UsageError};

/// Print the documentation of the deploy file, or of one of its sections.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  freehold docs\n  freehold docs proxy\n\
    Sections:\n  accessory, alias, boot, builder, configuration, cron, env, images, logging,\n  \
    output, proxy, registry, role, servers, ssh, sshkit")]
pub(crate) struct Args {
    /// The section, such as `proxy`.
    section: Option<String>,
}

/// The sections by the names that Kamal gives them: the keys that they are about.
const SECTIONS: [(&str, &[&str]); 16] = [
    ("accessory", &["accessories"]),
    ("alias", &["aliases"]),
    ("boot", &["boot"]),
    ("builder", &["builder"]),
    ("configuration", &[""]),
    ("cron", &["cron"]),
    ("env", &["env"]),
    ("images", &["images"]),
    ("logging", &["logging"]),
    ("output", &["output"]),
    ("proxy", &["proxy"]),
    ("registry", &["registry"]),
    ("role", &["servers/ROLE"]),
    ("servers", &["servers"]),
    ("ssh", &["ssh"]),
    ("sshkit", &["sshkit"]),
];

pub(crate) fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let reference = reference_markdown();
    let text = match &arguments.section {
        None => reference,
        Some(name) => section(&reference, name)?,
    };
    context.ui.write_result(text.trim_end().as_bytes());
    context.ui.write_result(b"\n");
    Ok(())
}

fn section(reference: &str, name: &str) -> Result<String, UsageError> {
    let plain = name.replace('-', "_");
    // `accessories` and `aliases`, as the file has them, are understood as well.
    let known = SECTIONS.iter().find(|(known, keys)| *known == plain || keys.contains(&plain.as_str()));
    let Some((_, keys)) = known else {
        let names: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
        return Err(UsageError::new(format!("there is no documentation of a section `{name}`"))
            .help(format!("the sections are: {}", names.join(", "))));
    };
    let (root, parts) = parts(reference);
    let mut text = String::new();
    for key in *keys {
        if key.is_empty() {
            text.push_str(root);
            continue;
        }
        if let Some(row) = root.lines().find(|line| line.starts_with(&format!("| `{key}` |"))) {
            let head: Vec<&str> =
                root.lines().skip_while(|line| !line.starts_with("| Key")).take(2).collect();
            text.push_str(&format!("## `{key}`\n\n{}\n{row}\n", head.join("\n")));
        }
        let below = format!("{key}/");
        for (_, part) in parts.iter().filter(|(title, _)| title == key || title.starts_with(&below)) {
            text.push_str(if text.is_empty() { "" } else { "\n" });
            text.push_str(part);
        }
    }
    Ok(text)
}

/// Splits the reference into the part of the root and the parts of the sections, each with its title.
fn parts(reference: &str) -> (&str, Vec<(String, &str)>) {
    let mut starts: Vec<usize> = reference.match_indices("\n## ").map(|(at, _)| at + 1).collect();
    starts.push(reference.len());
    let mut root = "";
    let mut parts = Vec::new();
    for window in starts.windows(2) {
        let [from, to] = window else { continue };
        let part = reference.get(*from..*to).unwrap_or_default();
        let title = part.lines().next().unwrap_or_default().trim_start_matches("## ").trim_matches('`');
        if title == "Root" {
            root = part;
        } else {
            parts.push((title.to_owned(), part));
        }
    }
    (root, parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_is_documented() {
        let reference = reference_markdown();
        for (name, _) in SECTIONS {
            let text = section(&reference, name).unwrap();
            assert!(text.contains("| --- | --- |"), "{name}: {text}");
        }
        assert!(section(&reference, "traefik").is_err());
    }
}

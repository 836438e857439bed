use std::fmt::Write as _;

use super::{Key, Support, keys_of, table::SECTIONS};
use crate::docker_flag::{FLAGS, UNSUPPORTED};

/// A page of the documentation: its name, Kamal's where Kamal has it, and the sections and root keys that it is about.
struct Page {
    name: &'static str,
    sections: &'static [&'static str],
    root_keys: &'static [&'static str],
}

const fn page(name: &'static str, sections: &'static [&'static str]) -> Page {
    Page { name, sections, root_keys: &[] }
}

const PAGES: &[Page] = &[
    page("accessory", &["accessories/NAME", "accessories/NAME/files", "accessories/NAME/directories"]),
    Page { name: "alias", sections: &[], root_keys: &["aliases"] },
    page("boot", &["boot"]),
    page("builder", &["builder", "builder/cache", "builder/pack"]),
    page("canary", &["canary", "canary/verdict"]),
    page("configuration", &[""]),
    page("cron", &["cron/NAME"]),
    page("env", &["env"]),
    page("firewall", &["firewall", "firewall/allow"]),
    page("images", &["images/NAME"]),
    page("logging", &["logging"]),
    Page { name: "options", sections: &[], root_keys: &[] },
    page("output", &["output", "output/file", "output/otel"]),
    page(
        "proxy",
        &[
            "proxy",
            "proxy/ssl",
            "proxy/target_tls",
            "proxy/healthcheck",
            "proxy/passive_health",
            "proxy/rate_limit",
            "proxy/redirects",
            "proxy/headers",
            "proxy/headers/changes",
            "proxy/headers/hsts",
            "proxy/buffering",
            "proxy/logging",
            "proxy/run",
            "proxy/run/acme",
            "proxy/run/acme/eab",
            "proxy/run/acme/dns",
        ],
    ),
    page("registry", &["registry"]),
    page("role", &["servers/ROLE"]),
    Page { name: "servers", sections: &["servers/ROLE"], root_keys: &["servers"] },
    page("ssh", &["ssh"]),
    page("sshkit", &["sshkit"]),
    page("trust", &["verify", "scan"]),
];

/// Returns the names of the pages that [`docs`] knows, in alphabetical order.
#[must_use]
pub fn docs_pages() -> Vec<&'static str> {
    PAGES.iter().map(|page| page.name).collect()
}

/// Returns one page of the documentation of the deploy file as plain text, or none if there is no such page.
#[must_use]
pub fn docs(name: &str) -> Option<String> {
    let page = PAGES.iter().find(|page| page.name == name)?;
    let mut text = String::new();
    for key in keys_of("").filter(|key| page.root_keys.contains(&key.name)) {
        write_key(&mut text, key, "");
    }
    for section in SECTIONS.iter().filter(|section| page.sections.contains(&section.name)) {
        if !text.is_empty() {
            text.push('\n');
        }
        if section.name.is_empty() {
            write_line(&mut text, section.doc);
        } else {
            write_line(&mut text, &format!("{}: {}", section.name.replace('/', ": "), section.doc));
        }
        for key in keys_of(section.name) {
            text.push('\n');
            write_key(&mut text, key, "  ");
        }
    }
    if page.name == "options" {
        write_options(&mut text);
    }
    Some(text)
}

fn write_key(text: &mut String, key: &Key, indent: &str) {
    let default = if key.default.is_empty() { String::new() } else { format!(", default: {}", key.default) };
    write_line(text, &format!("{indent}{} ({}{default})", key.name, key.kind.name()));
    let note = match key.support {
        Support::NoEffect { .. } => "No effect. ",
        Support::Full => "",
    };
    write_line(text, &format!("{indent}    {note}{}", key.doc));
    if !key.example.is_empty() {
        write_line(text, &format!("{indent}    {}: {}", key.name, key.example));
    }
}

fn write_options(text: &mut String) {
    write_line(
        text,
        "Flags of `docker run`, without the leading `--`, in `options` of a role, of an accessory, of the proxy.",
    );
    let names: Vec<&str> = FLAGS.iter().map(|flag| flag.name).chain(["restart"]).collect();
    write_line(text, &format!("\n  {}\n\nRefused:\n", names.join("\n  ")));
    for (name, reason) in UNSUPPORTED {
        write_line(text, &format!("  {name}: {reason}"));
    }
}

fn write_line(text: &mut String, line: &str) {
    // Writing to a String cannot go wrong.
    let _: std::fmt::Result = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// kamal-compat §12.2 row 9: every page of Kamal's `docs` is there, and each section on one of them.
    #[test]
    fn every_page_of_kamal_and_every_section_is_there() {
        let kamal = [
            "accessory",
            "alias",
            "boot",
            "builder",
            "configuration",
            "env",
            "logging",
            "output",
            "proxy",
            "registry",
            "role",
            "servers",
            "ssh",
            "sshkit",
        ];
        for name in kamal {
            assert!(docs(name).is_some_and(|text| text.lines().count() > 1), "{name}");
        }
        for section in SECTIONS {
            assert!(PAGES.iter().any(|page| page.sections.contains(&section.name)), "{}", section.name);
        }
        assert!(docs("nothing").is_none());
        assert!(docs("proxy").unwrap().contains("  host (string)\n"));
        assert!(docs("options").unwrap().contains("  gpus\n"));
        assert!(docs_pages().is_sorted());
    }
}

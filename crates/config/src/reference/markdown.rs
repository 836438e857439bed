use std::fmt::Write as _;

use super::{Support, keys_of, table::SECTIONS};
use crate::docker_flag::{FLAGS, UNSUPPORTED};

const OPENING: &str = "# The deploy file

<!-- Generated from the table of keys in the `config` crate; do not edit. -->

`config/deploy.yml`, and with `-d DESTINATION` also `config/deploy.DESTINATION.yml` merged over it: maps key by key,
anything else replaced. The schema is that of Kamal 2.12; *not yet* marks its keys that this version refuses.

Scalars without quotes are read after YAML 1.1, as Ruby does: `yes`, `no`, `on`, `off` are booleans, `0123` is octal,
`1.10` is the number 1.1, `12:30` is 45000. Freehold warns where that changes a text. Keys are always the text that is
written.

Each file is a template (ERB) before it is YAML: `<%= ENV[\"NAME\"] %>`, `<%= ENV.fetch(\"NAME\", \"default\") %>`,
`<%= `command` %>`, `<%= File.read(\"VERSION\").strip %>`, `<% if … %>`, `<% list.each do |item| %>`, `JSON.parse`, and
`<% require \"dotenv\"; Dotenv.load(\".env\") %>` need no Ruby. A template that holds more is given to `ruby` where one is
installed.
";

/// Returns the reference of the deploy file in Markdown, as `docs/reference/deploy-file.md` holds it.
#[must_use]
pub fn reference_markdown() -> String {
    let mut text = OPENING.to_owned();
    for section in SECTIONS {
        let title = if section.name.is_empty() { "Root".to_owned() } else { format!("`{}`", section.name) };
        text.push_str(&format!("\n## {title}\n\n{}\n\n", section.doc));
        text.push_str("| Key | Type | Default | Meaning |\n| --- | --- | --- | --- |\n");
        for key in keys_of(section.name) {
            let doc = match key.support {
                Support::NoEffect { .. } => format!("*No effect.* {}", key.doc),
                Support::Full => key.doc.to_owned(),
            };
            let doc = if key.example.is_empty() { doc } else { format!("{doc} Example: `{}`", key.example) };
            let row = [format!("`{}`", key.name), key.kind.name(), key.default.to_owned(), doc];
            let row: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            // Writing to a String cannot go wrong.
            let _: std::fmt::Result = writeln!(text, "| {} |", row.join(" | "));
        }
    }
    text.push_str(
        "\n## `options`\n\nThe `options` of a role, of an accessory and of `proxy/run`: flags of `docker run`, without the leading `--`. Supported are ",
    );
    let names: Vec<String> = FLAGS.iter().map(|flag| format!("`{}`", flag.name)).collect();
    text.push_str(&names.join(", "));
    text.push_str(" and `restart` (`unless-stopped` by default). Refused, with the reason:\n\n");
    for (name, reason) in UNSUPPORTED {
        text.push_str(&format!("- `{name}`: {reason}\n"));
    }
    text
}

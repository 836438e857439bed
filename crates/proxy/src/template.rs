//! Error pages of the application's own.
//!
//! A page is a template of Go's `html/template`, of which this is the part that a page with one variable, `.Message`, has a
//! use for: `{{ .Message }}`, `{{ if .Message }}`, `{{ else }}`, `{{ end }}`, comments and trim markers. Anything else is an
//! error at deploy time.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::page::escape_html;

/// The pages of an application cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PagesError {
    #[error("cannot read the folder")]
    Folder { source: io::Error },
    #[error("there is no `*.html` in `{folder}`", folder = folder.display())]
    Empty { folder: PathBuf },
    #[error("`{file}` cannot be used: {what}", file = file.display())]
    Template { file: PathBuf, what: String },
}

/// The pages of an application, by status.
#[derive(Debug, Default)]
pub(crate) struct ErrorPages(BTreeMap<u16, Template>);

impl ErrorPages {
    /// Reads every page of a folder.
    pub(crate) fn load(folder: &Path) -> Result<Self, PagesError> {
        let mut pages = BTreeMap::new();
        let mut found = false;
        for entry in fs_err::read_dir(folder).map_err(|source| PagesError::Folder { source })? {
            let path = entry.map_err(|source| PagesError::Folder { source })?.path();
            if path.extension().is_none_or(|extension| extension != "html") {
                continue;
            }
            found = true;
            let text = fs_err::read_to_string(&path).map_err(|source| PagesError::Folder { source })?;
            let template =
                Template::parse(&text).map_err(|what| PagesError::Template { file: path.clone(), what })?;
            if let Some(status) = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()) {
                pages.insert(status, template);
            }
        }
        if found { Ok(Self(pages)) } else { Err(PagesError::Empty { folder: folder.to_owned() }) }
    }

    /// Writes the page of a status, where there is one.
    pub(crate) fn render(&self, status: u16, message: &str) -> Option<String> {
        let mut out = String::new();
        self.0.get(&status)?.render(message, &mut out);
        Some(out)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Text(String),
    /// The message, in HTML or inside a script.
    Message {
        in_script: bool,
    },
    /// One of two parts, by whether there is a message.
    Choice {
        some: Template,
        none: Template,
    },
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Template(Vec<Node>);

/// A piece of a template's text.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'t> {
    Text(&'t str),
    Action(&'t str),
}

impl Template {
    fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = pieces(text)?.into_iter();
        let mut in_script = false;
        match parse_part(&mut pieces, &mut in_script)? {
            (template, None) => Ok(template),
            (_, Some(word)) => Err(format!("`{{{{ {word} }}}}` without `{{{{ if .Message }}}}`")),
        }
    }

    fn render(&self, message: &str, out: &mut String) {
        for node in &self.0 {
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Message { in_script: false } => out.push_str(&escape_html(message)),
                Node::Message { in_script: true } => write_script_string(message, out),
                Node::Choice { some, none } => {
                    let part = if message.is_empty() { none } else { some };
                    part.render(message, out);
                }
            }
        }
    }
}

/// Splits a text at its actions, trimming blanks as the markers say and leaving comments out.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trims = false;
    loop {
        let (mut before, action) = match rest.split_once("{{") {
            Some((before, after)) => (before, Some(after)),
            None => (rest, None),
        };
        if trims {
            before = before.trim_start();
        }
        let Some(action) = action else {
            pieces.push(Piece::Text(before));
            return Ok(pieces);
        };
        let (inside, after) = action.split_once("}}").ok_or("`{{` without `}}`")?;
        let opening = inside.strip_prefix('-').filter(|inside| inside.starts_with(char::is_whitespace));
        if opening.is_some() {
            before = before.trim_end();
        }
        let inside = opening.unwrap_or(inside);
        let closing = inside.strip_suffix('-').filter(|inside| inside.ends_with(char::is_whitespace));
        trims = closing.is_some();
        let inside = closing.unwrap_or(inside).trim();
        pieces.push(Piece::Text(before));
        if !(inside.starts_with("/*") && inside.ends_with("*/")) {
            pieces.push(Piece::Action(inside));
        }
        rest = after;
    }
}

/// Parses up to the end or to the word that ends a part, which it returns.
fn parse_part<'t>(
    pieces: &mut std::vec::IntoIter<Piece<'t>>,
    in_script: &mut bool,
) -> Result<(Template, Option<&'t str>), String> {
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        match piece {
            Piece::Text(text) => {
                *in_script = ends_in_script(text, *in_script);
                nodes.push(Node::Text(text.to_owned()));
            }
            Piece::Action(".Message") => nodes.push(Node::Message { in_script: *in_script }),
            Piece::Action(word @ ("else" | "end")) => return Ok((Template(nodes), Some(word))),
            Piece::Action(action) => {
                let condition = action.strip_prefix("if").map(str::trim);
                if condition != Some(".Message") {
                    return Err(format!("`{{{{ {action} }}}}` is not supported"));
                }
                let (some, word) = parse_part(pieces, in_script)?;
                let none = match word {
                    Some("else") => match parse_part(pieces, in_script)? {
                        (none, Some("end")) => none,
                        _ => return Err("`{{ else }}` without `{{ end }}`".to_owned()),
                    },
                    Some(_) => Template::default(),
                    None => return Err("`{{ if .Message }}` without `{{ end }}`".to_owned()),
                };
                nodes.push(Node::Choice { some, none });
            }
        }
    }
    Ok((Template(nodes), None))
}

/// Says whether the end of a text lies inside a script.
fn ends_in_script(text: &str, before: bool) -> bool {
    let text = text.to_ascii_lowercase();
    match (text.rfind("<script"), text.rfind("</script")) {
        (Some(begin), Some(end)) => begin > end,
        (Some(_), None) => true,
        (None, Some(_)) => false,
        (None, None) => before,
    }
}

/// Writes a text as a string of JavaScript that is safe inside HTML.
fn write_script_string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        if character.is_ascii_alphanumeric() || " .,:-_".contains(character) {
            out.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str, message: &str) -> Result<String, String> {
        let mut out = String::new();
        Template::parse(text)?.render(message, &mut out);
        Ok(out)
    }

    #[test]
    fn templates_show_the_message_in_its_place() {
        for (template, message, wanted) in [
            ("<p>{{ .Message }}</p>", "a <b> & \"c\"", "<p>a &lt;b&gt; &amp; &#34;c&#34;</p>"),
            ("{{if .Message}}yes: {{.Message}}{{else}}no{{end}}.", "m", "yes: m."),
            ("{{if .Message}}yes: {{.Message}}{{else}}no{{end}}.", "", "no."),
            ("{{ if .Message }}yes{{ end }}.", "", "."),
            ("a {{- .Message -}} b {{/* hidden */}}c", "m", "amb c"),
            (
                "<script>var m = {{ .Message }};</script>{{ .Message }}",
                "</\u{e4}",
                "<script>var m = \"\\u003c\\u002f\\u00e4\";</script>&lt;/\u{e4}",
            ),
            ("no action } }", "m", "no action } }"),
        ] {
            assert_eq!(render(template, message).unwrap(), wanted, "{template}");
        }
    }

    // proxy-compat case 194.
    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in [
            "{{ .Other }}",
            "{{ if .Message }}",
            "{{ end }}",
            "{{ else }}",
            "{{ range . }}{{ end }}",
            "{{ .Message",
        ] {
            assert!(render(bad, "").is_err(), "{bad}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(ErrorPages::load(folder.path()), Err(PagesError::Empty { .. })));
        assert!(matches!(ErrorPages::load(&folder.path().join("none")), Err(PagesError::Folder { .. })));
        fs_err::write(folder.path().join("404.html"), "{{ nonsense }}").unwrap();
        let error = ErrorPages::load(folder.path()).unwrap_err();
        assert!(error.to_string().contains("`{{ nonsense }}` is not supported"), "{error}");
    }
}

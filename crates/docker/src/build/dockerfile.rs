//! The images that a Dockerfile builds upon, as far as its text tells.

use std::collections::BTreeMap;

/// Returns the images that a Dockerfile begins with or copies from, each once; none where its text alone does not tell
/// what a build takes in: a variable without a value, or something that `ADD` fetches from elsewhere.
///
/// Lines of here-documents are taken for instructions too: at worst something is named that is no image.
pub(super) fn base_images(text: &str, args: &BTreeMap<String, String>) -> Option<Vec<String>> {
    let mut found = Found { images: Vec::new(), stages: Vec::new(), variables: BTreeMap::new(), args };
    for instruction in instructions(text) {
        found.take(&instruction)?;
    }
    Some(found.images)
}

struct Found<'a> {
    images: Vec<String>,
    stages: Vec<String>,
    /// Those that are set before the first stage.
    variables: BTreeMap<String, String>,
    args: &'a BTreeMap<String, String>,
}

impl Found<'_> {
    fn take(&mut self, instruction: &str) -> Option<()> {
        let mut words = instruction.split_whitespace();
        match words.next()?.to_ascii_uppercase().as_str() {
            "ARG" if self.stages.is_empty() => self.declare(words),
            "FROM" => self.stage(words)?,
            "COPY" => self.flags(words, "--from=")?,
            "ADD" => {
                // A variable may hold an address; a name of GitHub's is a repository.
                let is_elsewhere = |word: &str| {
                    ["://", "git@", "$"].iter().any(|mark| word.contains(mark))
                        || word.starts_with("github.com/")
                };
                if words.clone().any(is_elsewhere) {
                    return None;
                }
                self.flags(words, "--from=")?;
            }
            "RUN" => self.mounts(words)?,
            _ => {}
        }
        Some(())
    }

    fn declare<'w>(&mut self, words: impl Iterator<Item = &'w str>) {
        for word in words {
            let (name, default) = match word.split_once('=') {
                Some((name, default)) => (name, Some(default.trim_matches(['"', '\'']).to_owned())),
                None => (word, None),
            };
            if let Some(value) = self.args.get(name).cloned().or(default) {
                self.variables.insert(name.to_owned(), value);
            }
        }
    }

    fn stage<'w>(&mut self, words: impl Iterator<Item = &'w str>) -> Option<()> {
        let mut words = words.filter(|word| !word.starts_with("--"));
        let image = expand(words.next()?, &self.variables)?;
        self.add(image);
        let name = words.next().filter(|word| word.eq_ignore_ascii_case("as")).and(words.next());
        // Stages have numbers too.
        self.stages.push(name.map_or_else(String::new, str::to_ascii_lowercase));
        Some(())
    }

    fn flags<'w>(&mut self, words: impl Iterator<Item = &'w str>, flag: &str) -> Option<()> {
        for word in words.take_while(|word| word.starts_with("--")) {
            if let Some(name) = word.strip_prefix(flag) {
                self.add(plain(name)?);
            }
        }
        Some(())
    }

    fn mounts<'w>(&mut self, words: impl Iterator<Item = &'w str>) -> Option<()> {
        for word in words.take_while(|word| word.starts_with("--")) {
            let Some(mount) = word.strip_prefix("--mount=") else { continue };
            for name in mount.split(',').filter_map(|part| part.strip_prefix("from=")) {
                self.add(plain(name)?);
            }
        }
        Some(())
    }

    fn add(&mut self, image: String) {
        let is_number = !image.is_empty() && image.bytes().all(|byte| byte.is_ascii_digit());
        let is_stage = self.stages.contains(&image.to_ascii_lowercase());
        if image != "scratch" && !is_number && !is_stage && !self.images.contains(&image) {
            self.images.push(image);
        }
    }
}

fn plain(name: &str) -> Option<String> {
    (!name.contains('$')).then(|| name.trim_matches(['"', '\'']).to_owned())
}

/// Replaces `$NAME`, `${NAME}` and `${NAME:-default}`; none for a variable without a value and for other forms.
fn expand(text: &str, variables: &BTreeMap<String, String>) -> Option<String> {
    let text = text.trim_matches(['"', '\'']);
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let (name, default, behind) = match after.strip_prefix('{') {
            Some(inner) => {
                let (inner, behind) = inner.split_once('}')?;
                match inner.split_once(":-") {
                    Some((name, default)) => (name, Some(default), behind),
                    None => (inner, None, behind),
                }
            }
            None => {
                let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = after.find(|c| !is_of_name(c)).unwrap_or(after.len());
                let (name, behind) = after.split_at(end);
                (name, None, behind)
            }
        };
        let value = variables.get(name).map(String::as_str).filter(|value| !value.is_empty());
        expanded.push_str(value.or(default)?);
        rest = behind;
    }
    expanded.push_str(rest);
    (!expanded.is_empty()).then_some(expanded)
}

/// Joins the lines of each instruction and leaves out comments.
fn instructions(text: &str) -> Vec<String> {
    let escape = escape_character(text);
    let mut all = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        match line.strip_suffix(escape) {
            Some(begin) => {
                open.push_str(begin);
                open.push(' ');
            }
            None => all.push(std::mem::take(&mut open) + line),
        }
    }
    if !open.is_empty() {
        all.push(open);
    }
    all
}

/// The directive `# escape=` may name another one before anything else.
fn escape_character(text: &str) -> char {
    let directives = text.lines().map(str::trim).take_while(|line| line.starts_with('#'));
    let values = directives.filter_map(|line| line.trim_start_matches('#').trim().split_once('='));
    let escape = values.filter(|(name, _)| name.trim().eq_ignore_ascii_case("escape")).last();
    escape.and_then(|(_, value)| value.trim().chars().next()).unwrap_or('\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(text: &str) -> Option<Vec<String>> {
        base_images(text, &BTreeMap::from([("RUBY".to_owned(), "3.4".to_owned())]))
    }

    #[test]
    fn images_are_those_of_stages_copies_and_mounts() {
        let text = "# syntax=docker/dockerfile:1\nARG NODE=22\nARG RUBY=3.3\nARG VARIANT\n\
            FROM --platform=$BUILDPLATFORM node:${NODE} AS Assets\nCOPY --chown=1:1 --from=busybox:1 /a /b\n\
            FROM ruby:$RUBY-slim${VARIANT:-} as base\n# FROM commented\n\
            RUN --mount=type=bind,from=tools:2,target=/t \\\n  # inside\n  --mount=type=cache,target=/c make\n\
            FROM base\nCOPY --from=assets /x /y\nCOPY --from=0 /x /z\nFROM scratch\n";
        let expected = ["node:22", "busybox:1", "ruby:3.4-slim", "tools:2"];
        assert_eq!(images(text), Some(expected.map(str::to_owned).to_vec()));
        assert_eq!(images("from scratch\ncopy a /b\n"), Some(Vec::new()));
        assert_eq!(
            images("# escape=`\nFROM a `\n AS b\nRUN dir C:\\\nFROM c\n"),
            Some(vec!["a".into(), "c".into()])
        );
    }

    #[test]
    fn what_the_text_does_not_tell_is_unknown() {
        for text in [
            "ARG BASE\nFROM $BASE\n",
            "FROM ${BASE:+x}\n",
            "FROM ${BASE\n",
            "FROM scratch\nADD https://example.com/a /a\n",
            "FROM scratch\nADD git@github.com:acme/app.git /a\n",
            "FROM scratch\nCOPY --from=$IMAGE /a /b\n",
            "FROM scratch\nRUN --mount=from=$IMAGE,target=/a true\n",
        ] {
            assert_eq!(images(text), None, "{text}");
        }
    }
}

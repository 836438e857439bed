//! `${…}` in clear values and labels is the host's: Kamal lets the login shell there replace it, and projects rely on it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freehold_docker::{ContainerSpec, EnvValue};
use freehold_ssh::quote;

use crate::engine_host::EngineHost;
use crate::host::HostError;

impl EngineHost {
    /// Replaces `${…}` in clear variables and labels as the login shell of the host does. Secrets are never looked into.
    pub(super) async fn expand(&self, spec: &mut ContainerSpec) -> Result<(), HostError> {
        let clear = spec.env.values_mut().filter_map(|value| match value {
            EnvValue::Clear(text) => Some(text),
            EnvValue::Secret(_) => None,
        });
        let mut texts: Vec<&mut String> =
            clear.chain(spec.labels.values_mut()).filter(|text| text.contains("${")).collect();
        if texts.is_empty() {
            return Ok(());
        }
        let operation = "replace `${…}` in variables and labels";
        let output = self.plain_script(operation, &script(texts.iter().map(|text| text.as_str()))).await?;
        let replaced: Vec<String> = output.stdout.lines().filter_map(decoded).collect();
        if replaced.len() != texts.len() {
            return Err(self.refused(operation, &output));
        }
        for (text, replaced) in texts.iter_mut().zip(replaced) {
            **text = replaced;
        }
        Ok(())
    }
}

/// Prints each text with its `${…}` replaced, one a line, so encoded that a line stays one.
fn script<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let lines: Vec<String> = texts
        .map(|text| {
            format!("t={} && printf %s \"$t\" | base64 | tr -d '\\n' && echo", in_double_quotes(text))
        })
        .collect();
    format!("\"${{SHELL:-/bin/sh}}\" -c {}", quote(&lines.join(" && ")))
}

/// Puts a text into double quotes in which nothing but `${…}` means anything to a shell, as Kamal 2.12 does.
fn in_double_quotes(text: &str) -> String {
    let mut quoted = String::from("\"");
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let is_expansion = character == '$' && characters.peek() == Some(&'{');
        if matches!(character, '\\' | '"' | '`' | '$') && !is_expansion {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

fn decoded(line: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(line.trim()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// kamal-compat §10 row 1; kamal-compat §4 row 6
    #[test]
    fn a_shell_replaces_nothing_but_braces() {
        let texts = [
            (
                "a$b ${WHO} `id` $(id) \"q\" 'q' \\n \\${WHO} #{x} ä\nnext",
                "a$b ann `id` $(id) \"q\" 'q' \\n \\ann #{x} ä\nnext",
            ),
            ("${WHO}", "ann"),
            ("${NOBODY:-no one}${NOBODY}", "no one"),
        ];
        for shell in ["/bin/sh", "/bin/bash"] {
            let output = std::process::Command::new("/bin/sh")
                .args(["-c", &script(texts.iter().map(|(text, _)| *text))])
                .env_clear()
                .envs([("SHELL", shell), ("WHO", "ann"), ("PATH", "/usr/bin:/bin")])
                .output()
                .unwrap();
            let printed: Vec<String> = String::from_utf8(output.stdout)
                .unwrap()
                .lines()
                .map(|line| decoded(line).unwrap())
                .collect();
            assert_eq!(printed, texts.map(|(_, replaced)| replaced), "{shell}");
        }
    }

    #[test]
    fn a_shell_that_does_not_understand_says_so() {
        let failed = std::process::Command::new("/bin/sh")
            .args(["-c", &script(["${WHO?is not set}"].into_iter())])
            .env_remove("WHO")
            .output()
            .unwrap();
        assert!(!failed.status.success() && failed.stdout.is_empty(), "{failed:?}");
        assert!(String::from_utf8_lossy(&failed.stderr).contains("is not set"));
    }
}

use std::path::{Path, PathBuf};

use crate::environment::ClientEnvironment;

/// What the `%` tokens of OpenSSH's configuration stand for (`TOKENS` in ssh_config(5)).
pub(crate) struct Tokens<'a> {
    /// `%h`: the name after `HostName`.
    pub(crate) address: &'a str,
    /// `%n`: the name as it was given.
    pub(crate) name: &'a str,
    /// `%p`.
    pub(crate) port: u16,
    /// `%r`.
    pub(crate) user: &'a str,
    /// `%k`: the name under which the host's key is known.
    pub(crate) key_name: &'a str,
}

/// Why a text cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// A `%` token that has no meaning there, or that we do not know.
    #[error("`%{0}` is not supported here")]
    Token(String),
    /// `~` or `%d` without a home directory.
    #[error("there is no home directory")]
    NoHome,
    /// `~NAME`.
    #[error("the home directory of another user, `{0}`, is not supported")]
    OtherHome(String),
    /// `${NAME}` without such a variable.
    #[error("the environment variable `{0}` is not set")]
    Variable(String),
}

/// Replaces the `%` tokens of a text.
pub(crate) fn tokens(
    text: &str,
    values: &Tokens<'_>,
    environment: &ClientEnvironment,
) -> Result<String, ExpandError> {
    let mut output = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        if c != '%' {
            output.push(c);
            continue;
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        match characters.next() {
            Some('%') => output.push('%'),
            Some('h') => output.push_str(values.address),
            Some('n') => output.push_str(values.name),
            Some('p') => output.push_str(&values.port.to_string()),
            Some('r') => output.push_str(values.user),
            Some('k') => output.push_str(values.key_name),
            Some('u') => output.push_str(&environment.user),
            Some('i') => output.push_str(&rustix::process::getuid().as_raw().to_string()),
            Some('l') => output.push_str(&host),
            Some('L') => output.push_str(host.split('.').next().unwrap_or(&host)),
            Some('d') => {
                let home = environment.home.as_ref().ok_or(ExpandError::NoHome)?;
                output.push_str(&home.to_string_lossy());
            }
            other => return Err(ExpandError::Token(other.map(String::from).unwrap_or_default())),
        }
    }
    Ok(output)
}

/// Replaces `${NAME}` by the variables of the environment.
pub(crate) fn variables(text: &str, environment: &ClientEnvironment) -> Result<String, ExpandError> {
    let mut output = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, tail)) = after.split_once('}') else { break };
        let value = environment.variables.get(name);
        output.push_str(before);
        output.push_str(value.ok_or_else(|| ExpandError::Variable(name.to_owned()))?);
        rest = tail;
    }
    output.push_str(rest);
    Ok(output)
}

/// Makes a path of a text that may begin with `~`; a relative path belongs to `directory`.
pub(crate) fn path(
    text: &str,
    directory: &Path,
    environment: &ClientEnvironment,
) -> Result<PathBuf, ExpandError> {
    let Some(rest) = text.strip_prefix('~') else { return Ok(directory.join(text)) };
    let home = environment.home.as_ref().ok_or(ExpandError::NoHome)?;
    match rest.strip_prefix('/') {
        Some(rest) => Ok(home.join(rest)),
        None if rest.is_empty() => Ok(home.clone()),
        None => Err(ExpandError::OtherHome(rest.split('/').next().unwrap_or(rest).to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn environment() -> ClientEnvironment {
        ClientEnvironment {
            home: Some(PathBuf::from("/home/ada")),
            user: "ada".to_owned(),
            variables: BTreeMap::from([("KEYS".to_owned(), "/keys".to_owned())]),
            ..ClientEnvironment::default()
        }
    }

    const VALUES: Tokens<'static> =
        Tokens { address: "10.0.0.1", name: "web", port: 2222, user: "root", key_name: "web-key" };

    #[test]
    fn tokens_variables_and_home_are_replaced() {
        assert_eq!(tokens("%h %n %p %r %k %u %d %%h", &VALUES, &environment()).unwrap(), {
            "10.0.0.1 web 2222 root web-key ada /home/ada %h"
        });
        assert_eq!(variables("${KEYS}/${KEYS}", &environment()).unwrap(), "/keys//keys");
        assert_eq!(path("~/a", Path::new("/p"), &environment()).unwrap(), Path::new("/home/ada/a"));
        assert_eq!(path("a", Path::new("/p"), &environment()).unwrap(), Path::new("/p/a"));
    }

    #[test]
    fn what_is_not_known_is_said() {
        assert_eq!(tokens("%C", &VALUES, &environment()), Err(ExpandError::Token("C".to_owned())));
        assert_eq!(tokens("%", &VALUES, &environment()), Err(ExpandError::Token(String::new())));
        assert_eq!(variables("${NO}", &environment()), Err(ExpandError::Variable("NO".to_owned())));
        let other = path("~bob/x", Path::new("/"), &environment());
        assert_eq!(other, Err(ExpandError::OtherHome("bob".to_owned())));
    }
}

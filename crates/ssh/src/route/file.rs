use std::path::{Path, PathBuf};

use super::RouteError;
use super::expand;
use super::options::Options;
use super::pattern::{list_matches, matches};
use crate::environment::ClientEnvironment;

/// Reads OpenSSH client configuration without an OpenSSH client: `Host`, `Match` by name and user, `Include`.
///
/// A `Match` with other criteria is an error, because guessing could mean the wrong user or host.
pub(crate) struct Reader<'a> {
    environment: &'a ClientEnvironment,
    /// The name as it was given.
    name: &'a str,
    user: Option<&'a str>,
    options: Options,
}

/// How deep `Include` may go, as in OpenSSH.
const DEPTH: usize = 16;

impl<'a> Reader<'a> {
    pub(crate) fn new(name: &'a str, user: Option<&'a str>, environment: &'a ClientEnvironment) -> Self {
        Self { environment, name, user, options: Options::default() }
    }

    /// Reads a file that may be missing; relative includes belong to `directory`.
    pub(crate) fn read(&mut self, file: &Path, directory: &Path) -> Result<(), RouteError> {
        self.read_at_depth(file, directory, 0)
    }

    pub(crate) fn finish(self) -> Options {
        self.options
    }

    fn read_at_depth(&mut self, file: &Path, directory: &Path, depth: usize) -> Result<(), RouteError> {
        let text = match fs_err::read(file) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(RouteError::Read(std::sync::Arc::new(error))),
        };
        let mut active = true;
        for (index, line) in text.lines().enumerate() {
            let at = Place { file, line: index + 1 };
            let Some((keyword, words)) = split_line(line).map_err(|reason| at.syntax(reason))? else {
                continue;
            };
            match keyword.as_str() {
                "host" => active = list_matches(words.iter().map(String::as_str), self.name),
                "match" => active = self.matches_criteria(&words, &at)?,
                _ if !active => {}
                "include" => {
                    if depth >= DEPTH {
                        return Err(at.syntax("too many nested `Include`"));
                    }
                    for word in &words {
                        for included in self.included(word, directory)? {
                            self.read_at_depth(&included, directory, depth + 1)?;
                        }
                    }
                }
                _ => self.options.add(&keyword, words),
            }
        }
        Ok(())
    }

    fn matches_criteria(&self, words: &[String], at: &Place<'_>) -> Result<bool, RouteError> {
        let address = self.options.first("hostname").unwrap_or(self.name);
        let user = self.user.or_else(|| self.options.first("user")).unwrap_or(&self.environment.user);
        let mut words = words.iter();
        let mut all = true;
        while let Some(criterion) = words.next() {
            let (negated, criterion) = match criterion.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, criterion.as_str()),
            };
            let criterion = criterion.to_ascii_lowercase();
            if criterion == "all" {
                all &= !negated;
                continue;
            }
            let text = match criterion.as_str() {
                "host" => address,
                "originalhost" => self.name,
                "user" => user,
                "localuser" => &self.environment.user,
                // A criterion that cannot change the outcome any more need not be understood.
                _ if !all => return Ok(false),
                _ => return Err(at.unsupported_match(criterion)),
            };
            let patterns = words.next().ok_or_else(|| at.syntax("a criterion of `Match` has no pattern"))?;
            all &= list_matches(patterns.split(','), text) != negated;
        }
        Ok(all)
    }

    fn included(&self, word: &str, directory: &Path) -> Result<Vec<PathBuf>, RouteError> {
        let expanded = expand::variables(word, self.environment)
            .and_then(|text| expand::path(&text, directory, self.environment))
            .map_err(|source| RouteError::Expand {
                host: self.name.to_owned(),
                keyword: "Include".to_owned(),
                source,
            })?;
        Ok(glob(&expanded))
    }
}

struct Place<'a> {
    file: &'a Path,
    line: usize,
}

impl Place<'_> {
    fn syntax(&self, reason: &'static str) -> RouteError {
        RouteError::Syntax { file: self.file.to_owned(), line: self.line, reason }
    }

    fn unsupported_match(&self, criterion: String) -> RouteError {
        RouteError::UnsupportedMatch { file: self.file.to_owned(), line: self.line, criterion }
    }
}

/// Splits a line into its keyword, in lower case, and its words; none for an empty line or a comment.
fn split_line(line: &str) -> Result<Option<(String, Vec<String>)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
    let (keyword, rest) = line.split_at_checked(end).unwrap_or((line, ""));
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let keyword = keyword.to_ascii_lowercase();
    // The whole rest of the line is a command; quotes in it are for the shell.
    if matches!(keyword.as_str(), "proxycommand" | "knownhostscommand" | "localcommand" | "remotecommand") {
        return Ok(Some((keyword, vec![rest.to_owned()])));
    }
    let words = split_words(rest)?;
    if words.is_empty() { Err("the keyword has no value") } else { Ok(Some((keyword, words))) }
}

fn split_words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None if c == '#' && word.is_none() => break,
            None => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

/// Returns the files that match a path with patterns in its components, sorted.
fn glob(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in path.components() {
        let text = component.as_os_str().to_string_lossy();
        if !text.contains(['*', '?']) {
            found.iter_mut().for_each(|base| base.push(component));
            continue;
        }
        let mut next = Vec::new();
        for base in &found {
            let Ok(entries) = fs_err::read_dir(base) else { continue };
            let names =
                entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
            let fits =
                |name: &String| matches(&text, name) && (text.starts_with('.') || !name.starts_with('.'));
            next.extend(names.filter(fits).map(|name| base.join(name)));
        }
        next.sort();
        found = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str, name: &str) -> Result<Options, RouteError> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config");
        fs_err::write(&file, text).unwrap();
        fs_err::create_dir_all(directory.path().join("more")).unwrap();
        fs_err::write(directory.path().join("more/1.conf"), "Host web\n  Port 2201\n").unwrap();
        fs_err::write(directory.path().join("more/2.conf"), "Host *\n  IdentityFile ~/.ssh/two\n").unwrap();
        let environment = ClientEnvironment { user: "ada".to_owned(), ..ClientEnvironment::default() };
        let mut reader = Reader::new(name, None, &environment);
        reader.read(&file, directory.path())?;
        Ok(reader.finish())
    }

    #[test]
    fn the_first_value_wins_and_identities_add_up() {
        let text = "Host web\n HostName=10.0.0.1\n User bob # a comment\nHost * !db\n User eve\n\tIdentityFile a\n\
                    IdentityFile \"b c\"\n";
        let options = read(text, "web").unwrap();
        assert_eq!(options.first("hostname"), Some("10.0.0.1"));
        assert_eq!(options.first("user"), Some("bob"));
        assert_eq!(options.all("identityfile"), ["a", "b c"]);
        assert_eq!(read(text, "db").unwrap().first("user"), None);
    }

    #[test]
    fn includes_are_read_in_order_and_only_where_they_apply() {
        let options = read("Include more/*.conf\nPort 99\n", "web").unwrap();
        assert_eq!(options.first("port"), Some("2201"));
        assert_eq!(options.all("identityfile"), ["~/.ssh/two"]);
        assert_eq!(read("Host x\nInclude more/*.conf\n", "web").unwrap().first("port"), None);
    }

    #[test]
    fn a_match_that_is_not_understood_is_refused_unless_it_cannot_matter() {
        let text = "Match host web user ada\n Port 1\nMatch all\n Port 2\n";
        assert_eq!(read(text, "web").unwrap().first("port"), Some("1"));
        assert_eq!(read(text, "db").unwrap().first("port"), Some("2"));
        let refused = read("Match exec \"true\"\n Port 1\n", "web");
        assert!(matches!(refused, Err(RouteError::UnsupportedMatch { line: 1, .. })), "{refused:?}");
        assert!(read("Match host db exec \"true\"\n Port 1\n", "web").is_ok());
    }

    #[test]
    fn a_proxy_command_keeps_its_quotes() {
        let options = read("ProxyCommand sh -c 'nc \"%h\" %p'\n", "web").unwrap();
        assert_eq!(options.first("proxycommand"), Some("sh -c 'nc \"%h\" %p'"));
    }

    #[test]
    fn an_include_of_itself_ends() {
        assert!(matches!(read("Include config\n", "web"), Err(RouteError::Syntax { .. })));
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "\\PC{0,200}", lines in prop::collection::vec("[A-Za-z =\"'#*!,%~]{0,40}", 0..8)) {
            drop(split_words(&text));
            drop(read(&lines.join("\n"), "web"));
        }
    }
}

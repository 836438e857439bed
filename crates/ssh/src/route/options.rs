use std::collections::BTreeMap;

/// The options that OpenSSH's configuration gives a host, by keyword in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options(BTreeMap<String, Vec<String>>);

/// Keywords that may be given several times, each adding to the list. For all others the first one counts.
const LISTS: [&str; 2] = ["identityfile", "certificatefile"];

impl Options {
    pub(crate) fn add(&mut self, keyword: &str, words: Vec<String>) {
        match self.0.get_mut(keyword) {
            Some(values) if LISTS.contains(&keyword) => values.extend(words),
            Some(_) => {}
            None => {
                self.0.insert(keyword.to_owned(), words);
            }
        }
    }

    /// Reads the output of `ssh -G`.
    pub(crate) fn parse_resolved(output: &str) -> Self {
        let mut options = Self::default();
        for line in output.lines() {
            let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
            let keyword = keyword.to_ascii_lowercase();
            let several = matches!(keyword.as_str(), "userknownhostsfile" | "globalknownhostsfile");
            let words = if several {
                value.split_whitespace().map(str::to_owned).collect()
            } else {
                vec![value.to_owned()]
            };
            options.add(&keyword, words);
        }
        options
    }

    pub(crate) fn first(&self, keyword: &str) -> Option<&str> {
        self.0.get(keyword)?.first().map(String::as_str)
    }

    pub(crate) fn remove(&mut self, keyword: &str) {
        self.0.remove(keyword);
    }

    /// Returns the first value unless it is `none` or empty.
    pub(crate) fn set(&self, keyword: &str) -> Option<&str> {
        self.first(keyword).filter(|value| !value.is_empty() && !value.eq_ignore_ascii_case("none"))
    }

    pub(crate) fn all(&self, keyword: &str) -> &[String] {
        self.0.get(keyword).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn flag(&self, keyword: &str, default: bool) -> bool {
        match self.first(keyword).map(str::to_ascii_lowercase).as_deref() {
            Some("yes" | "true" | "unbound" | "host-bound") => true,
            Some("no" | "false") => false,
            _ => default,
        }
    }
}

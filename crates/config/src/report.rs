use crate::mistake::Mistake;
use crate::source::{Place, Source};

/// One mistake or warning before it is joined with the text of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    at: Place,
    key: String,
    message: String,
    help: Option<String>,
}

impl Finding {
    pub(crate) fn new(at: Place, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { at, key: key.into(), message: message.into(), help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn locate(self, sources: &[Source<'_>]) -> Option<Mistake> {
        let source = sources.get(self.at.file)?;
        Some(Mistake::locate(self.at, source, (&self.key, &self.message), self.help.as_deref()))
    }
}

/// Collects everything that is wrong, so that one run shows all of it.
#[derive(Debug, Default)]
pub(crate) struct Report {
    mistakes: Vec<Finding>,
    warnings: Vec<Finding>,
}

impl Report {
    pub(crate) fn mistake(&mut self, finding: Finding) {
        add(&mut self.mistakes, finding);
    }

    pub(crate) fn warn(&mut self, finding: Finding) {
        add(&mut self.warnings, finding);
    }

    #[cfg(test)]
    pub(crate) fn has_mistakes(&self) -> bool {
        !self.mistakes.is_empty()
    }

    /// Returns the mistakes and the warnings in the order of their places.
    pub(crate) fn into_located(self, sources: &[Source<'_>]) -> (Vec<Mistake>, Vec<Mistake>) {
        let locate = |mut findings: Vec<Finding>| {
            findings.sort_by_key(|finding| finding.at);
            findings.into_iter().filter_map(|finding| finding.locate(sources)).collect()
        };
        (locate(self.mistakes), locate(self.warnings))
    }
}

/// The root's `proxy` is read again for each role that inherits it; its mistakes are told once, under the first key.
fn add(findings: &mut Vec<Finding>, finding: Finding) {
    if !findings.iter().any(|old| old.at == finding.at && old.message == finding.message) {
        findings.push(finding);
    }
}

/// Returns a text of a stranger without control characters other than line feeds and tabs, so that it cannot steer a
/// terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| *c != '\r')
        .map(|c| if c.is_control() && c != '\n' && c != '\t' { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

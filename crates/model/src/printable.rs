use std::borrow::Cow;

/// Escapes what would move a terminal's cursor, change its colours or reorder its text.
///
/// Tabs become one blank and line feeds stay. Every other control character is written as Rust writes it, and so are
/// the characters that turn the direction of text (Unicode Technical Report 36, section 2.2).
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(|character| character == '\n' || !is_hidden(character)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' => shown.push('\n'),
            '\t' => shown.push(' '),
            hidden if is_hidden(hidden) => shown.extend(hidden.escape_default()),
            other => shown.push(other),
        }
    }
    Cow::Owned(shown)
}

fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_visible_and_harmless() {
        assert_eq!(printable("plain ä 日本"), "plain ä 日本");
        assert_eq!(printable("\u{1b}[31mred\r\u{7}"), "\\u{1b}[31mred\\r\\u{7}");
        assert_eq!(printable("a\tb\nc"), "a b\nc");
        assert_eq!(printable("\u{9b}2J\u{202e}abc"), "\\u{9b}2J\\u{202e}abc");
    }
}

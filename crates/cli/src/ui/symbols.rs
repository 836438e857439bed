/// The marks and bars of a terminal that shows Unicode, or of one that shows ASCII only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Symbols {
    pub(crate) done: &'static str,
    pub(crate) failed: &'static str,
    pub(crate) waiting: &'static str,
    pub(crate) warning: &'static str,
    pub(crate) back: &'static str,
    pub(crate) separator: &'static str,
    pub(crate) full: &'static str,
    pub(crate) half: &'static str,
    pub(crate) empty: &'static str,
    spinner: &'static [&'static str],
}

const UNICODE: Symbols = Symbols {
    done: "✓",
    failed: "✗",
    waiting: "·",
    warning: "!",
    back: "↩",
    separator: " · ",
    full: "━",
    half: "╸",
    empty: "─",
    spinner: &["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"],
};

const ASCII: Symbols = Symbols {
    done: "+",
    failed: "x",
    waiting: ".",
    warning: "!",
    back: "<",
    separator: ", ",
    full: "=",
    half: ">",
    empty: "-",
    spinner: &["|", "/", "-", "\\"],
};

/// How long one picture of the spinner stays.
const SPINNER_MILLISECONDS: u128 = 80;

impl Symbols {
    /// Chooses by the locale's variables, the first that is set deciding, as `setlocale(3)` has it.
    pub(crate) fn for_locale(lc_all: Option<&str>, lc_ctype: Option<&str>, lang: Option<&str>) -> Self {
        let locale = lc_all.or(lc_ctype).or(lang).unwrap_or_default().to_ascii_lowercase();
        if locale.contains("utf-8") || locale.contains("utf8") { UNICODE } else { ASCII }
    }

    pub(crate) fn spinner(&self, at: std::time::Duration) -> &'static str {
        let pictures = u128::try_from(self.spinner.len()).unwrap_or(1).max(1);
        let index = usize::try_from(at.as_millis() / SPINNER_MILLISECONDS % pictures).unwrap_or(0);
        self.spinner.get(index).copied().unwrap_or(self.waiting)
    }

    /// Draws a bar of so many columns for a share of 0 to 1000.
    pub(crate) fn bar(&self, columns: usize, per_mille: u64) -> (String, String) {
        let halves = usize::try_from(per_mille.min(1000)).unwrap_or(1000) * columns * 2 / 1000;
        let mut done = self.full.repeat(halves / 2);
        if halves % 2 == 1 {
            done.push_str(self.half);
        }
        let rest = columns.saturating_sub(halves.div_ceil(2));
        (done, self.empty.repeat(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_decides() {
        assert_eq!(Symbols::for_locale(None, None, Some("en_US.UTF-8")), UNICODE);
        assert_eq!(Symbols::for_locale(Some("C"), None, Some("en_US.UTF-8")), ASCII);
        assert_eq!(Symbols::for_locale(None, None, None), ASCII);
    }

    #[test]
    fn a_bar_always_has_its_width() {
        for share in 0..=1000 {
            let (done, rest) = UNICODE.bar(20, share);
            assert_eq!(done.chars().count() + rest.chars().count(), 20, "{share}");
        }
        assert_eq!(UNICODE.bar(4, 625), ("━━╸".to_owned(), "─".to_owned()));
    }
}

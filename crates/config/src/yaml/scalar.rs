//! Plain scalars after YAML 1.1, as Ruby's Psych resolves them (kamal-compat §1.8): Kamal's files are read by it.

/// A scalar: what was written and what it means.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scalar {
    /// The text as written, without quotes.
    pub(crate) raw: String,
    pub(crate) kind: ScalarKind,
}

/// What a scalar means.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ScalarKind {
    Null,
    Boolean(bool),
    Integer(i128),
    Float(f64),
    /// A date or time; nothing in a deploy file takes one.
    Date,
    Text(String),
}

impl Scalar {
    /// A quoted or block scalar, or one that is tagged as text.
    pub(crate) fn text(raw: impl Into<String>) -> Self {
        let raw = raw.into();
        Self { kind: ScalarKind::Text(raw.clone()), raw }
    }

    /// A scalar without quotes.
    pub(crate) fn plain(raw: impl Into<String>) -> Self {
        let raw = raw.into();
        Self { kind: resolve(&raw), raw }
    }

    /// Returns the value as Ruby prints it; none for null and dates, which no text may be.
    pub(crate) fn as_text(&self) -> Option<String> {
        match &self.kind {
            ScalarKind::Null | ScalarKind::Date => None,
            ScalarKind::Boolean(value) => Some(value.to_string()),
            ScalarKind::Integer(value) => Some(value.to_string()),
            ScalarKind::Float(value) => Some(print_float(*value)),
            ScalarKind::Text(value) => Some(value.clone()),
        }
    }

    pub(crate) fn describe(&self) -> String {
        let raw = shorten(&self.raw);
        match &self.kind {
            ScalarKind::Null => "null".to_owned(),
            ScalarKind::Boolean(_) => format!("the boolean `{raw}`"),
            ScalarKind::Integer(_) => format!("the integer `{raw}`"),
            ScalarKind::Float(_) => format!("the number `{raw}`"),
            ScalarKind::Date => format!("the date `{raw}`"),
            ScalarKind::Text(_) if self.raw.is_empty() => "an empty text".to_owned(),
            ScalarKind::Text(_) => format!("the text `{raw}`"),
        }
    }
}

/// Returns the first line of a text, at most 40 characters of it, without control characters.
pub(crate) fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let cut: String = line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(40).collect();
    if cut.len() < text.trim_end().len() { format!("{cut}…") } else { cut }
}

fn resolve(raw: &str) -> ScalarKind {
    let text = || ScalarKind::Text(raw.to_owned());
    match raw.to_ascii_lowercase().as_str() {
        "" | "~" | "null" => return ScalarKind::Null,
        "yes" | "true" | "on" => return ScalarKind::Boolean(true),
        "no" | "false" | "off" => return ScalarKind::Boolean(false),
        ".inf" | "+.inf" => return ScalarKind::Float(f64::INFINITY),
        "-.inf" => return ScalarKind::Float(f64::NEG_INFINITY),
        ".nan" => return ScalarKind::Float(f64::NAN),
        _ => {}
    }
    if let Some(symbol) = raw.strip_prefix(':').filter(|rest| !rest.is_empty()) {
        return ScalarKind::Text(symbol.trim_matches(['"', '\'']).to_owned());
    }
    if !raw.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return text();
    }
    if is_date(raw) {
        return ScalarKind::Date;
    }
    integer(raw).map(ScalarKind::Integer).or_else(|| float(raw).map(ScalarKind::Float)).unwrap_or_else(text)
}

/// `2024-01-31`, or that followed by `T` or blanks and a time of day.
fn is_date(raw: &str) -> bool {
    let (date, time) = match raw.find(['T', 't', ' ']) {
        Some(at) => (raw.get(..at).unwrap_or_default(), raw.get(at + 1..)),
        None => (raw, None),
    };
    let parts: Vec<&str> = date.split('-').collect();
    let number =
        |part: &str, digits: std::ops::RangeInclusive<usize>, values: std::ops::RangeInclusive<u32>| {
            digits.contains(&part.len())
                && part.bytes().all(|b| b.is_ascii_digit())
                && part.parse().is_ok_and(|value| values.contains(&value))
        };
    let [year, month, day] = parts.as_slice() else { return false };
    let date_ok = number(year, 4..=4, 0..=9999) && number(month, 1..=2, 0..=12) && number(day, 1..=2, 0..=31);
    let clock_ok = |time: &str| {
        let clock: Vec<&str> = time.trim_start().splitn(3, ':').collect();
        let [hour, minute, second] = clock.as_slice() else { return false };
        let whole = second.split(['.', 'Z', '+', '-', ' ']).next().unwrap_or_default();
        number(hour, 1..=2, 0..=99) && number(minute, 2..=2, 0..=99) && number(whole, 2..=2, 0..=99)
    };
    date_ok && time.is_none_or(clock_ok)
}

fn integer(raw: &str) -> Option<i128> {
    let (sign, digits) = match raw.as_bytes().first()? {
        b'-' => (-1, raw.get(1..)?),
        b'+' => (1, raw.get(1..)?),
        _ => (1, raw),
    };
    if digits.contains(':') {
        return base_sixty(digits).map(|value| sign * value);
    }
    let plain: String = digits.chars().filter(|c| !matches!(c, '_' | ',')).collect();
    let radix = |digits: &str, radix: u32| {
        let valid = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
        valid.then(|| i128::from_str_radix(digits, radix).ok()).flatten()
    };
    let value = match plain.strip_prefix('0') {
        Some(rest) if rest.starts_with('b') && !digits.contains(',') => radix(rest.get(1..)?, 2),
        Some(rest) if rest.starts_with('x') && !digits.contains(',') => radix(rest.get(1..)?, 16),
        Some("") => (digits == "0").then_some(0),
        Some(rest) if !digits.contains(',') => radix(rest, 8),
        Some(_) => None,
        None => separators_are_single(digits).then(|| radix(&plain, 10)).flatten(),
    };
    value.map(|value| sign * value)
}

/// In a decimal number each `_` and `,` stands between two digits.
fn separators_are_single(digits: &str) -> bool {
    let mut separator = true;
    for character in digits.chars() {
        let is_separator = matches!(character, '_' | ',');
        if separator && is_separator {
            return false;
        }
        separator = is_separator;
    }
    !separator
}

/// `12:30` is 45000: Psych reads it as hours and minutes, in seconds.
fn base_sixty(digits: &str) -> Option<i128> {
    let parts: Vec<&str> = digits.split(':').collect();
    let (first, rest) = parts.split_first()?;
    let head = first.replace('_', "");
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if !first.starts_with(|c: char| c.is_ascii_digit()) || !plain(&head) || !(1..=2).contains(&rest.len()) {
        return None;
    }
    let mut value = head.parse::<i128>().ok()?.checked_mul(3600)?;
    for (part, unit) in rest.iter().zip([60, 1]) {
        if !(1..=2).contains(&part.len()) || !plain(part) {
            return None;
        }
        let number: i128 = part.parse().ok()?;
        if number > 59 {
            return None;
        }
        value = value.checked_add(number * unit)?;
    }
    Some(value)
}

/// `[-+]digits.digits[e±digits]`, where the point is needed and one of the two groups may be empty.
fn float(raw: &str) -> Option<f64> {
    let unsigned = raw.strip_prefix(['-', '+']).unwrap_or(raw);
    let (whole, rest) = unsigned.split_once('.')?;
    let (fraction, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (rest.get(..at)?, Some(rest.get(at + 1..)?)),
        None => (rest, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let whole_ok =
        whole.chars().all(|c| c.is_ascii_digit() || matches!(c, '_' | ',')) && !whole.starts_with(['_', ',']);
    let exponent_ok = exponent.is_none_or(|exponent| {
        exponent.strip_prefix(['-', '+']).is_some_and(|power| !power.is_empty() && digits(power))
    });
    if !whole_ok || !digits(fraction) || !exponent_ok || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let plain: String = raw.chars().filter(|c| !matches!(c, '_' | ',')).collect();
    plain.parse().ok()
}

/// Prints a float as Ruby does: `1.1`, `100.0`, `1.0e+16`, `1.0e-05`.
pub(crate) fn print_float(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity".to_owned() } else { "-Infinity".to_owned() }
    } else if value == 0.0 || (1e-4..1e16).contains(&size) {
        format!("{value:?}")
    } else {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let point = if mantissa.contains('.') { "" } else { ".0" };
        let (sign, power) = exponent.strip_prefix('-').map_or(('+', exponent), |power| ('-', power));
        format!("{mantissa}{point}e{sign}{power:0>2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Psych's answers, as kamal-compat §1.8 records them and its source defines them.
    #[test]
    fn plain_scalars_are_those_of_yaml_1_1() {
        let text = |raw: &str| Scalar::plain(raw).as_text();
        for (raw, printed) in [
            ("yes", "true"),
            ("NO", "false"),
            ("On", "true"),
            ("off", "false"),
            ("y", "y"),
            ("n", "n"),
            ("0123", "83"),
            ("0x1F", "31"),
            ("0b11", "3"),
            ("1_000", "1000"),
            ("1,000", "1000"),
            ("1.10", "1.1"),
            ("12:30", "45000"),
            ("1:02:03", "3723"),
            (":sym", "sym"),
            (":\"a b\"", "a b"),
            ("1.2.3", "1.2.3"),
            ("10.0.0.1", "10.0.0.1"),
            ("1e3", "1e3"),
            ("1.0e+3", "1000.0"),
            ("0129", "0129"),
            ("1__0", "1__0"),
            ("-5", "-5"),
            ("+5", "5"),
            (".5", "0.5"),
            ("5.", "5.0"),
            (".", "."),
            ("-", "-"),
            ("127.0.0.1:5432", "127.0.0.1:5432"),
            ("5432:5432", "5432:5432"),
            ("1.0e+20", "1.0e+20"),
            ("0.00001", "1.0e-05"),
            ("a", "a"),
            ("0", "0"),
            ("00", "0"),
        ] {
            assert_eq!(text(raw).as_deref(), Some(printed), "{raw}");
        }
        for raw in ["", "~", "null", "NULL", "2024-01-01", "2024-1-1 10:00:00", "2024-01-01T10:00:00Z"] {
            assert_eq!(text(raw), None, "{raw}");
        }
    }

    #[test]
    fn quoted_scalars_are_texts() {
        assert_eq!(Scalar::text("no").as_text().as_deref(), Some("no"));
        assert_eq!(Scalar::text("").kind, ScalarKind::Text(String::new()));
    }
}

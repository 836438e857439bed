//! Values of flags that are numbers.

use std::fmt::Display;
use std::str::FromStr;

/// A whole number with a greatest value.
pub(super) trait Whole: FromStr + Display + Clone + Send + Sync + 'static {
    /// The greatest one.
    const MAX: Self;
}

impl Whole for u16 {
    const MAX: Self = Self::MAX;
}

impl Whole for u32 {
    const MAX: Self = Self::MAX;
}

impl Whole for u64 {
    const MAX: Self = Self::MAX;
}

/// Reads a whole number.
pub(super) fn whole<T: Whole>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("it is a whole number from 0 to {}", T::MAX))
}

/// Reads a number of bytes.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let Ok(count) = text.parse() else {
        let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).unwrap_or((text, ""));
        let shift = match unit {
            "k" | "K" => 10,
            "m" | "M" => 20,
            "g" | "G" => 30,
            _ => 0,
        };
        let count = number
            .parse::<u64>()
            .ok()
            .filter(|_| shift > 0)
            .and_then(|number| number.checked_mul(1 << shift));
        let example = count.unwrap_or(4 << 30);
        return Err(format!("it is a number of bytes without a unit, as in `{example}`"));
    };
    Ok(count)
}

/// Reads a share; whether it is one of a whole is looked at later, since it may come from elsewhere, too.
pub(super) fn share(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "it is a number from 0 to 1, as in `0.1`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_told_what_one_is() {
        assert_eq!(whole::<u16>("80"), Ok(80));
        assert_eq!(whole::<u16>("-1").unwrap_err(), "it is a whole number from 0 to 65535");
        assert_eq!(bytes("10"), Ok(10));
        assert!(bytes("4G").unwrap_err().ends_with("as in `4294967296`"));
        assert!(bytes("much").unwrap_err().ends_with("as in `4294967296`"));
        assert!(bytes("99999999999999999999").is_err() && bytes("").is_err() && bytes("\u{e4}").is_err());
        assert!(share("0.5").is_ok() && share("half").is_err());
    }
}

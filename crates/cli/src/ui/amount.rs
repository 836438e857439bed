use std::time::Duration;

/// Returns a span as people say it: `0.4s`, `12.3s`, `2m 05s`, `1h 02m`.
pub(crate) fn span(span: Duration) -> String {
    let tenths = (span.as_millis() + 50) / 100;
    let seconds = (span.as_millis() + 500) / 1000;
    if tenths < 600 {
        format!("{}.{}s", tenths / 10, tenths % 10)
    } else if seconds < 3600 {
        format!("{}m {:02}s", seconds / 60, seconds % 60)
    } else {
        format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60)
    }
}

/// Returns how long ago something was, in its greatest unit: `just now`, `5 minutes ago`, `3 days ago`.
pub(crate) fn ago(span: Duration) -> String {
    let seconds = span.as_secs();
    let (count, unit) = match seconds {
        0..=9 => return "just now".to_owned(),
        10..=59 => (seconds, "second"),
        60..=3599 => (seconds / 60, "minute"),
        3600..=86_399 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{} ago", counted(count, unit))
}

/// Returns a size in powers of 1000, as registries and disks count: `912 B`, `4.1 MB`.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut divisor: u64 = 1000;
    let mut shown = "";
    for unit in units {
        shown = unit;
        // 999 950 B would round to `1000.0 kB`.
        if count / divisor < 999 || unit == "EB" {
            break;
        }
        divisor *= 1000;
    }
    let tenths = (u128::from(count) * 10 + u128::from(divisor) / 2) / u128::from(divisor);
    format!("{}.{} {shown}", tenths / 10, tenths % 10)
}

/// Returns a count with its noun: `1 host`, `3 hosts`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// The same for the length of a list.
pub(crate) fn counted_items(count: usize, noun: &str) -> String {
    counted(u64::try_from(count).unwrap_or(u64::MAX), noun)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_read_well() {
        let spans = [
            (0, "0.0s"),
            (449, "0.4s"),
            (12_345, "12.3s"),
            (59_960, "1m 00s"),
            (125_000, "2m 05s"),
            (3_725_000, "1h 02m"),
        ];
        for (milliseconds, expected) in spans {
            assert_eq!(span(Duration::from_millis(milliseconds)), expected);
        }
        let sizes =
            [(0, "0 B"), (999, "999 B"), (4_123_456, "4.1 MB"), (999_950, "1.0 MB"), (u64::MAX, "18.4 EB")];
        for (count, expected) in sizes {
            assert_eq!(bytes(count), expected);
        }
        assert_eq!(ago(Duration::from_secs(3 * 86_400)), "3 days ago");
        assert_eq!(ago(Duration::from_secs(61)), "1 minute ago");
    }
}

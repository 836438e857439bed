//! When a certificate is ordered: again after a failure, and in time before it ends.

use std::time::Duration;

use crate::certificate::details::Details;

/// The longest pause after a failure.
const MAX_PAUSE: Duration = Duration::from_secs(6 * 60 * 60);

/// The most of its life that may be left when a certificate is renewed.
const MAX_REST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Returns the pause after so many failures in a row: five times longer each time, with up to a quarter more, so that
/// services that failed together do not try together again. The share is 0 to 1.
pub(super) fn pause(first: Duration, failures: u32, share: f64) -> Duration {
    let factor = 5_u32.saturating_pow(failures.saturating_sub(1).min(6));
    let pause = first.saturating_mul(factor).min(MAX_PAUSE);
    pause + pause.mul_f64(0.25 * share.clamp(0.0, 1.0))
}

/// Returns when a certificate is to be renewed, in seconds since 1970: when a third of its life or 30 days are left, and
/// up to a tenth of that earlier.
pub(super) fn renewal(details: &Details, share: f64) -> i64 {
    let life = details.valid.end.saturating_sub(details.valid.start).max(0);
    let rest = (life / 3).min(i64::try_from(MAX_REST.as_secs()).unwrap_or(i64::MAX));
    details.valid.end - rest - part(rest / 10, share)
}

/// Returns a moment in the window in which the authority wants the renewal (RFC 9773, section 4.2).
pub(super) fn within(start: i64, end: i64, share: f64) -> i64 {
    start + part(end.saturating_sub(start).max(0), share)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a moment that is chosen at random is as good some seconds earlier"
)]
fn part(span: i64, share: f64) -> i64 {
    (span as f64 * share.clamp(0.0, 1.0)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 60 * 60;

    fn details(days: i64) -> Details {
        Details { valid: 0..days * DAY, serial: vec![1], authority_key: None }
    }

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let first = Duration::from_secs(60);
        let seconds: Vec<u64> = (1..=7).map(|failures| pause(first, failures, 0.0).as_secs()).collect();
        assert_eq!(seconds, [60, 300, 1500, 7500, 21600, 21600, 21600]);
        assert_eq!(pause(first, 1, 1.0).as_secs(), 75);
        assert_eq!(pause(first, u32::MAX, 1.0).as_secs(), 27000);
    }

    #[test]
    fn renewal_leaves_a_third_or_thirty_days() {
        assert_eq!(renewal(&details(90), 0.0), 60 * DAY);
        assert_eq!(renewal(&details(90), 1.0), 57 * DAY);
        assert_eq!(renewal(&details(6), 0.0), 4 * DAY);
        assert_eq!(renewal(&details(3650), 0.0), 3620 * DAY);
        assert_eq!(within(100, 200, 0.5), 150);
        assert_eq!(within(200, 100, 0.5), 200);
    }
}

use serde::{Deserialize, Serialize};

use crate::{DrainReport, TargetAddress};

/// Targets beside those of a service that are tried with a part of its visitors. kamal-proxy calls them a rollout.
///
/// They are used with the service's settings, and outlive deploys and restarts of the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// The targets.
    pub targets: Vec<TargetAddress>,
    /// The targets that get reads only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read_targets: Vec<TargetAddress>,
    /// Which visitors go there; nobody where nothing is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
}

/// Which visitors go to the targets of a [`Canary`]: they are told apart by the value of their cookie, `kamal-rollout` unless
/// another one is named. Who has none does not go there, unless such visitors are given one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// How many of a hundred values do, chosen by their hash; the same ones each time, and more of them where it grows.
    #[serde(default)]
    pub percentage: u8,
    /// The values that do in any case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_list: Vec<String>,
    /// The cookie; `kamal-rollout` where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// Whether visitors without the cookie are given one with a value of their own, by which they then stay on their side.
    #[serde(default, skip_serializing_if = "is_false")]
    pub anonymous: bool,
    /// Requests that go there in any case, whoever asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderMatch>,
    /// How it is decided that the targets are as good as the service's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<VerdictRule>,
}

/// A header that a request must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderMatch {
    /// Its name.
    pub name: String,
    /// Its value; any where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// How targets that are tried are compared with the service's own.
///
/// Only visitors who were assigned to a side by their cookie's value count: no list and no header has chosen them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VerdictRule {
    /// For how long they are compared before they are found to be as good.
    pub window_ms: u64,
    /// How many requests each side must have had by then; with fewer, nothing was shown and they are given up.
    pub min_requests: u64,
    /// By how many thousandths of all requests errors may be more.
    pub error_tolerance_permille: u32,
    /// By how many hundredths the time within which 95 of 100 requests are answered may be longer.
    pub latency_tolerance_percent: u32,
    /// Whether they become the service's own targets when they are found to be as good; otherwise it is only said.
    pub promote: bool,
}

impl Default for VerdictRule {
    fn default() -> Self {
        Self {
            window_ms: 600_000,
            min_requests: 50,
            error_tolerance_permille: 5,
            latency_tolerance_percent: 50,
            promote: true,
        }
    }
}

/// How a comparison stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// What was decided.
    pub state: VerdictState,
    /// Why, for people.
    pub why: String,
    /// What became of the requests at the service's own targets.
    pub own: SideReport,
    /// What became of those at the targets that are tried.
    pub tried: SideReport,
}

/// What was decided about targets that are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictState {
    /// Nothing yet.
    Watching,
    /// They are as good, and are the service's own now.
    Promoted,
    /// They are as good; nothing was changed.
    Passed,
    /// They are worse, or nothing was shown: nobody goes there any more.
    Aborted,
}

impl std::fmt::Display for VerdictState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            Self::Watching => "watching",
            Self::Promoted => "promoted",
            Self::Passed => "passed",
            Self::Aborted => "aborted",
        })
    }
}

/// What became of the requests of one side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SideReport {
    /// How many there were.
    pub requests: u64,
    /// How many of them were answered 500 to 599, or could not be answered by the targets.
    pub errors: u64,
    /// Within how many microseconds 95 of 100 were answered, rounded up by up to a fifth.
    pub p95_us: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Split {
    /// Says whether a value goes to the targets in any case.
    #[must_use]
    pub fn lists(&self, value: &[u8]) -> bool {
        self.allow_list.iter().any(|listed| listed.as_bytes() == value)
    }

    /// Says whether a visitor with this value goes to the targets. The rule is kamal-proxy's, so that nobody changes sides
    /// when one proxy takes the other's place.
    #[must_use]
    pub fn takes(&self, value: &[u8]) -> bool {
        if value.is_empty() {
            return false;
        }
        self.lists(value) || (self.percentage > 0 && u64::from(hash(value)) <= self.point())
    }

    /// Returns the greatest hash of a value that goes to the targets by its share.
    pub(crate) fn point(&self) -> u64 {
        u64::from(u32::MAX) * u64::from(self.percentage) / 100
    }
}

/// FNV-1a with 32 bits, <https://www.rfc-editor.org/rfc/rfc9923>.
fn hash(value: &[u8]) -> u32 {
    value.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Installs the targets that are tried beside a service's, once all are healthy. No visitor goes there before there is a
/// split; one that there is stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryRequest {
    /// The targets, at least one.
    pub targets: Vec<TargetAddress>,
    /// The targets that get reads only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read_targets: Vec<TargetAddress>,
    /// The longest wait for them to be healthy.
    pub deploy_timeout_ms: u64,
    /// How long requests may go on at the targets that were tried before.
    pub drain_timeout_ms: u64,
    /// The holder's fencing number: refused where the proxy has seen a greater one for this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
}

/// Says which visitors go to the targets that are tried; replaces what was said before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitRequest {
    /// Who does; nobody where nothing is given, and the targets stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// The holder's fencing number: refused where the proxy has seen a greater one for this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
}

/// The answer to a [`CanaryRequest`] and a [`SplitRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryReply {
    /// What is tried now, if anything is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// What became of the requests at the targets that were tried before, where there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<DrainReport>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(percentage: u8, listed: &[&str]) -> Split {
        let allow_list = listed.iter().map(|value| (*value).to_owned()).collect();
        Split { percentage, allow_list, ..Split::default() }
    }

    // proxy-compat case 195.
    #[test]
    fn listed_values_go_there_and_others_do_not() {
        let split = split(0, &["1", "2"]);
        assert!(split.takes(b"1") && split.takes(b"2"));
        assert!(!split.takes(b"3") && !split.takes(b""));
    }

    // proxy-compat cases 196, 197.
    #[test]
    fn a_share_of_the_values_goes_there_and_always_the_same_ones() {
        let taken = |split: &Split| -> Vec<String> {
            (0..1000)
                .map(|number| format!("{number:05}"))
                .filter(|value| split.takes(value.as_bytes()))
                .collect()
        };
        let sixty = taken(&split(60, &[]));
        assert!((580..=620).contains(&sixty.len()), "{}", sixty.len());
        let more = taken(&split(70, &[]));
        assert!(sixty.iter().all(|value| more.contains(value)));
        assert!(!split(60, &[]).takes(b""));
        assert_eq!(taken(&split(100, &[])).len(), 1000);
        let ten = taken(&split(10, &[]));
        let left_out = (0..).map(|number| format!("{number:05}")).find(|value| !ten.contains(value)).unwrap();
        let both = taken(&split(10, &[&left_out]));
        assert_eq!(both.len(), ten.len() + 1);
        assert!(both.contains(&left_out));
    }

    /// The values are those of the algorithm's own test vectors.
    #[test]
    fn the_hash_is_the_one_that_everybody_has() {
        for (text, wanted) in [("", 0x811c_9dc5), ("a", 0xe40c_292c), ("foobar", 0xbf9c_f968)] {
            assert_eq!(hash(text.as_bytes()), wanted, "{text}");
        }
        assert_eq!(split(60, &[]).point(), 2_576_980_377);
        assert_eq!(split(100, &[]).point(), 4_294_967_295);
    }
}

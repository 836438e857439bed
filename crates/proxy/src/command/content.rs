//! Values of flags about what is spoken with targets and how answers are compressed.

use freehold_wire::{Compression, TargetProtocol};

/// The codings of `--compress`, the most wanted first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Codings(pub(super) Vec<Compression>);

/// Reads the value of `--target-protocol`.
pub(super) fn parse_protocol(text: &str) -> Result<TargetProtocol, String> {
    TargetProtocol::parse(text).ok_or_else(|| "it is `http1`, `h2c`, `h2` or `https`".to_owned())
}

/// Reads the value of `--compress`.
pub(super) fn parse_codings(text: &str) -> Result<Codings, String> {
    match text {
        "true" => return Ok(Codings(Compression::ALL.to_vec())),
        "false" => return Ok(Codings(Vec::new())),
        _ => {}
    }
    let parsed: Option<Vec<_>> = text.split(',').map(|name| Compression::parse(name.trim())).collect();
    parsed
        .filter(|codings| {
            (1..codings.len()).all(|at| !codings.iter().take(at).any(|other| codings.get(at) == Some(other)))
        })
        .map(Codings)
        .ok_or_else(|| "it is `true`, `false`, or some of `zstd,br,gzip`, each once".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_they_say_or_refused() {
        assert_eq!(parse_protocol("h2c"), Ok(TargetProtocol::H2c));
        assert_eq!(parse_protocol("h2"), Ok(TargetProtocol::H2));
        assert_eq!(parse_protocol("https"), Ok(TargetProtocol::Https));
        assert!(parse_protocol("h3").unwrap_err().contains("`h2`"));
        assert_eq!(parse_codings("true").unwrap().0, Compression::ALL);
        assert_eq!(parse_codings("gzip, zstd").unwrap().0, [Compression::Gzip, Compression::Zstd]);
        assert_eq!(parse_codings("false").unwrap().0, []);
        for bad in ["", "deflate", "gzip,", "gzip,br,gzip"] {
            assert!(parse_codings(bad).is_err(), "{bad}");
        }
    }
}

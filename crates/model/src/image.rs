use std::fmt;

use serde::{Deserialize, Serialize};

/// A text that is not an image reference, repository, tag or identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a valid {kind}: {rule}")]
pub struct ParseImageError {
    value: String,
    kind: &'static str,
    rule: &'static str,
}

impl ParseImageError {
    /// Returns the rule that the text breaks, for a help line.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        self.rule
    }
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks a text and makes the value of it.
            ///
            /// # Errors
            /// [`ParseImageError`] with the rule that the text breaks.
            pub fn parse(value: impl Into<String>) -> Result<Self, ParseImageError> {
                let value = value.into();
                let check: fn(&str) -> bool = $check;
                if check(&value) {
                    Ok(Self(value))
                } else {
                    Err(ParseImageError { value, kind: $kind, rule: $rule })
                }
            }

            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(&self.0)
            }
        }

        impl TryFrom<String> for $type {
            type Error = ParseImageError;
            fn try_from(value: String) -> Result<Self, ParseImageError> {
                Self::parse(value)
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.0
            }
        }
    };
}

fn is_repository(text: &str) -> bool {
    // Source: https://github.com/distribution/reference, grammar of `name`.
    let (domain, path) = match text.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), rest),
        _ => (None, text),
    };
    let domain_ok = domain.is_none_or(|domain| {
        let (host, port) = domain.split_once(':').unwrap_or((domain, "0"));
        !host.is_empty()
            && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c))
            && !port.is_empty()
            && port.chars().all(|c| c.is_ascii_digit())
    });
    domain_ok
        && text.len() <= 255
        && path.split('/').all(|component| {
            component.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
                && component.starts_with(|c: char| c.is_ascii_alphanumeric())
                && component.ends_with(|c: char| c.is_ascii_alphanumeric())
        })
}

fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
        && !text.starts_with(['.', '-'])
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
    })
}

checked_text! {
    /// The name of an image without tag: `[registry/]path`.
    Repository, "image name", "use lower-case letters, digits, `.`, `_`, `-` and `/`, without a tag",
    is_repository
}
impl Repository {
    /// Returns the server of the registry that is part of the name: `ghcr.io` of `ghcr.io/acme/app`, none for Docker
    /// Hub.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        let (first, _) = self.0.split_once('/')?;
        (first.contains(['.', ':']) || first == "localhost").then_some(first)
    }
}

checked_text! {
    /// The tag of an image, also the version of a release.
    Tag, "tag", "use 1 to 128 letters, digits, `_`, `.` and `-`, not starting with `.` or `-`",
    is_tag
}
checked_text! {
    /// The content address of an image on one engine: `sha256:` and 64 hex digits.
    ///
    /// It is the digest of the configuration on graph-driver stores and of the manifest on the containerd store, so
    /// the identifiers of one image differ between hosts; compare layers instead.
    ImageId, "image identifier", "use `sha256:` and 64 hex digits",
    is_digest
}

checked_text! {
    /// The content address of an image in a registry: `sha256:` and 64 hex digits.
    ImageDigest, "image digest", "use `sha256:` and 64 hex digits",
    is_digest
}

/// An image as a registry knows it: `repository[:tag][@digest]`. Without tag and digest it is `latest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RemoteImage {
    /// The name without tag.
    pub repository: Repository,
    /// The tag, if one is written.
    pub tag: Option<Tag>,
    /// The digest, which decides where both are written.
    pub digest: Option<ImageDigest>,
}

impl RemoteImage {
    /// Checks a text and makes the image of it.
    ///
    /// # Errors
    /// [`ParseImageError`] with the part that is wrong and the rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, ParseImageError> {
        let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
        // The colon of a port stands before a slash.
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (rest, None),
        };
        Ok(Self {
            repository: Repository::parse(repository)?,
            tag: tag.map(Tag::parse).transpose()?,
            digest: digest.map(ImageDigest::parse).transpose()?,
        })
    }
}

impl fmt::Display for RemoteImage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(formatter, "@{digest}")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for RemoteImage {
    type Error = ParseImageError;
    fn try_from(text: String) -> Result<Self, ParseImageError> {
        Self::parse(&text)
    }
}

impl From<RemoteImage> for String {
    fn from(image: RemoteImage) -> String {
        image.to_string()
    }
}

/// A repository with a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageReference {
    /// The name without tag.
    pub repository: Repository,
    /// The tag.
    pub tag: Tag,
}

impl fmt::Display for ImageReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.repository, self.tag)
    }
}

impl From<ImageReference> for RemoteImage {
    fn from(image: ImageReference) -> Self {
        Self { repository: image.repository, tag: Some(image.tag), digest: None }
    }
}

/// A processor architecture as Docker names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// 64-bit x86 (`x86_64`).
    Amd64,
    /// 64-bit ARM (`aarch64`).
    Arm64,
}

impl Architecture {
    /// Returns the architecture for any of its usual names (`amd64`, `x86_64`, `arm64`, `aarch64`).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "amd64" | "x86_64" => Some(Self::Amd64),
            "arm64" | "aarch64" => Some(Self::Arm64),
            _ => None,
        }
    }

    /// Returns the architecture that this executable was compiled for, if it is one that Freehold names.
    #[must_use]
    pub fn of_this_executable() -> Option<Self> {
        Self::from_name(std::env::consts::ARCH)
    }

    /// Returns Docker's name: `amd64` or `arm64`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_follow_dockers_grammar() {
        for good in ["app", "acme/app", "localhost:5555/app", "ghcr.io/acme/my-app", "a.b/c_d"] {
            assert!(Repository::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "App", "app:1", "acme/", "/app", "a b", "-app", "localhost:/app"] {
            assert!(Repository::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_server_is_told_from_the_first_part_of_a_path() {
        let server = |text: &str| Repository::parse(text).unwrap().server().map(str::to_owned);
        assert_eq!(server("ghcr.io/acme/app").as_deref(), Some("ghcr.io"));
        assert_eq!(server("localhost:5555/app").as_deref(), Some("localhost:5555"));
        assert_eq!(server("acme/app"), None);
        assert_eq!(server("app"), None);
    }

    #[test]
    fn remote_images_have_a_tag_a_digest_or_both() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        for text in ["postgres", "postgres:16", "localhost:5555/app", "ghcr.io/acme/db:1.2"] {
            assert_eq!(RemoteImage::parse(text).unwrap().to_string(), text);
        }
        for text in [format!("postgres@{digest}"), format!("r.io:5000/a/b:1@{digest}")] {
            let image = RemoteImage::parse(&text).unwrap();
            assert_eq!(image.to_string(), text);
            assert_eq!(image.digest.unwrap().as_str(), digest);
        }
        for bad in ["", "postgres:", "postgres@sha256:1", "Postgres", "a b", "a:b:c"] {
            assert!(RemoteImage::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_and_identifiers_keep_to_their_rules() {
        assert!(Tag::parse("abc_1.2-x").is_ok());
        assert!(Tag::parse(".x").is_err());
        assert!(Tag::parse("").is_err());
        assert!(ImageId::parse(format!("sha256:{}", "a1".repeat(32))).is_ok());
        assert!(ImageId::parse("sha256:abc").is_err());
    }
}

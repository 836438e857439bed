//! Changes of heads that the proxy has written itself, so that their form is known.

use freehold_model::{HeaderChanges, Hsts, Traffic};

/// What is changed in heads of one direction.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    /// The names of lines that go.
    removed: Vec<String>,
    /// Lines that come, each with its end.
    added: Vec<u8>,
    /// Lines that come where there is none of their name.
    missing: Vec<(&'static str, &'static str)>,
    /// A line that comes where the client came by HTTPS.
    secure: Option<String>,
}

/// What browsers should be told of every site, and can be told without breaking one.
const SECURITY: [(&str, &str); 3] = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "SAMEORIGIN"),
    ("Referrer-Policy", "strict-origin-when-cross-origin"),
];

const HSTS: &str = "Strict-Transport-Security";

impl Edits {
    /// Returns what is changed in requests, if anything is.
    pub(super) fn of_requests(traffic: &Traffic) -> Option<Self> {
        (!traffic.request_headers.is_empty()).then(|| Self::of(&traffic.request_headers))
    }

    /// Returns what is changed in answers, if anything is.
    pub(super) fn of_answers(traffic: &Traffic) -> Option<Self> {
        let edits = Self {
            missing: if traffic.security_headers { SECURITY.to_vec() } else { Vec::new() },
            secure: traffic.hsts.as_ref().map(hsts),
            ..Self::of(&traffic.response_headers)
        };
        let is_empty =
            traffic.response_headers.is_empty() && edits.missing.is_empty() && edits.secure.is_none();
        (!is_empty).then_some(edits)
    }

    fn of(changes: &HeaderChanges) -> Self {
        let removed = changes.set.keys().chain(&changes.remove).map(|name| name.as_str().to_owned());
        let added = changes.set.iter().flat_map(|(name, value)| format!("{name}: {value}\r\n").into_bytes());
        Self { removed: removed.collect(), added: added.collect(), ..Self::default() }
    }

    /// Changes the head that begins at a place of a text; a body may stand behind it.
    pub(crate) fn apply(&self, text: &mut Vec<u8>, start: usize, is_secure: bool) {
        let old = text.split_off(start.min(text.len()));
        let mut rest = old.as_slice();
        let mut is_first = true;
        let secure = self.secure.as_deref().filter(|_| is_secure);
        let mut missing = self.missing.clone();
        while let Some(end) = rest.windows(2).position(|two| two == b"\r\n").filter(|end| *end > 0) {
            let Some((line, behind)) = rest.split_at_checked(end + 2) else { break };
            rest = behind;
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
            let goes = self.removed.iter().any(|removed| is(removed)) || (secure.is_some() && is(HSTS));
            if is_first || !goes {
                text.extend_from_slice(line);
                missing.retain(|(name, _)| !is(name));
            }
            is_first = false;
        }
        text.extend_from_slice(&self.added);
        for (name, value) in missing.iter().filter(|(name, _)| !self.removes(name)) {
            text.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        text.extend_from_slice(secure.unwrap_or_default().as_bytes());
        text.extend_from_slice(rest);
    }

    /// Says whether somebody has decided about a header already.
    fn removes(&self, name: &str) -> bool {
        self.removed.iter().any(|removed| removed.eq_ignore_ascii_case(name))
    }
}

fn hsts(hsts: &Hsts) -> String {
    let mut line = format!("{HSTS}: max-age={}", hsts.max_age);
    line.push_str(if hsts.subdomains { "; includeSubDomains" } else { "" });
    line.push_str(if hsts.preload { "; preload" } else { "" });
    line.push_str("\r\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(traffic: &str, head: &str, is_secure: bool) -> String {
        let traffic: Traffic = serde_json::from_str(traffic).unwrap();
        let mut text = b"before".to_vec();
        text.extend_from_slice(head.as_bytes());
        Edits::of_answers(&traffic).unwrap().apply(&mut text, 6, is_secure);
        String::from_utf8(text).unwrap().strip_prefix("before").unwrap().to_owned()
    }

    const HEAD: &str =
        "HTTP/1.1 200 OK\r\nServer: x\r\nset-cookie: a\r\nSet-Cookie: b\r\nX-Frame-Options: DENY\r\n\r\n";

    #[test]
    fn lines_are_removed_replaced_and_added_and_a_body_stays() {
        let rules = r#"{"response_headers":{"set":{"Server":"mine","X-New":"1"},"remove":["Set-Cookie"]}}"#;
        let body = "a\r\nServer: y\r\n\r\n";
        assert_eq!(
            applied(rules, &format!("{HEAD}{body}"), false),
            format!("HTTP/1.1 200 OK\r\nX-Frame-Options: DENY\r\nServer: mine\r\nX-New: 1\r\n\r\n{body}")
        );
    }

    #[test]
    fn what_the_application_says_of_security_counts() {
        let text = applied(r#"{"security_headers":true}"#, HEAD, false);
        assert!(text.contains("X-Frame-Options: DENY\r\n") && !text.contains("SAMEORIGIN"), "{text}");
        assert!(text.ends_with(
            "X-Content-Type-Options: nosniff\r\nReferrer-Policy: strict-origin-when-cross-origin\r\n\r\n"
        ));
        let rules = r#"{"security_headers":true,"response_headers":{"remove":["x-frame-options"]}}"#;
        assert!(!applied(rules, HEAD, false).contains("X-Frame-Options"));
    }

    #[test]
    fn hsts_comes_with_https_only() {
        let rules = r#"{"hsts":{"max_age":60,"subdomains":true,"preload":true}}"#;
        assert_eq!(applied(rules, HEAD, false), HEAD);
        let text = applied(rules, HEAD, true);
        assert!(text.ends_with("Strict-Transport-Security: max-age=60; includeSubDomains; preload\r\n\r\n"));
        let text = applied(rules, "HTTP/1.1 200 OK\r\nstrict-transport-security: max-age=1\r\n\r\n", true);
        assert_eq!(text.matches("ransport-").count() + text.matches("RANSPORT-").count(), 1, "{text}");
    }
}

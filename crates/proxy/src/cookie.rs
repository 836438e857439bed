//! Cookies: what a client sends, and what is done to those that an application sets.

use std::time::Duration;

use crate::canary::VisitorCookie;
use crate::view::RequestView;

/// Returns the value of the first cookie of a name, without quotes around it.
pub(crate) fn value<'b>(view: &RequestView<'_, 'b>, name: &str) -> Option<&'b [u8]> {
    let lines = view.headers.iter().filter(|(_, line)| line.name.eq_ignore_ascii_case("cookie"));
    let cookies = lines.flat_map(|(_, line)| line.value.split(|byte| *byte == b';'));
    let mut values =
        cookies.filter_map(|cookie| cookie.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    let value = values.next()?;
    let inside = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    Some(inside.unwrap_or(value))
}

/// What is done to the cookies of an answer.
#[derive(Debug, Default)]
pub(crate) struct CookieRules {
    /// Where their paths are put.
    pub(crate) scope: Option<CookieScope>,
    /// For how long the client's reads go to the targets that write.
    pub(crate) affinity: Option<Duration>,
    /// By what the visitor is known from now on.
    pub(crate) visitor: Option<VisitorCookie>,
}

impl CookieRules {
    /// Returns them if there is anything to do.
    pub(crate) fn if_any(self) -> Option<Box<Self>> {
        (self.scope.is_some() || self.affinity.is_some() || self.visitor.is_some()).then(|| Box::new(self))
    }
}

/// Puts cookies' paths under a mount point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CookieScope {
    /// The mount point, with a leading slash and without a trailing one.
    pub(crate) prefix: String,
    /// The host that was asked for, without its port.
    pub(crate) host: String,
}

impl CookieScope {
    /// Appends a `Set-Cookie` line. A cookie for another domain than the host itself is not changed.
    pub(crate) fn write(&self, cookie: &[u8], out: &mut Vec<u8>) {
        let attributes = || cookie.split(|byte| *byte == b';').skip(1).map(<[u8]>::trim_ascii);
        let last = |wanted: &[u8]| {
            let named = attributes().map(split).filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
            named.last().map(|(_, value)| value)
        };
        out.extend_from_slice(b"Set-Cookie: ");
        let domain = last(b"domain").unwrap_or_default();
        if !domain.is_empty() && !domain.eq_ignore_ascii_case(self.host.as_bytes()) {
            out.extend_from_slice(cookie);
            out.extend_from_slice(b"\r\n");
            return;
        }
        let path = last(b"path").filter(|path| path.starts_with(b"/") && *path != b"/").unwrap_or_default();
        out.extend_from_slice(cookie.split(|byte| *byte == b';').next().unwrap_or_default());
        for attribute in attributes().filter(|attribute| !split(attribute).0.eq_ignore_ascii_case(b"path")) {
            out.extend_from_slice(b"; ");
            out.extend_from_slice(attribute);
        }
        out.extend_from_slice(b"; Path=");
        out.extend_from_slice(self.prefix.as_bytes());
        out.extend_from_slice(path);
        out.extend_from_slice(b"\r\n");
    }
}

fn split(attribute: &[u8]) -> (&[u8], &[u8]) {
    let at = attribute.iter().position(|byte| *byte == b'=').unwrap_or(attribute.len());
    let value = attribute.get(at + 1..).unwrap_or_default().trim_ascii();
    (attribute.get(..at).unwrap_or_default().trim_ascii(), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    // proxy-compat cases 158-160.
    #[test]
    fn paths_are_put_under_the_prefix() {
        let scope = CookieScope { prefix: "/api".to_owned(), host: "example.com".to_owned() };
        for (cookie, wanted) in [
            ("a=b; Path=/", "a=b; Path=/api"),
            ("a=b; Path=/admin; HttpOnly", "a=b; HttpOnly; Path=/api/admin"),
            ("a=b", "a=b; Path=/api"),
            ("a=b; domain=EXAMPLE.com; path=/x", "a=b; domain=EXAMPLE.com; Path=/api/x"),
            ("a=b; Domain=other.com; Path=/x", "a=b; Domain=other.com; Path=/x"),
            ("a=b; Domain=sub.example.com; Path=/x", "a=b; Domain=sub.example.com; Path=/x"),
            ("a=b; Domain=com; Path=/x", "a=b; Domain=com; Path=/x"),
            ("a=b=c; Partitioned; SameSite=None", "a=b=c; Partitioned; SameSite=None; Path=/api"),
        ] {
            let mut out = Vec::new();
            scope.write(cookie.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("Set-Cookie: {wanted}\r\n"));
        }
    }
}

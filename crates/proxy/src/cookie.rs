//! Cookies of an application whose mount point is cut off before it sees a request.

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

    // Cases 157 to 160.
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

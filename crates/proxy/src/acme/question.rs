//! The question whether a certificate may be ordered for a name: to whom it goes and how it is written.

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(super) to: Recipient,
    path: String,
    query: String,
}

/// Where a question goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Recipient {
    /// The service itself.
    Service,
    /// A server elsewhere.
    Server { is_encrypted: bool, host: String, port: u16 },
}

impl Question {
    /// Reads a path of the service, or a URL.
    ///
    /// # Errors
    /// What is wrong, in kamal-proxy's words.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let unreadable = || format!("unable to parse tls-on-demand-url `{url}`");
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.contains('#') {
            return Err(unreadable());
        }
        if url.starts_with("//") {
            return Err("tls-on-demand-url must be a path or an absolute http(s) URL".to_owned());
        }
        if url.starts_with('/') {
            return Ok(Self::to(Recipient::Service, url));
        }
        let (scheme, rest) = url.split_once("://").ok_or_else(unreadable)?;
        let is_scheme =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !is_scheme(scheme) {
            return Err(unreadable());
        }
        let is_encrypted = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(format!("unsupported scheme \"{scheme}\" in tls-on-demand-url")),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).ok_or_else(unreadable)?;
        let (host, port) = match authority.rsplit_once(':') {
            None => (authority, if is_encrypted { 443 } else { 80 }),
            Some((host, port)) => (host, port.parse().map_err(|_| unreadable())?),
        };
        if host.is_empty() {
            return Err("missing host in tls-on-demand-url".to_owned());
        }
        if host.contains(['@', '[', ':']) {
            return Err(unreadable());
        }
        Ok(Self::to(Recipient::Server { is_encrypted, host: host.to_owned(), port }, path))
    }

    fn to(to: Recipient, path_and_query: &str) -> Self {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let path = if path.is_empty() { "/" } else { path };
        Self { to, path: path.to_owned(), query: query.to_owned() }
    }

    /// Returns path and query of the question for a name: `host` among what is asked for anyway, ordered by name.
    pub(super) fn path_for(&self, name: &str) -> String {
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let own = pairs.map(|(key, value)| (decoded(key), decoded(value))).filter(|(key, _)| key != b"host");
        let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = own.collect();
        pairs.push((b"host".to_vec(), name.as_bytes().to_vec()));
        pairs.sort_by(|one, other| one.0.cmp(&other.0));
        let pairs = pairs.iter().map(|(key, value)| format!("{}={}", encoded(key), encoded(value)));
        format!("{}?{}", self.path, pairs.collect::<Vec<_>>().join("&"))
    }
}

/// Undoes the escapes of a part of a query; what is no escape stays.
fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                at += 2;
            }
            (b'+', ..) => decoded.push(b' '),
            _ => decoded.push(byte),
        }
        at += 1;
    }
    decoded
}

fn encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b' ' => text.push('+'),
            byte if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) => text.push(char::from(*byte)),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    // proxy-compat cases 8-13.
    #[test]
    fn paths_and_urls_are_taken_and_others_are_named() {
        for url in
            ["/allow", "/allow?token=abc", "http://h/c", "https://h/c", "https://host:8443", "http://h?x"]
        {
            assert!(Question::parse(url).is_ok(), "{url}");
        }
        for (url, wanted) in [
            ("ftp://h/c", "unsupported scheme \"ftp\" in tls-on-demand-url"),
            ("://invalid-url", "unable to parse tls-on-demand-url"),
            ("//example.com/x", "tls-on-demand-url must be a path or an absolute http(s) URL"),
            ("allow-host", "unable to parse tls-on-demand-url"),
            ("http://", "missing host in tls-on-demand-url"),
            ("http://:80/x", "missing host in tls-on-demand-url"),
            ("http://user@h/x", "unable to parse tls-on-demand-url"),
            ("http://h:port/x", "unable to parse tls-on-demand-url"),
            ("/a b", "unable to parse tls-on-demand-url"),
        ] {
            let error = Question::parse(url).unwrap_err();
            assert!(error.starts_with(wanted), "{url}: {error}");
        }
    }

    // proxy-compat case 189.
    #[test]
    fn the_name_stands_in_the_query_in_its_place() {
        let path = |url: &str, name: &str| Question::parse(url).unwrap().path_for(name);
        assert_eq!(path("/allow", "test.example.com"), "/allow?host=test.example.com");
        assert_eq!(path("/allow", "test.example.com:8080"), "/allow?host=test.example.com%3A8080");
        assert_eq!(path("/allow?token=abc", "test.example.com"), "/allow?host=test.example.com&token=abc");
        assert_eq!(path("/a?host=x&a=1+2&b=%2f", "y.com"), "/a?a=1+2&b=%2F&host=y.com");
        assert_eq!(path("https://h", "y.com"), "/?host=y.com");
    }
}

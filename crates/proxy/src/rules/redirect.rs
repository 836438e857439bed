//! Requests that are sent elsewhere.

use freehold_model::Redirect;

use super::Visit;
use crate::table::match_prefix;

/// Returns the status and the address of the first redirect that fits a request.
///
/// The address is always whole, with scheme and host: one that began with the rest of a path could be read as another host.
pub(super) fn find(redirects: &[Redirect], visit: &Visit<'_, '_, '_>) -> Option<(u16, String)> {
    let view = visit.view;
    let (redirect, length) = redirects.iter().find_map(|redirect| {
        let from = redirect.from.trim_end_matches('/');
        let length = match from {
            "" => 0,
            from => match_prefix(from, view.path)?,
        };
        let is_whole = matches!(view.path.get(length..), Some("" | "/"));
        (redirect.keep_path || is_whole).then_some((redirect, length))
    })?;
    let mut location = String::with_capacity(128);
    if redirect.to.starts_with('/') {
        location.push_str(visit.scheme);
        location.push_str("://");
        location.push_str(view.authority);
    }
    if redirect.keep_path {
        location.push_str(redirect.to.trim_end_matches('/'));
        location.push_str(view.path.get(length..).unwrap_or_default());
        if let Some(query) = view.query {
            location.push('?');
            location.push_str(query);
        }
    } else {
        location.push_str(&redirect.to);
    }
    // Others than these may turn another method into a GET.
    let status = match (redirect.permanent, matches!(view.method, "GET" | "HEAD")) {
        (true, true) => 301,
        (true, false) => 308,
        (false, true) => 302,
        (false, false) => 307,
    };
    Some((status, location))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::request::parse;
    use crate::http1::slots;

    fn location(redirects: &[&str], line: &str) -> Option<String> {
        let head = format!("{line} HTTP/1.1\r\nHost: shop.example.com:81\r\n\r\n");
        let mut slots = slots();
        let request = parse(head.as_bytes(), &mut slots).unwrap().unwrap();
        let redirects: Vec<Redirect> = redirects.iter().map(|text| Redirect::parse(text).unwrap()).collect();
        let visit =
            Visit { view: &request.view, peer: "1.1.1.1", scheme: "http", is_again: false, trusted: &[] };
        find(&redirects, &visit).map(|(status, location)| format!("{status} {location}"))
    }

    #[test]
    fn paths_are_sent_where_they_belong() {
        let both = ["/old https://new.example.com/ keep-path permanent", "/one /two"];
        for (line, wanted) in [
            ("GET /old/a?b=c", Some("301 https://new.example.com/a?b=c")),
            ("GET /old", Some("301 https://new.example.com")),
            ("POST /old/a", Some("308 https://new.example.com/a")),
            ("GET /older", None),
            ("GET /one?x=y", Some("302 http://shop.example.com:81/two")),
            ("PUT /one/", Some("307 http://shop.example.com:81/two")),
            ("GET /one/more", None),
            ("GET /%6fne", Some("302 http://shop.example.com:81/two")),
        ] {
            assert_eq!(location(&both, line).as_deref(), wanted, "{line}");
        }
    }

    #[test]
    fn the_rest_of_a_path_does_not_become_a_host() {
        let wanted = Some("302 http://shop.example.com:81//evil.example.com");
        assert_eq!(location(&["/old / keep-path"], "GET /old//evil.example.com").as_deref(), wanted);
        let wanted = Some("302 https://new.example.com/.evil.example.com");
        assert_eq!(
            location(&["/ https://new.example.com keep-path"], "GET /.evil.example.com").as_deref(),
            wanted
        );
    }
}

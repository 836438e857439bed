//! The answers that the proxy makes itself.

use crate::http1::Version;
use crate::http1::response::write_status_line;
use crate::template::ErrorPages;

/// The kinds of bodies.
pub(crate) const HTML: &str = "text/html; charset=utf-8";
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

/// How an answer of the proxy is to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form<'a> {
    pub(crate) version: Version,
    /// The request was a `HEAD`: the head is sent alone.
    pub(crate) head: bool,
    pub(crate) keep_alive: bool,
    pub(crate) date: &'a [u8],
}

/// What an answer of the proxy says.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Content<'a> {
    /// Stands in place of the usual text.
    pub(crate) message: &'a str,
    /// The application's own pages.
    pub(crate) pages: Option<&'a ErrorPages>,
}

/// Appends a small page about a status; an empty page for successes. Returns the length of the body that is sent.
pub(crate) fn write(status: u16, content: &Content<'_>, form: &Form<'_>, out: &mut Vec<u8>) -> u64 {
    let own = content.pages.and_then(|pages| pages.render(status, content.message));
    let body = own.unwrap_or_else(|| body(status, content.message));
    write_whole(status, (HTML, &body), form, out)
}

/// Appends plain text. Returns the length of the body that is sent.
pub(crate) fn write_text(status: u16, text: &str, form: &Form<'_>, out: &mut Vec<u8>) -> u64 {
    write_whole(status, (TEXT, text), form, out)
}

fn write_whole(status: u16, (kind, body): (&str, &str), form: &Form<'_>, out: &mut Vec<u8>) -> u64 {
    write_status_line(status, out);
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(form.date);
    out.extend_from_slice(format!("\r\nContent-Length: {}\r\n", body.len()).as_bytes());
    if !body.is_empty() {
        out.extend_from_slice(format!("Content-Type: {kind}\r\nCache-Control: no-store\r\n").as_bytes());
    }
    if !form.keep_alive {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if form.version == Version::Http10 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
    if form.head {
        return 0;
    }
    out.extend_from_slice(body.as_bytes());
    body.len() as u64
}

fn body(status: u16, message: &str) -> String {
    let (title, text) = match status {
        200 => return String::new(),
        401 => ("Unauthorized", "A user and a password are needed here."),
        403 => ("Forbidden", "This address may not be asked from where you are."),
        404 => ("Not Found", "There is nothing at this address."),
        408 => ("Request Timeout", "The request did not arrive in time."),
        413 => ("Content Too Large", "What was sent is too large."),
        429 => ("Too Many Requests", "There were too many requests. Please try again in a moment."),
        431 => ("Request Header Fields Too Large", "The head of the request is too large."),
        502 => ("Bad Gateway", "The application could not be reached. Please try again in a moment."),
        503 => {
            ("Service Temporarily Unavailable", "The application is not ready. Please try again in a moment.")
        }
        504 => ("Gateway Timeout", "The application did not answer in time. Please try again in a moment."),
        _ => {
            let known = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
            (known.unwrap_or("Error"), "The request cannot be served.")
        }
    };
    let message = escape_html(message);
    let text = if message.is_empty() { text } else { &message };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\
         <body><h1>{title}</h1><p>{text}</p></body></html>\n"
    )
}

/// Appends an answer that sends the client elsewhere; only a `GET` gets a body. Returns its length.
pub(crate) fn write_redirect(
    (status, location): (u16, &str),
    form: &Form<'_>,
    is_get: bool,
    out: &mut Vec<u8>,
) -> u64 {
    let title = if matches!(status, 301 | 308) { "Moved Permanently" } else { "Found" };
    let body = match is_get {
        true => format!("<a href=\"{}\">{title}</a>.\n\n", escape_html(location)),
        false => String::new(),
    };
    write_status_line(status, out);
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(form.date);
    let length = body.len();
    let kind = if is_get || form.head { "Content-Type: text/html; charset=utf-8\r\n" } else { "" };
    let lines =
        format!("\r\nLocation: {location}\r\n{kind}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    out.extend_from_slice(lines.as_bytes());
    out.extend_from_slice(body.as_bytes());
    length as u64
}

/// Puts further lines, each with its end, behind the first line of an answer.
pub(crate) fn add_lines(answer: &mut Vec<u8>, lines: &[u8]) {
    let end = answer.windows(2).position(|two| two == b"\r\n").map_or(answer.len(), |end| end + 2);
    answer.splice(end..end, lines.iter().copied());
}

/// Writes a text so that it is one in HTML, also inside an attribute's quotes.
pub(crate) fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&#34;"),
            '\'' => escaped.push_str("&#39;"),
            '\0' => escaped.push('\u{fffd}'),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(status: u16, content: &Content<'_>) -> String {
        let mut out = Vec::new();
        let form = Form { version: Version::Http11, head: false, keep_alive: true, date: b"now" };
        write(status, content, &form, &mut out);
        String::from_utf8(out).unwrap()
    }

    // proxy-compat case 191.
    #[test]
    fn there_is_a_page_for_every_status() {
        for (status, message, wanted) in [
            (404, "", "<h1>Not Found</h1>"),
            (503, "back at <noon>", "<p>back at &lt;noon&gt;</p>"),
            (503, "", "<h1>Service Temporarily Unavailable</h1>"),
            (418, "", "<h1>I'm a teapot</h1>"),
        ] {
            let page = page(status, &Content { message, pages: None });
            assert!(page.contains(wanted), "{page}");
            assert!(page.contains("\r\nContent-Type: text/html; charset=utf-8\r\n"), "{page}");
        }
    }

    // proxy-compat case 193.
    #[test]
    fn an_applications_page_stands_for_its_status_only() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("404.html"), "ours").unwrap();
        let pages = ErrorPages::load(folder.path()).unwrap();
        let content = Content { message: "", pages: Some(&pages) };
        assert!(page(404, &content).ends_with("\r\n\r\nours"));
        for status in [503, 418] {
            assert_eq!(page(status, &content), page(status, &Content::default()));
        }
    }
}

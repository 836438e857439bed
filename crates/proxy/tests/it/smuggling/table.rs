//! The requests. `{p}` stands for a path of the case's own; behind each comes another request, which shows where the
//! first was taken to end.

/// One connection's bytes.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

impl Case {
    /// Returns the head of the first request.
    pub(super) fn head(&self) -> &[u8] {
        let end = self.bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        &self.bytes[..end.map_or(self.bytes.len(), |end| end + 4)]
    }
}

/// Where another proxy reads something else, or the judge frowns, and why that does no harm.
pub(super) fn explained(name: &str) -> Option<&'static str> {
    EXPLAINED.iter().find(|(known, _)| *known == name).map(|(_, why)| *why)
}

const BLANK: &str = "nginx takes no tab before or behind a value, RFC 9110 does; we forward it without";
const UNDERSCORE: &str =
    "a CGI program would take it for the real one: it plays no part, and is not forwarded";
const BODY_OF_GET: &str = "the judge finds a body's meaning here undefined, not its end: there is one length";

const EXPLAINED: &[(&str, &str)] = &[
    ("Transfer-Encoding: \tchunked", BLANK),
    ("Transfer-Encoding: chunked\t", BLANK),
    ("Content-Length: \t3", BLANK),
    ("Transfer_Encoding: chunked", UNDERSCORE),
    ("Content-Length: 13\r\nTransfer_Encoding: chunked", UNDERSCORE),
    ("Content_Length: 3", UNDERSCORE),
    (
        "get {p} HTTP/1.1\r\nHost: a\r\n\r\n",
        "a method is any token, and `get` is not `GET`: the target decides",
    ),
    ("GET {p}%00 HTTP/1.1\r\nHost: a\r\n\r\n", "nginx looks for files; the path goes on as it came"),
    (
        "GET {p}\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
        "letters that should be escaped end no path; nginx forwards them, too",
    ),
    (
        "GET http://a{p} HTTP/1.1\r\nHost: a\r\n\r\n",
        "the target gets the path alone, and the host as `Host`, as from nginx",
    ),
    (
        "GET http://b{p} HTTP/1.1\r\nHost: a\r\n\r\n",
        "RFC 9112, 3.2.2: the target's host counts and replaces `Host`, as in nginx",
    ),
    (
        "GET {p} HTTP/1.1\r\nHost:\r\n\r\n",
        "RFC 9112, 3.2: an empty host is one; it reaches a service without hosts only",
    ),
    ("GET {p} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", BODY_OF_GET),
    ("HEAD {p} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", BODY_OF_GET),
    ("GET {p} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", BODY_OF_GET),
    (
        "TRACE {p} HTTP/1.1\r\nHost: a\r\n\r\n",
        "nginx has no `TRACE`; whether there is one, the target decides",
    ),
];

/// Returns all of them.
pub(super) fn cases() -> Vec<Case> {
    let mut texts: Vec<(String, String)> = Vec::new();
    let mut post = |name: &str, lines: &str, body: &str| {
        texts.push((name.to_owned(), format!("POST {{p}} HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n{body}")));
    };
    for coding in TRANSFER_CODINGS {
        let with_length = format!("Content-Length: 13\r\n{coding}");
        for lines in [*coding, &with_length] {
            post(lines, lines, "3\r\nabc\r\n0\r\n\r\n");
        }
    }
    LENGTHS.iter().for_each(|lines| post(lines, lines, "abc"));
    CHUNKS.iter().for_each(|body| post(body, "Transfer-Encoding: chunked", body));
    texts.extend(HEADS.iter().map(|text| ((*text).to_owned(), (*text).to_owned())));
    let make = |(index, (name, text)): (usize, (String, String))| {
        let text = format!("{text}GET {{p}}-after HTTP/1.1\r\nHost: a\r\n\r\n");
        Case { name, bytes: text.replace("{p}", &format!("/c{index}")).into_bytes() }
    };
    texts.into_iter().enumerate().map(make).collect()
}

const TRANSFER_CODINGS: &[&str] = &[
    "Transfer-Encoding: chunked",
    "transfer-encoding: CHUNKED",
    "Transfer-Encoding:chunked",
    "Transfer-Encoding: \tchunked",
    "Transfer-Encoding: chunked ",
    "Transfer-Encoding: chunked\t",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    " Transfer-Encoding: chunked",
    "\tTransfer-Encoding: chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding:\u{b}chunked",
    "Transfer-Encoding:\u{c}chunked",
    "Transfer-Encoding: \u{a0}chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunkedx",
    "Transfer-Encoding: chun ked",
    "Transfer-Encoding: chunk",
    "Transfer-Encoding: 'chunked'",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, gzip",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding:",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: gzip",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding:",
    "Transfer_Encoding: chunked",
    "Transfer Encoding: chunked",
    "X-Transfer-Encoding: chunked",
    "Transfer-Encodin: chunked",
    "Transfer-Encoding\0: chunked",
    "Transfer-Encoding: chunked\0",
    "Transfer-Encoding: \0chunked",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\rTransfer-Encoding: chunked",
    "X: y\r\n\tTransfer-Encoding: chunked",
    "Foo: bar\r\n Transfer-Encoding: chunked",
    "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    "TE: chunked",
    "Transfer-Encoding: chunked\r\nTE: trailers",
    "\u{feff}Transfer-Encoding: chunked",
];

const LENGTHS: &[&str] = &[
    "Content-Length: 3",
    "content-length: 3",
    "Content-Length:3",
    "Content-Length: 3 ",
    "Content-Length: \t3",
    "Content-Length: 03",
    "Content-Length: 0000000000000000000003",
    "Content-Length: +3",
    "Content-Length: -3",
    "Content-Length: 3.0",
    "Content-Length: 3e0",
    "Content-Length: 0x3",
    "Content-Length: 3a",
    "Content-Length: a3",
    "Content-Length: 3 3",
    "Content-Length: 3,3",
    "Content-Length: 3, 3",
    "Content-Length: 3, 4",
    "Content-Length: ,3",
    "Content-Length: 3,",
    "Content-Length: \"3\"",
    "Content-Length:",
    "Content-Length: \x003",
    "Content-Length: 3\0",
    "Content-Length: 18446744073709551619",
    "Content-Length: 9223372036854775811",
    "Content-Length : 3",
    "Content-Length\t: 3",
    " Content-Length: 3",
    "Content-Length:\r\n 3",
    "Content-Length: 3\r\nContent-Length: 3",
    "Content-Length: 3\r\nContent-Length: 4",
    "Content-Length: 4\r\nContent-Length: 3",
    "Content-Length: 0\r\nContent-Length: 3",
    "Content-Length: 3\r\nContent-Length:",
    "Content_Length: 3",
    "Content Length: 3",
    "Content-Length\0: 3",
    "X: y\nContent-Length: 3",
    "X: y\rContent-Length: 3",
    "Connection: Content-Length\r\nContent-Length: 3",
    "Connection: close, Content-Length\r\nContent-Length: 3",
];

const CHUNKS: &[&str] = &[
    "0\r\n\r\n",
    "3\r\nabc\r\n0\r\n\r\n",
    "03\r\nabc\r\n00\r\n\r\n",
    "0000000003\r\nabc\r\n0\r\n\r\n",
    "00000000000000000003\r\nabc\r\n0\r\n\r\n",
    "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    "A\r\n0123456789\r\n0\r\n\r\n",
    "a\r\n0123456789\r\n0\r\n\r\n",
    "3;x\r\nabc\r\n0\r\n\r\n",
    "3;x=y\r\nabc\r\n0\r\n\r\n",
    "3;x=\"y;z\"\r\nabc\r\n0;last\r\n\r\n",
    "3 ;x=y\r\nabc\r\n0\r\n\r\n",
    "3 \r\nabc\r\n0\r\n\r\n",
    "3\t\r\nabc\r\n0\r\n\r\n",
    " 3\r\nabc\r\n0\r\n\r\n",
    "+3\r\nabc\r\n0\r\n\r\n",
    "-3\r\nabc\r\n0\r\n\r\n",
    "0x3\r\nabc\r\n0\r\n\r\n",
    "3h\r\nabc\r\n0\r\n\r\n",
    "g\r\nabc\r\n0\r\n\r\n",
    "\r\nabc\r\n0\r\n\r\n",
    "3\nabc\n0\n\n",
    "3\r\nabc\n0\r\n\r\n",
    "3\nabc\r\n0\r\n\r\n",
    "3\rabc\r\n0\r\n\r\n",
    "3;x\nabc\r\n0\r\n\r\n",
    "3;a\rb\r\nabc\r\n0\r\n\r\n",
    "3;\0\r\nabc\r\n0\r\n\r\n",
    "3\r\nabcd\r\n0\r\n\r\n",
    "3\r\nabc0\r\n\r\n",
    "3\r\nab\r\n0\r\n\r\n",
    "3\r\nabcXX0\r\n\r\n",
    "100000000000000003\r\nabc\r\n0\r\n\r\n",
    "ffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "80000000000000000\r\nabc\r\n0\r\n\r\n",
    "0\r\nX-Trailer: y\r\n\r\n",
    "0\r\nContent-Length: 5\r\n\r\n",
    "0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "0\r\nHost: b\r\n\r\n",
    "0\r\nX-Trailer : y\r\n\r\n",
    "0\r\n X-Trailer: y\r\n\r\n",
    "0\r\nno colon\r\n\r\n",
    "0\r\nX: y\n\r\n",
    "0\n\r\n",
    "0\r\n\n",
    "0\r\n\r",
];

const HEADS: &[&str] = &[
    "GET {p} HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\nGET {p} HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\n\r\nGET {p} HTTP/1.1\r\nHost: a\r\n\r\n",
    "\nGET {p} HTTP/1.1\r\nHost: a\r\n\r\n",
    " GET {p} HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET  {p} HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET {p}  HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET {p} HTTP/1.1 \r\nHost: a\r\n\r\n",
    "GET\t{p}\tHTTP/1.1\r\nHost: a\r\n\r\n",
    "GET {p} x HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET {p}\u{b}HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET {p} HTTP/1.1\nHost: a\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: a\n\n",
    "GET {p} HTTP/1.1\nHost: a\n\n",
    "GET {p} HTTP/1.1\r\nHost: a\r\n\n",
    "GET {p} HTTP/1.1\r\nHost: a\n\r\n",
    "GET {p} HTTP/1.1\rHost: a\r\r",
    "get {p} HTTP/1.1\r\nHost: a\r\n\r\n",
    "G\0T {p} HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET {p}\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET {p}#x HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET {p}?x=/../y HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET {p}/%2e%2e/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET {p}%00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET {p}%zz HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET {p}\\x HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET {p}\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET {p}\u{7f} HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://a{p} HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://b{p} HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://u@a{p} HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET ftp://a{p} HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET {p} HTTP/1.1\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost:\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: a b\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost : a\r\n\r\n",
    "GET {p} HTTP/1.1\r\n Host: a\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: a\0b\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: a\r\n: empty\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: a\r\nX(): y\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: a\r\nX: y\u{1}\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: a\r\nX: \u{e9}\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: a\r\nX: y\r\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: a\r\nX_Y: z\r\n\r\n",
    "GET {p}\r\n\r\n",
    "GET {p} HTTP/0.9\r\nHost: a\r\n\r\n",
    "GET {p} HTTP/1.2\r\nHost: a\r\n\r\n",
    "GET {p} HTTP/2.0\r\nHost: a\r\n\r\n",
    "GET {p} HTTP/11\r\nHost: a\r\n\r\n",
    "GET {p} HTTP/1.10\r\nHost: a\r\n\r\n",
    "GET {p} HTTP/01.1\r\nHost: a\r\n\r\n",
    "GET {p} http/1.1\r\nHost: a\r\n\r\n",
    "GET {p} HTP/1.1\r\nHost: a\r\n\r\n",
    "GET {p} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    "POST {p} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "POST {p} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
    "POST {p} HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    "HEAD {p} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    "DELETE {p} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "POST {p} HTTP/1.1\r\nHost: a\r\nConnection: Host\r\nContent-Length: 3\r\n\r\nabc",
    "POST {p} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    "POST {p} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, x\r\nContent-Length: 3\r\n\r\nabc",
    "GET {p} HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 1\r\n\r\n",
    "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "TRACE {p} HTTP/1.1\r\nHost: a\r\n\r\n",
];

//! Which targets of a service a request may go to: those that take every request, or those that get reads only.
//!
//! Who has just changed something must see it: for a while the reads of a client that did go to the targets that write, by a
//! cookie. The rules are kamal-proxy's.

use std::time::Duration;

use freehold_wire::ServiceSettings;
use jiff::Timestamp;

use crate::clock::Clock;
use crate::cookie;
use crate::digits::write_decimal;
use crate::view::RequestView;

/// The cookie of a client that has changed something: until when it counts, in milliseconds since 1970.
const WRITER_COOKIE: &str = "kamal-writer";

/// The line by which a target keeps an answer from setting the cookie.
pub(crate) const DECLINING_HEADER: &str = "x-writer-affinity";

/// What a request needs of its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    /// That it takes every request.
    Write,
    /// Nothing more than that it gets reads.
    Read,
}

/// Finds out what a request needs where some targets get reads only, and for how long the client's reads are to go to those
/// that write after it.
pub(crate) fn of(view: &RequestView<'_, '_>, settings: &ServiceSettings) -> (Duty, Option<Duration>) {
    let is_read = matches!(view.method, "GET" | "HEAD")
        && (view.upgrade_of(settings).is_none() || settings.read_targets_take_websockets);
    if !is_read {
        let affinity = Duration::from_millis(settings.writer_affinity_ms);
        return (Duty::Write, Some(affinity).filter(|affinity| !affinity.is_zero()));
    }
    let value = cookie::value(view, WRITER_COOKIE).and_then(|value| std::str::from_utf8(value).ok());
    let until = value.and_then(|value| value.parse::<u64>().ok());
    let counts = until.is_some_and(|until| Clock::unix() < Duration::from_millis(until));
    (if counts { Duty::Write } else { Duty::Read }, None)
}

/// Appends the line that sets the cookie.
pub(crate) fn write_cookie(affinity: Duration, out: &mut Vec<u8>) {
    let until = Clock::unix().saturating_add(affinity);
    let ends = until.saturating_add(Duration::from_secs(1)).as_secs();
    let ends = Timestamp::from_second(ends.try_into().unwrap_or_default()).unwrap_or_default();
    out.extend_from_slice(b"Set-Cookie: ");
    out.extend_from_slice(WRITER_COOKIE.as_bytes());
    out.push(b'=');
    write_decimal(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), out);
    out.extend_from_slice(b"; Path=/; Expires=");
    out.extend_from_slice(ends.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string().as_bytes());
    out.extend_from_slice(b"; HttpOnly\r\n");
}

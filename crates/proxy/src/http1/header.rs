//! What each header line means to a proxy.

/// The part that a header line plays in forwarding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Goes through untouched.
    Other,
    /// What the proxy tells of a client's certificate; never taken from a client.
    ClientCertificate,
    Connection,
    ContentLength,
    ContentType,
    Date,
    Expect,
    /// `Forwarded`, and spellings with `_` of the lines that the proxy sets, which some servers read as the same.
    Forwarded,
    ForwardedFor,
    ForwardedHost,
    ForwardedProto,
    /// Is about one connection only and never goes through.
    HopByHop,
    Host,
    KamalTarget,
    Location,
    RequestId,
    RequestStart,
    SetCookie,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    UserAgent,
}

impl Kind {
    /// Says whether a `Connection` line may name this header and so keep it from going through. Lines that frame or
    /// route a message are exempt: a client must not be able to remove them.
    pub(crate) fn may_be_named_by_connection(self) -> bool {
        matches!(
            self,
            Self::Other
                | Self::UserAgent
                | Self::SetCookie
                | Self::Location
                | Self::ContentType
                | Self::Date
                | Self::Expect
        )
    }
}

/// Finds the part that a header plays by its name, in any case.
pub(crate) fn kind(name: &[u8]) -> Kind {
    let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
    match name.len() {
        2 if is(b"te") => Kind::Te,
        4 if is(b"host") => Kind::Host,
        4 if is(b"date") => Kind::Date,
        6 if is(b"expect") => Kind::Expect,
        7 if is(b"upgrade") => Kind::Upgrade,
        7 if is(b"trailer") => Kind::Trailer,
        8 if is(b"location") => Kind::Location,
        9 if is(b"forwarded") => Kind::Forwarded,
        10 if is(b"connection") => Kind::Connection,
        10 if is(b"keep-alive") => Kind::HopByHop,
        10 if is(b"user-agent") => Kind::UserAgent,
        10 if is(b"set-cookie") => Kind::SetCookie,
        12 if is(b"content-type") => Kind::ContentType,
        12 if is(b"x-request-id") => Kind::RequestId,
        14 if is(b"content-length") => Kind::ContentLength,
        14 if is(b"x-kamal-target") => Kind::KamalTarget,
        15 if is(b"x-forwarded-for") => Kind::ForwardedFor,
        15 if is(b"x-request-start") => Kind::RequestStart,
        16 if is(b"proxy-connection") => Kind::HopByHop,
        16 if is(b"x-forwarded-host") => Kind::ForwardedHost,
        17 if is(b"x-forwarded-proto") => Kind::ForwardedProto,
        17 if is(b"transfer-encoding") => Kind::TransferEncoding,
        18 if is(b"proxy-authenticate") => Kind::HopByHop,
        19 if is(b"proxy-authorization") => Kind::HopByHop,
        28 if is(b"x-client-certificate-subject") => Kind::ClientCertificate,
        32 if is(b"x-client-certificate-fingerprint") => Kind::ClientCertificate,
        _ if name.contains(&b'_') => kind_of_underscored(name),
        _ => Kind::Other,
    }
}

#[cold]
fn kind_of_underscored(name: &[u8]) -> Kind {
    let dashed: Vec<u8> = name.iter().map(|&byte| if byte == b'_' { b'-' } else { byte }).collect();
    match kind(&dashed) {
        Kind::ContentLength
        | Kind::TransferEncoding
        | Kind::ForwardedFor
        | Kind::ForwardedHost
        | Kind::ForwardedProto
        | Kind::ClientCertificate
        | Kind::KamalTarget => Kind::Forwarded,
        _ => Kind::Other,
    }
}

/// Says whether a header may stand in a trailer: nothing that frames, routes or authenticates.
/// <https://www.rfc-editor.org/rfc/rfc9110#section-6.5.1>
pub(crate) fn may_be_trailer(name: &[u8]) -> bool {
    const REFUSED: [&[u8]; 7] = [
        b"authorization",
        b"cookie",
        b"set-cookie",
        b"content-encoding",
        b"content-range",
        b"cache-control",
        b"range",
    ];
    matches!(kind(name), Kind::Other) && !REFUSED.iter().any(|refused| name.eq_ignore_ascii_case(refused))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_spelling() {
        assert_eq!(kind(b"TRANSFER-encoding"), Kind::TransferEncoding);
        assert_eq!(kind(b"X_Forwarded_For"), Kind::Forwarded);
        assert_eq!(kind(b"Content_Length"), Kind::Forwarded);
        assert_eq!(kind(b"my_header"), Kind::Other);
        assert_eq!(kind(b"X_Client-Certificate_Subject"), Kind::Forwarded);
        assert!(!may_be_trailer(b"Transfer-Encoding"));
        assert!(may_be_trailer(b"Grpc-Status"));
    }
}

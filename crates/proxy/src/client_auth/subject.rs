//! The subject of a certificate as text (RFC 4514), in ASCII so that it can stand in a header.

use crate::certificate::details::{INTEGER, OBJECT_IDENTIFIER, Reader, SEQUENCE, VERSION};

const SET: u8 = 0x31;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const TELETEX_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;

/// The short names of RFC 4514, section 3, and the one of e-mail addresses (RFC 2985), by object identifier.
const NAMES: [(&[u8], &str); 10] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
];

/// Reads the subject of a certificate in DER.
pub(super) fn of(certificate: &[u8]) -> Option<String> {
    let mut outer = Reader(Reader(certificate).expect(SEQUENCE)?);
    let mut fields = Reader(outer.expect(SEQUENCE)?);
    let (tag, _) = fields.next()?;
    if tag == VERSION {
        fields.expect(INTEGER)?;
    }
    // The algorithm, the issuer, and from when until when it is valid.
    for _ in 0..3 {
        fields.expect(SEQUENCE)?;
    }
    let mut names = Reader(fields.expect(SEQUENCE)?);
    let mut parts = Vec::new();
    while let Some((SET, set)) = names.next() {
        let mut set = Reader(set);
        let mut values = Vec::new();
        while let Some((SEQUENCE, pair)) = set.next() {
            values.push(part(pair)?);
        }
        parts.push(values.join("+"));
    }
    // The last one stands first.
    parts.reverse();
    Some(parts.join(","))
}

fn part(pair: &[u8]) -> Option<String> {
    let mut pair = Reader(pair);
    let identifier = pair.expect(OBJECT_IDENTIFIER)?;
    let (tag, value) = pair.next()?;
    let name = NAMES.iter().find(|(known, _)| *known == identifier).map(|(_, name)| *name);
    let is_text = matches!(tag, UTF8_STRING | PRINTABLE_STRING | TELETEX_STRING | IA5_STRING);
    match name {
        Some(name) if is_text => Some(format!("{name}={}", escaped(value))),
        name => {
            let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let length = u8::try_from(value.len()).ok().filter(|length| *length < 0x80)?;
            let name = name.map_or_else(|| dotted(identifier), str::to_owned);
            Some(format!("{name}=#{}{}", hex(&[tag, length]), hex(value)))
        }
    }
}

/// Escapes what has a meaning in the text, and whatever is not printable ASCII.
fn escaped(value: &[u8]) -> String {
    let mut text = String::with_capacity(value.len());
    for (at, &byte) in value.iter().enumerate() {
        let is_edge = at == 0 || at + 1 == value.len();
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' | b'=' => text.extend(['\\', char::from(byte)]),
            b' ' if is_edge => text.push_str("\\ "),
            b'#' if at == 0 => text.push_str("\\#"),
            0x20..=0x7e => text.push(char::from(byte)),
            byte => text.push_str(&format!("\\{byte:02X}")),
        }
    }
    text
}

fn dotted(identifier: &[u8]) -> String {
    let (mut arcs, mut arc) = (Vec::new(), 0_u64);
    for byte in identifier {
        arc = arc.wrapping_shl(7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if arcs.is_empty() {
                let first = (arc / 40).min(2);
                arcs.push(first);
                arc -= first * 40;
            }
            arcs.push(arc);
            arc = 0;
        }
    }
    arcs.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn subject(parts: &[(DnType, &str)]) -> String {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            parameters.distinguished_name.push(kind.clone(), *value);
        }
        let certificate = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap();
        of(certificate.der()).unwrap()
    }

    // RFC 4514, section 4.
    #[test]
    fn a_subject_is_one_line_of_ascii() {
        use DnType::{CommonName, CountryName, OrganizationName};
        assert_eq!(subject(&[(CountryName, "SE"), (CommonName, "alice")]), "CN=alice,C=SE");
        assert_eq!(
            subject(&[(OrganizationName, " a,b=\"c\" "), (CommonName, "\u{e5}\r\nX: y")]),
            "CN=\\C3\\A5\\0D\\0AX: y,O=\\ a\\,b\\=\\\"c\\\"\\ "
        );
        let other = DnType::CustomDnType(vec![1, 2, 840, 5]);
        assert_eq!(subject(&[(other, "x")]), "1.2.840.5=#0c0178");
        assert_eq!(subject(&[]), "");
        assert_eq!(of(b"nonsense"), None);
    }
}

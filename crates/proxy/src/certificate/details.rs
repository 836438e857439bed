//! What the proxy needs to know of a certificate beyond what serves it: from when until when it is valid, and the numbers by
//! which its authority knows it. (RFC 5280, section 4.1.)

use std::ops::Range;

use jiff::civil::DateTime;
use jiff::tz::Offset;

pub(crate) const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const KEY_IDENTIFIER: u8 = 0x80;

/// `2.5.29.35`
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];

/// A part of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Details {
    /// When it is valid, in seconds since 1970; the end is the last second.
    pub(crate) valid: Range<i64>,
    /// Its number, as it is encoded.
    pub(crate) serial: Vec<u8>,
    /// The name of the key that signed it.
    pub(crate) authority_key: Option<Vec<u8>>,
}

impl Details {
    /// Reads a certificate in DER; none where it is no X.509 certificate.
    pub(crate) fn read(certificate: &[u8]) -> Option<Self> {
        let mut outer = Reader(Reader(certificate).expect(SEQUENCE)?);
        let mut fields = Reader(outer.expect(SEQUENCE)?);
        let mut field = fields.next()?;
        if field.0 == VERSION {
            field = fields.next()?;
        }
        let serial = field.1.to_vec();
        if field.0 != INTEGER {
            return None;
        }
        // The algorithm, and the issuer.
        fields.expect(SEQUENCE)?;
        fields.expect(SEQUENCE)?;
        let mut validity = Reader(fields.expect(SEQUENCE)?);
        let valid = time(validity.next()?)?..time(validity.next()?)?;
        let extensions = std::iter::from_fn(|| fields.next()).find(|(tag, _)| *tag == EXTENSIONS);
        let authority_key = extensions.and_then(|(_, list)| authority_key(Reader(list).expect(SEQUENCE)?));
        Some(Self { valid, serial, authority_key })
    }
}

fn authority_key(extensions: &[u8]) -> Option<Vec<u8>> {
    let mut extensions = Reader(extensions);
    loop {
        let mut extension = Reader(extensions.expect(SEQUENCE)?);
        if extension.expect(OBJECT_IDENTIFIER)? != AUTHORITY_KEY_IDENTIFIER {
            continue;
        }
        // Before the value there may be a word on whether it is critical.
        let value = std::iter::from_fn(|| extension.next()).find(|(tag, _)| *tag == OCTET_STRING)?.1;
        let (tag, key) = Reader(Reader(value).expect(SEQUENCE)?).next()?;
        return (tag == KEY_IDENTIFIER).then(|| key.to_vec());
    }
}

fn time((tag, text): (u8, &[u8])) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let full = match tag {
        // Years below 50 are of this century.
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time = DateTime::strptime("%Y%m%d%H%M%S", full).ok()?;
    Some(Offset::UTC.to_timestamp(time).ok()?.as_second())
}

/// Elements of DER after each other.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// Takes the next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// Takes the next element: its tag and its content.
    pub(crate) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    fn first() -> Vec<u8> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certificates/first.crt");
        CertificateDer::from_pem_slice(&fs_err::read(path).unwrap()).unwrap().to_vec()
    }

    // As `openssl x509 -text` prints them.
    #[test]
    fn a_certificate_is_read() {
        let details = Details::read(&first()).unwrap();
        let seconds = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_second();
        assert_eq!(details.valid, seconds("2026-11-22T08:42:38Z")..seconds("2126-10-29T08:42:38Z"));
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&details.serial), "0dc2a82c7de1a5d1d32cc19808160e240784f2e9");
        assert_eq!(hex(&details.authority_key.unwrap()), "9a727c4e7bd5b492741376e4262e45eefc45748d");
    }

    #[test]
    fn the_century_of_two_digits_is_that_of_the_rule() {
        let at = |text: &str| time((UTC_TIME, text.as_bytes()));
        assert_eq!(at("700101000000Z"), Some(0));
        assert_eq!(at("491231235959Z"), Some(2_524_607_999));
        assert_eq!(at("500101000000Z"), Some(-631_152_000));
        assert_eq!(time((GENERALIZED_TIME, b"20700101000000Z")), Some(3_155_760_000));
        for wrong in ["", "Z", "7001010000Z", "700101000000", "701301000000Z", "7001010000\u{e4}0Z"] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes: Vec<u8>, at in 0..500_usize, byte: u8, end in 0..500_usize) {
            Details::read(&bytes);
            let mut changed = first();
            if let Some(place) = changed.get_mut(at) {
                *place = byte;
            }
            changed.truncate(end.max(100));
            Details::read(&changed);
        }
    }
}

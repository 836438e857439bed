//! What a certificate of Fulcio says, and the timestamps of logs of certificates in it. Sources: RFC 5280, RFC 6962 §3,
//! github.com/sigstore/fulcio, docs/oid-info.md and docs/certificate-specification.md.

use ring::digest::{SHA256, digest};

use super::der::{Element, Reader, element, only};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OBJECT: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const OCTETS: u8 = 0x04;
const TEXT: u8 = 0x0c;
/// The extensions of a certificate.
const EXTENSIONS: u8 = 0xa3;

/// 2.5.29.17, the alternative names.
const NAMES: &[u8] = &[0x55, 0x1d, 0x11];
/// 1.3.6.1.4.1.57264.1.1, who vouched for the name, as bare text.
const ISSUER_OLD: &[u8] = &[0x2b, 6, 1, 4, 1, 0x83, 0xbf, 0x30, 1, 1];
/// 1.3.6.1.4.1.57264.1.8, the same as a text of DER.
const ISSUER: &[u8] = &[0x2b, 6, 1, 4, 1, 0x83, 0xbf, 0x30, 1, 8];
/// 1.3.6.1.4.1.11129.2.4.2, timestamps of logs of certificates.
const TIMESTAMPS: &[u8] = &[0x2b, 6, 1, 4, 1, 0xd6, 0x79, 2, 4, 2];

/// A certificate in its parts.
#[derive(Debug)]
pub(super) struct Certificate<'a> {
    /// All of what is signed that stands before the extensions.
    head: &'a [u8],
    issuer: &'a [u8],
    subject: &'a [u8],
    key: &'a [u8],
    extensions: Vec<Extension<'a>>,
}

#[derive(Debug)]
struct Extension<'a> {
    id: &'a [u8],
    value: &'a [u8],
    whole: &'a [u8],
}

/// A timestamp by which a log of certificates promises that it has one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Timestamp<'a> {
    /// Which log.
    pub(super) log: &'a [u8],
    /// When, in milliseconds since 1970.
    pub(super) milliseconds: u64,
    extensions: &'a [u8],
    /// The signature of the log, in the form of DER.
    pub(super) signature: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Reads a certificate; none where it is none of version 3.
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        let mut parts = Reader::new(only(SEQUENCE, der)?);
        let signed = parts.next(SEQUENCE)?.content;
        let mut fields = Reader::new(signed);
        fields.next(0xa0)?; // The version.
        fields.next(INTEGER)?; // The serial number.
        fields.next(SEQUENCE)?; // The algorithm.
        let issuer = fields.next(SEQUENCE)?.whole;
        fields.next(SEQUENCE)?; // The time for which it is good.
        let subject = fields.next(SEQUENCE)?.whole;
        let key = fields.next(SEQUENCE)?.whole;
        fields.optional(0x81);
        fields.optional(0x82);
        let head = signed.get(..signed.len() - fields.rest().len())?;
        let list = fields.next(EXTENSIONS)?;
        if !fields.rest().is_empty() {
            return None;
        }
        let mut list = Reader::new(only(SEQUENCE, list.content)?);
        let mut extensions = Vec::new();
        while !list.rest().is_empty() {
            extensions.push(Extension::read(list.next(SEQUENCE)?)?);
        }
        Some(Self { head, issuer, subject, key, extensions })
    }

    /// Says whether another certificate bears the name of this one's issuer.
    pub(super) fn is_named_as_issuer(&self, other: &Certificate<'_>) -> bool {
        self.issuer == other.subject
    }

    /// The digest of its key, by which others name it.
    pub(super) fn key_digest(&self) -> Vec<u8> {
        digest(&SHA256, self.key).as_ref().to_vec()
    }

    /// Returns an extension that stands there once.
    fn extension(&self, id: &[u8]) -> Option<&'a [u8]> {
        let mut found = self.extensions.iter().filter(|extension| extension.id == id);
        let value = found.next()?.value;
        found.next().is_none().then_some(value)
    }

    /// Whom it was made for: its one alternative name, an e-mail address or a URI.
    pub(super) fn identity(&self) -> Option<&'a str> {
        let mut names = Reader::new(only(SEQUENCE, self.extension(NAMES)?)?);
        let name = names.any()?;
        let is_known = matches!(name.tag, 0x81 | 0x86);
        (is_known && names.rest().is_empty()).then(|| std::str::from_utf8(name.content).ok())?
    }

    /// Who told Fulcio so.
    pub(super) fn issuer(&self) -> Option<&'a str> {
        let text = match self.extension(ISSUER) {
            Some(value) => only(TEXT, value)?,
            None => self.extension(ISSUER_OLD)?,
        };
        std::str::from_utf8(text).ok()
    }

    /// The timestamps in it; none where there is no list of them, or one that cannot be read.
    pub(super) fn timestamps(&self) -> Option<Vec<Timestamp<'a>>> {
        let mut all = only(OCTETS, self.extension(TIMESTAMPS)?)?;
        let mut list = take_counted(&mut all)?;
        let mut timestamps = Vec::new();
        while !list.is_empty() {
            let mut one = take_counted(&mut list)?;
            timestamps.push(Timestamp::read(&mut one)?);
        }
        all.is_empty().then_some(timestamps)
    }

    /// What a log signed with a timestamp, if the key of the issuer has that digest (RFC 6962 §3.2).
    pub(super) fn logged(&self, issuer_key_digest: &[u8], timestamp: &Timestamp<'_>) -> Option<Vec<u8>> {
        let kept: Vec<&[u8]> = self
            .extensions
            .iter()
            .filter(|extension| extension.id != TIMESTAMPS)
            .map(|extension| extension.whole)
            .collect();
        let list = element(EXTENSIONS, &element(SEQUENCE, &kept.concat()));
        let certificate = element(SEQUENCE, &[self.head, &list].concat());
        let length = u32::try_from(certificate.len()).ok()?.to_be_bytes();
        let mut signed = vec![0, 0]; // Version 1, a timestamp of a certificate.
        signed.extend(timestamp.milliseconds.to_be_bytes());
        signed.extend([0, 1]); // A precertificate.
        signed.extend(issuer_key_digest);
        signed.extend(length.get(1..)?);
        signed.extend(certificate);
        signed.extend(u16::try_from(timestamp.extensions.len()).ok()?.to_be_bytes());
        signed.extend(timestamp.extensions);
        Some(signed)
    }
}

impl<'a> Extension<'a> {
    fn read(element: Element<'a>) -> Option<Self> {
        let mut parts = Reader::new(element.content);
        let id = parts.next(OBJECT)?.content;
        parts.optional(BOOLEAN);
        let value = parts.next(OCTETS)?.content;
        Some(Self { id, value, whole: element.whole })
    }
}

impl<'a> Timestamp<'a> {
    fn read(bytes: &mut &'a [u8]) -> Option<Self> {
        let version = take(bytes, 1)?;
        let log = take(bytes, 32)?;
        let milliseconds = u64::from_be_bytes(take(bytes, 8)?.try_into().ok()?);
        let extensions = take_counted(bytes)?;
        let algorithm = take(bytes, 2)?;
        let signature = take_counted(bytes)?;
        // Version 1 and a signature over SHA-256: by ECDSA, or by Ed25519, which RFC 8422 gives that number.
        let is_known = version == [0] && matches!(algorithm, [4, 3] | [8, 7]);
        (is_known && bytes.is_empty()).then_some(Self { log, milliseconds, extensions, signature })
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

/// Takes as many bytes as the two before them say.
fn take_counted<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let count = u16::from_be_bytes(take(bytes, 2)?.try_into().ok()?);
    take(bytes, usize::from(count))
}

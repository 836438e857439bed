//! The messages of the domain name system: a question out, addresses in. RFC 1035, section 4.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const HEADER_BYTES: usize = 12;
const RECURSION_DESIRED: u8 = 1;
const IS_ANSWER: u8 = 0x80;
const TRUNCATED: u8 = 0x02;
const CLASS_INTERNET: u16 = 1;

/// Which kind of address is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    A,
    Aaaa,
}

impl Record {
    fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Aaaa => 28,
        }
    }
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The name has these addresses, at least one.
    Addresses(Vec<IpAddr>),
    /// There is no such name, or it has no address of this kind.
    Nothing,
    /// The server cannot tell.
    Unable,
}

/// Writes a question; none where the text cannot be a name.
pub(super) fn question(id: u16, name: &str, record: Record) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(HEADER_BYTES + name.len() + 6);
    message.extend_from_slice(&id.to_be_bytes());
    message.extend_from_slice(&[RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        message.push(length);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&record.number().to_be_bytes());
    message.extend_from_slice(&CLASS_INTERNET.to_be_bytes());
    (name.len() <= 253).then_some(message)
}

/// Reads what came back; none where it is no answer to this question.
pub(super) fn read(message: &[u8], question: &[u8], record: Record) -> Option<Answer> {
    let asked = question.get(HEADER_BYTES..)?;
    let is_answer = message.get(..2)? == question.get(..2)?
        && message.get(2)? & IS_ANSWER != 0
        && message.get(4..6)? == [0, 1]
        && message.get(HEADER_BYTES..HEADER_BYTES + asked.len())?.eq_ignore_ascii_case(asked);
    if !is_answer {
        return None;
    }
    let code = message.get(3)? & 0x0f;
    let answers = u16::from_be_bytes([*message.get(6)?, *message.get(7)?]);
    let addresses = addresses(message.get(HEADER_BYTES + asked.len()..)?, answers, record);
    let is_truncated = message.get(2)? & TRUNCATED != 0;
    Some(match (code, addresses) {
        (0, Some(addresses)) if !addresses.is_empty() => Answer::Addresses(addresses),
        (0, Some(_)) if !is_truncated => Answer::Nothing,
        (3, _) => Answer::Nothing,
        _ => Answer::Unable,
    })
}

/// Collects the addresses of the answer section; none where it is malformed. Aliases stand before what they lead to, so
/// every address in it is one of the name asked for.
fn addresses(mut section: &[u8], count: u16, record: Record) -> Option<Vec<IpAddr>> {
    let mut found = Vec::new();
    for _ in 0..count {
        section = skip_name(section)?;
        let (fixed, rest) = section.split_at_checked(10)?;
        let [kind0, kind1, class0, class1, _, _, _, _, length0, length1] = *fixed else { return None };
        let length = usize::from(u16::from_be_bytes([length0, length1]));
        let (data, rest) = rest.split_at_checked(length)?;
        let is_wanted = u16::from_be_bytes([kind0, kind1]) == record.number()
            && u16::from_be_bytes([class0, class1]) == CLASS_INTERNET;
        if is_wanted {
            found.push(match record {
                Record::A => Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into(),
                Record::Aaaa => Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into(),
            });
        }
        section = rest;
    }
    Some(found)
}

fn skip_name(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let length = *rest.first()?;
        match length {
            0 => return rest.get(1..),
            // A pointer to a name that stands elsewhere ends this one.
            0xc0.. => return rest.get(2..),
            _ => rest = rest.get(usize::from(length) + 1..)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(question: &[u8], flags: [u8; 2], records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = question.to_vec();
        message[2..4].copy_from_slice(&flags);
        message[7] = u8::try_from(records.len()).unwrap();
        for (kind, data) in records {
            message.extend_from_slice(&[0xc0, 12]);
            message.extend_from_slice(&kind.to_be_bytes());
            message.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
            message.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
            message.extend_from_slice(data);
        }
        message
    }

    #[test]
    fn answers_are_told_apart() {
        let asked = question(7, "web.example.com", Record::A).unwrap();
        let read = |message: &[u8]| read(message, &asked, Record::A);
        let alias = b"\x03foo\x00";
        let good = answer(&asked, [0x81, 0x80], &[(5, alias), (1, &[10, 0, 0, 7]), (1, &[10, 0, 0, 8])]);
        let addresses = vec![IpAddr::from([10, 0, 0, 7]), IpAddr::from([10, 0, 0, 8])];
        assert_eq!(read(&good), Some(Answer::Addresses(addresses)));
        assert_eq!(read(&answer(&asked, [0x81, 0x83], &[])), Some(Answer::Nothing));
        assert_eq!(read(&answer(&asked, [0x81, 0x80], &[])), Some(Answer::Nothing));
        assert_eq!(read(&answer(&asked, [0x81, 0x82], &[])), Some(Answer::Unable));
        assert_eq!(read(&answer(&asked, [0x81, 0x85], &[])), Some(Answer::Unable));
        assert_eq!(read(&answer(&asked, [0x83, 0x80], &[])), Some(Answer::Unable), "cut off");
        assert_eq!(read(&answer(&asked, [0x81, 0x80], &[(1, &[10, 0])])), Some(Answer::Unable));
        assert_eq!(read(&asked), None, "a question is no answer");
        let mut other = good.clone();
        other[0] = 9;
        assert_eq!(read(&other), None, "an answer to another question");
    }

    #[test]
    fn texts_that_are_no_names_are_not_asked_for() {
        for bad in ["", "a..b", ".", &"a".repeat(64), &["abcdefg"; 40].join(".")] {
            assert_eq!(question(1, bad, Record::Aaaa), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_message_is_too_strange_to_read(
            noise in proptest::collection::vec(any::<u8>(), 0..80),
            keep in 0usize..60,
        ) {
            let asked = question(7, "web", Record::A).unwrap();
            let mut message = answer(&asked, [0x81, 0x80], &[(1, &[10, 0, 0, 7])]);
            message.truncate(keep);
            message.extend_from_slice(&noise);
            read(&message, &asked, Record::A);
            read(&noise, &asked, Record::A);
        }
    }
}

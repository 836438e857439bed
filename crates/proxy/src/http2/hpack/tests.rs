//! The examples of RFC 7541, Appendix C, and what holds for all blocks.

use proptest::prelude::*;

use super::{CompressionError, Decoder, Encoder, huffman};

type Field = (Vec<u8>, Vec<u8>);
type Fields = Vec<(String, String)>;

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits: Vec<u32> = hexadecimal.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Field>, CompressionError> {
    let mut found = Vec::new();
    decoder.decode(block, |name, value| found.push((name.to_vec(), value.to_vec())))?;
    Ok(found)
}

fn read(decoder: &mut Decoder, hexadecimal: &str) -> Fields {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let found = decode(decoder, &bytes(hexadecimal)).unwrap();
    found.into_iter().map(|(name, value)| (text(name), text(value))).collect()
}

#[test]
fn each_kind_of_field_is_read() {
    for (block, field, size) in [
        (
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            ("custom-key", "custom-header"),
            55,
        ),
        ("040c 2f73 616d 706c 652f 7061 7468", (":path", "/sample/path"), 0),
        ("1008 7061 7373 776f 7264 0673 6563 7265 74", ("password", "secret"), 0),
        ("82", (":method", "GET"), 0),
    ] {
        let mut decoder = Decoder::new();
        assert_eq!(read(&mut decoder, block), fields(&[field]));
        assert_eq!(decoder.table().content().0, size, "{block}");
    }
}

#[test]
fn requests_are_read_plain_and_shortened() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let shortened = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    let host = (":authority", "www.example.com");
    let first = [(":method", "GET"), (":scheme", "http"), (":path", "/"), host];
    let second = [first[0], first[1], first[2], host, ("cache-control", "no-cache")];
    let custom = ("custom-key", "custom-value");
    let third = [(":method", "GET"), (":scheme", "https"), (":path", "/index.html"), host, custom];
    for blocks in [plain, shortened] {
        let mut decoder = Decoder::new();
        assert_eq!(read(&mut decoder, blocks[0]), fields(&first));
        assert_eq!(decoder.table().content(), (57, fields(&[host])));
        assert_eq!(read(&mut decoder, blocks[1]), fields(&second));
        assert_eq!(decoder.table().content(), (110, fields(&[second[4], host])));
        assert_eq!(read(&mut decoder, blocks[2]), fields(&third));
        assert_eq!(decoder.table().content(), (164, fields(&[custom, second[4], host])));
    }
}

#[test]
fn answers_are_read_and_push_each_other_out() {
    let plain = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32
         3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970
         7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61
         6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
    ];
    let shortened = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad
         1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2
         e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    let (control, date) = (("cache-control", "private"), ("date", "Mon, 21 Oct 2013 20:13:21 GMT"));
    let location = ("location", "https://www.example.com");
    let first = [(":status", "302"), control, date, location];
    let second = [(":status", "307"), control, date, location];
    let later = ("date", "Mon, 21 Oct 2013 20:13:22 GMT");
    let coding = ("content-encoding", "gzip");
    let cookie = ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
    let third = [(":status", "200"), control, later, location, coding, cookie];
    for blocks in [plain, shortened] {
        let mut decoder = Decoder::new();
        // The examples are those of a table of 256 bytes.
        assert_eq!(read(&mut decoder, &format!("3fe101 {}", blocks[0])), fields(&first));
        assert_eq!(decoder.table().content(), (222, fields(&[location, date, control, first[0]])));
        assert_eq!(read(&mut decoder, blocks[1]), fields(&second));
        assert_eq!(decoder.table().content(), (222, fields(&[second[0], location, date, control])));
        assert_eq!(read(&mut decoder, blocks[2]), fields(&third));
        assert_eq!(decoder.table().content(), (215, fields(&[cookie, coding, later])));
    }
}

#[test]
fn what_breaks_the_rules_is_refused() {
    for bad in [
        "80",                 // index 0
        "ff00",               // an index beyond the tables
        "be",                 // the first of an empty table
        "7f10 0474657374",    // a name beyond the tables
        "82 20",              // a size behind a field
        "3fe21f",             // a size above the limit
        "ffffffffff7f",       // a number that is too large
        "40",                 // no name
        "400a61",             // half a name
        "4001 61",            // no value
        "0001 61 85f2b24a84", // half a value
        "ff80",               // half a number
    ] {
        assert_eq!(decode(&mut Decoder::new(), &bytes(bad)), Err(CompressionError), "{bad}");
    }
    assert_eq!(decode(&mut Decoder::new(), &bytes("20 3fe11f 82")).map(|found| found.len()), Ok(1));
}

#[test]
fn what_repeats_gets_an_index_and_secrets_do_not() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let mut lengths = Vec::new();
    for number in 0..4 {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        encoder.status(200, &mut out);
        encoder.field(b"Content-Type", b"text/html; charset=utf-8", &mut out);
        encoder.field(b"X-Number", number.to_string().as_bytes(), &mut out);
        encoder.field(b"Set-Cookie", b"secret=1", &mut out);
        lengths.push(out.len());
        let found = decode(&mut decoder, &out).unwrap();
        assert_eq!(found[0], (b":status".to_vec(), b"200".to_vec()));
        assert_eq!(found[1].0, b"content-type");
        assert_eq!(found[2].1, number.to_string().as_bytes());
        assert_eq!(found[3], (b"set-cookie".to_vec(), b"secret=1".to_vec()));
        assert!(out.ends_with(b"\x1f\x28\x08secret=1"), "never to be indexed");
    }
    assert!(lengths[2] + 20 < lengths[0] && lengths[2] == lengths[3], "{lengths:?}");
    let known = decoder.table().content().1;
    assert_eq!(known, fields(&[("content-type", "text/html; charset=utf-8")]));
}

#[test]
fn a_smaller_table_is_told_and_kept_to() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let mut write = |encoder: &mut Encoder| {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        encoder.field(b"server", b"something", &mut out);
        let found = decode(&mut decoder, &out).unwrap();
        assert_eq!(found, [(b"server".to_vec(), b"something".to_vec())]);
        (out, decoder.table().content().1.len())
    };
    (0..2).for_each(|_| drop(write(&mut encoder)));
    assert_eq!(write(&mut encoder), (vec![0x80 | 62], 1));
    encoder.set_limit(0);
    encoder.set_limit(100_000);
    let (out, known) = write(&mut encoder);
    assert!(out.starts_with(b"\x20\x3f\xe1\x1f"), "{out:?}");
    assert_eq!(known, 1, "it is told anew");
    encoder.set_limit(20);
    let (out, known) = write(&mut encoder);
    assert_eq!((out[0], known), (0x20 | 20, 0));
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        heads in proptest::collection::vec(
            proptest::collection::vec(("[a-f]{1,3}|date|set-cookie|content-length", "[ -~]{0,3}|[a-z]{0,300}"), 0..8),
            0..20,
        ),
        limits in proptest::collection::vec(0usize..5000, 20),
    ) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        for (head, limit) in heads.iter().zip(limits) {
            if limit % 3 == 0 {
                encoder.set_limit(limit);
            }
            let mut out = Vec::new();
            encoder.begin(&mut out);
            for (name, value) in head {
                encoder.field(name.to_ascii_uppercase().as_bytes(), value.as_bytes(), &mut out);
            }
            let found = decode(&mut decoder, &out);
            let wanted: Vec<_> =
                head.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes())).collect();
            prop_assert_eq!(found, Ok(wanted));
        }
    }

    #[test]
    fn nothing_makes_it_panic(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..6)) {
        let mut decoder = Decoder::new();
        for block in blocks {
            drop(decode(&mut decoder, &block));
        }
    }

    #[test]
    fn shortened_texts_are_read(name in "[a-z]{1,20}", value in "[ -~]{0,100}") {
        let mut block = vec![0];
        for text in [&name, &value] {
            let mut coded = Vec::new();
            huffman::encode(text.as_bytes(), &mut coded);
            prop_assume!(coded.len() < 127);
            block.push(0x80 | coded.len() as u8);
            block.extend(coded);
        }
        let found = decode(&mut Decoder::new(), &block);
        prop_assert_eq!(found, Ok(vec![(name.into_bytes(), value.into_bytes())]));
    }
}

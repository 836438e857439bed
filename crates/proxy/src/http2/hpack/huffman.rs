//! The code in which texts are shortened. <https://www.rfc-editor.org/rfc/rfc7541#section-5.2>
//!
//! The code is canonical: its words follow from their lengths alone, so these are all that is written down here. A table finds
//! every word of up to nine bits at once, which are nearly all that occur; longer ones are found by their length.

use super::CompressionError;

const SYMBOLS: usize = 257;

/// The symbol that ends a text and never stands in one.
const END: u16 = 256;

const LONGEST: usize = 30;

/// How many bits are looked up at once.
const FAST_BITS: u32 = 9;

/// The length of each symbol's word, in bits. <https://www.rfc-editor.org/rfc/rfc7541#appendix-B>
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// What follows from the lengths.
struct Words {
    /// By the next nine bits: the symbol, shifted by four, and the length of its word; 0 where the word is longer.
    fast: [u16; 1 << FAST_BITS],
    /// The first word of each length.
    first: [u32; LONGEST + 1],
    /// How many words have each length.
    count: [u16; LONGEST + 1],
    /// Where the symbols of each length begin among all.
    from: [u16; LONGEST + 1],
    /// All symbols by the length of their words.
    symbols: [u16; SYMBOLS],
}

static WORDS: Words = words();

#[expect(
    clippy::indexing_slicing,
    reason = "computed by the compiler, which would refuse an index that is wrong"
)]
const fn words() -> Words {
    let mut words = Words {
        fast: [0; 1 << FAST_BITS],
        first: [0; LONGEST + 1],
        count: [0; LONGEST + 1],
        from: [0; LONGEST + 1],
        symbols: [0; SYMBOLS],
    };
    let (mut length, mut word, mut placed) = (1, 0_u32, 0);
    while length <= LONGEST {
        word <<= 1;
        words.first[length] = word;
        words.from[length] = placed as u16;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                words.symbols[placed] = symbol as u16;
                if length <= FAST_BITS as usize {
                    let shift = FAST_BITS as usize - length;
                    let mut rest = 0;
                    while rest < 1 << shift {
                        words.fast[((word as usize) << shift) + rest] = ((symbol << 4) | length) as u16;
                        rest += 1;
                    }
                }
                word += 1;
                placed += 1;
                words.count[length] += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    words
}

/// Finds the word at the front of 32 bits: its symbol and length.
fn find(bits: u32) -> (u16, u32) {
    let fast = WORDS.fast.get((bits >> (32 - FAST_BITS)) as usize).copied().unwrap_or_default();
    if fast != 0 {
        return (fast >> 4, u32::from(fast & 0xf));
    }
    let lengths = WORDS.first.iter().zip(&WORDS.count).zip(&WORDS.from).zip(0_u32..).skip(10);
    for (((first, count), from), length) in lengths {
        let at = (bits >> (32 - length)).wrapping_sub(*first);
        if at < u32::from(*count) {
            let symbol = WORDS.symbols.get(usize::from(*from) + at as usize);
            return (symbol.copied().unwrap_or(END), length);
        }
    }
    // Every combination of 30 bits is a word; the last one is the end.
    (END, LONGEST as u32)
}

/// Appends a text that was shortened.
///
/// # Errors
/// An end within the text, or padding that is longer than seven bits or not of ones.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let mut input = input.iter();
    // The bits that are not used yet stand at the front; behind them there are ones, as in the padding.
    let (mut bits, mut count) = (u64::MAX, 0_u32);
    loop {
        while count <= 32 {
            let Some(byte) = input.next() else { break };
            let shift = 56 - count;
            bits &= !(0xff << shift) | (u64::from(*byte) << shift);
            count += 8;
        }
        let (symbol, length) = find((bits >> 32) as u32);
        if length > count {
            // What is left is the beginning of a word of ones.
            let is_padding = count < 8 && bits == u64::MAX;
            return if is_padding { Ok(()) } else { Err(CompressionError) };
        }
        let Ok(byte) = u8::try_from(symbol) else { return Err(CompressionError) };
        out.push(byte);
        bits = (bits << length) | ((1 << length) - 1);
        count -= length;
    }
}

/// Appends a text, shortened.
#[cfg(test)]
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut count) = (0_u64, 0);
    for byte in text {
        let length = LENGTHS[usize::from(*byte)] as usize;
        let from = usize::from(WORDS.from[length]);
        let at = WORDS.symbols[from..].iter().position(|symbol| *symbol == u16::from(*byte)).unwrap();
        bits = (bits << length) | u64::from(WORDS.first[length] + at as u32);
        count += length;
        while count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        out.push((bits << (8 - count)) as u8 | (0xff >> count));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(input: &[u8]) -> Result<Vec<u8>, CompressionError> {
        let mut out = Vec::new();
        decode(input, &mut out).map(|()| out)
    }

    #[test]
    fn every_symbol_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        let mut coded = Vec::new();
        encode(&all, &mut coded);
        assert_eq!(decoded(&coded), Ok(all));
        assert_eq!(WORDS.symbols[256], END);
        assert_eq!(WORDS.first[30] + u32::from(WORDS.count[30]) - 1, 0x3fff_ffff);
    }

    #[test]
    fn padding_is_short_and_of_ones() {
        assert_eq!(decoded(&[]), Ok(Vec::new()));
        // `test`: 49 50 9f.
        assert_eq!(decoded(b"\x49\x50\x9f"), Ok(b"test".to_vec()));
        for bad in [
            &b"\x49\x50\x9f\xff"[..],
            b"\x49\x50\x90",
            b"\x49\x51\xff\xff\xff\xfa\x7f",
            b"\xff",
            b"\xff\xff\xff\xff",
            b"\x49\x50\x9e",
        ] {
            assert_eq!(decoded(bad), Err(CompressionError), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn texts_come_back(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut coded = Vec::new();
            encode(&text, &mut coded);
            prop_assert_eq!(decoded(&coded), Ok(text));
        }

        #[test]
        fn nothing_makes_it_panic(input in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(decoded(&input));
        }
    }
}

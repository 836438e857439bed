//! Heads as we compress them: what repeats is told once and then by its index.

use super::table::Table;
use super::{TABLE_BYTES, fixed};

/// How many fields are remembered for whether they come again.
const PLACES: usize = 64;

/// The sending side of one connection.
#[derive(Debug)]
pub(crate) struct Encoder {
    table: Table,
    /// What was sent lately, by the lowest bits of its hash.
    places: Box<[Place; PLACES]>,
    /// The field that is being written: its name, and its value behind it.
    field: Vec<u8>,
    /// The least limit that was set since the last block, and whether one was.
    resized: Option<usize>,
}

/// A field that was sent.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    hash: u32,
    /// Its number in the table, from 1 on; 0 if it was not put there.
    number: u64,
}

impl Encoder {
    /// Starts with an empty table of the size that everyone has at first.
    pub(crate) fn new() -> Self {
        let places = Box::new([Place::default(); PLACES]);
        Self { table: Table::new(TABLE_BYTES), places, field: Vec::new(), resized: None }
    }

    /// Takes note of how large the other side's table may be; ours is never larger than at first.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        let limit = limit.min(TABLE_BYTES);
        if limit != self.table.limit() {
            self.table.set_limit(limit);
            self.resized = Some(self.resized.map_or(limit, |least| least.min(limit)));
        }
    }

    /// Begins a block.
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some(least) = self.resized.take() {
            if least < self.table.limit() {
                integer(least, (0x20, 5), out);
            }
            integer(self.table.limit(), (0x20, 5), out);
        }
    }

    /// Appends the status of an answer.
    pub(crate) fn status(&mut self, status: u16, out: &mut Vec<u8>) {
        match fixed::index_of_status(status) {
            0 => {
                integer(fixed::STATUS, (0, 4), out);
                out.push(3);
                crate::digits::write_decimal(status.into(), out);
            }
            index => integer(index, (0x80, 7), out),
        }
    }

    /// Appends a field; its name gets lower case.
    ///
    /// What comes for the first time is spelled out, what comes again is put into the table, and from then on an index
    /// stands for it. So the table holds what repeats, and what differs each time pushes nothing out of it.
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        self.field.clear();
        self.field.extend(name.iter().map(u8::to_ascii_lowercase));
        self.field.extend_from_slice(value);
        let lower = self.field.get(..name.len()).unwrap_or_default();
        if is_sensitive(lower) {
            return spell(lower, value, (0x10, 4), out);
        }
        let hash = hash(&self.field);
        let Some(place) = self.places.get_mut(hash as usize % PLACES) else { return };
        if place.hash != hash {
            *place = Place { hash, number: 0 };
            return spell(lower, value, (0, 4), out);
        }
        let age = usize::try_from(self.table.inserted().wrapping_sub(place.number)).unwrap_or(usize::MAX);
        let is_known = place.number > 0 && self.table.get(age).is_some_and(|found| found == (lower, value));
        if is_known {
            return integer(fixed::COUNT + 1 + age, (0x80, 7), out);
        }
        if self.field.len() > self.table.limit() / 4 {
            return spell(lower, value, (0, 4), out);
        }
        spell(lower, value, (0x40, 6), out);
        self.table.insert(&self.field, name.len());
        place.number = self.table.inserted();
    }
}

/// Says whether a field may be guessed byte by byte by whoever sees how long heads get.
/// <https://www.rfc-editor.org/rfc/rfc7541#section-7.1>
fn is_sensitive(name: &[u8]) -> bool {
    matches!(
        name,
        b"set-cookie" | b"cookie" | b"authorization" | b"proxy-authorization" | b"www-authenticate"
    )
}

fn spell(name: &[u8], value: &[u8], (mark, prefix): (u8, u32), out: &mut Vec<u8>) {
    let index = fixed::index_of_name(name);
    integer(index, (mark, prefix), out);
    if index == 0 {
        integer(name.len(), (0, 7), out);
        out.extend_from_slice(name);
    }
    integer(value.len(), (0, 7), out);
    out.extend_from_slice(value);
}

/// Appends a number, whose first bits stand in a byte with a mark.
fn integer(value: usize, (mark, prefix): (u8, u32), out: &mut Vec<u8>) {
    let most = (1_usize << prefix) - 1;
    let low = |value: usize| u8::try_from(value & 0x7f).unwrap_or_default();
    if value < most {
        return out.push(mark | low(value));
    }
    out.push(mark | low(most));
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push(low(rest) | 0x80);
        rest >>= 7;
    }
    out.push(low(rest));
}

/// Tells fields apart, eight bytes at a time; who finds two with the same gains nothing, as they are compared, too.
fn hash(text: &[u8]) -> u32 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let (blocks, rest) = text.as_chunks::<8>();
    let mut state = text.len() as u64;
    for block in blocks {
        state = (state ^ u64::from_le_bytes(*block)).wrapping_mul(FACTOR).rotate_left(29);
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    state = (state ^ u64::from_le_bytes(last)).wrapping_mul(FACTOR);
    // 0 is the place that holds nothing.
    u32::try_from(state >> 32).unwrap_or_default().max(1)
}

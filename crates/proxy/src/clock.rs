//! The time as text, made once a second.

use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

use crate::digits::write_padded;

/// One thread's clock.
#[derive(Debug)]
pub(crate) struct Clock {
    second: Cell<u64>,
    date: RefCell<Vec<u8>>,
    log: RefCell<Vec<u8>>,
}

impl Clock {
    /// Makes a clock that has no text yet.
    pub(crate) fn new() -> Self {
        Self { second: Cell::new(u64::MAX), date: RefCell::default(), log: RefCell::default() }
    }

    /// Returns the time since 1970.
    pub(crate) fn unix() -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// Uses the time as a `Date` header has it.
    pub(crate) fn with_date<T>(&self, use_date: impl FnOnce(&[u8]) -> T) -> T {
        self.refresh(Self::unix().as_secs());
        use_date(&self.date.borrow())
    }

    /// Appends the time as the log has it: RFC 3339 with nanoseconds, in UTC.
    pub(crate) fn write_log_time(&self, out: &mut Vec<u8>) {
        let now = Self::unix();
        self.refresh(now.as_secs());
        out.extend_from_slice(&self.log.borrow());
        out.push(b'.');
        write_padded(now.subsec_nanos().into(), 9, out);
        out.push(b'Z');
    }

    fn refresh(&self, second: u64) {
        if self.second.replace(second) != second {
            let time = Timestamp::from_second(second.try_into().unwrap_or_default()).unwrap_or_default();
            *self.date.borrow_mut() = time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string().into_bytes();
            *self.log.borrow_mut() = time.strftime("%Y-%m-%dT%H:%M:%S").to_string().into_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_texts_are_of_the_same_second() {
        let clock = Clock::new();
        clock.refresh(784_111_777);
        assert_eq!(*clock.date.borrow(), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(*clock.log.borrow(), b"1994-11-06T08:49:37");
    }
}

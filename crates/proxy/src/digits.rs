//! Numbers as text, straight into a buffer: what is written for every request is not worth a formatter.

/// Appends a number in decimal digits.
pub(crate) fn write_decimal(value: u64, out: &mut Vec<u8>) {
    write_padded(value, 1, out);
}

/// Appends a number in decimal digits, with zeros in front up to a width.
pub(crate) fn write_padded(mut value: u64, width: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    let mut count = 0;
    for digit in digits.iter_mut().rev() {
        if value == 0 && count >= width {
            break;
        }
        *digit = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
        count += 1;
    }
    out.extend_from_slice(digits.get(digits.len() - count..).unwrap_or_default());
}

/// Returns one of the sixteen digits, by the lowest four bits.
pub(crate) fn hexadecimal(value: u64) -> u8 {
    let low = u8::try_from(value & 0xf).unwrap_or_default();
    if low < 10 { b'0' + low } else { b'a' + (low - 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_formatters_write_them() {
        for value in [0, 7, 10, 99, 1024, 4_294_967_296, u64::MAX] {
            let mut out = Vec::new();
            write_decimal(value, &mut out);
            assert_eq!(out, value.to_string().as_bytes());
            out.clear();
            write_padded(value % 1_000_000_000, 9, &mut out);
            assert_eq!(out, format!("{:09}", value % 1_000_000_000).as_bytes());
            assert_eq!(format!("{:x}", value & 0xf), char::from(hexadecimal(value)).to_string());
        }
    }
}

//! Reading protocol buffers: fields in the order of the bytes, nothing copied.
//!
//! Source: the encoding's description at protobuf.dev. Groups, which no file
//! that is read here has, are refused.

/// What a field holds; who knows the schema knows what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// Whole numbers, flags and enumerations.
    Varint(u64),
    /// Doubles.
    Fixed64(u64),
    /// Texts, bytes and messages.
    Bytes(&'a [u8]),
    /// Floats.
    Fixed32(u32),
}

/// The bytes of a message, as an iterator over its fields by number. Ends after
/// the first error.
pub struct Message<'a>(pub &'a [u8]);

const BROKEN: &str = "is no message of protocol buffers";

impl<'a> Message<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7F).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, count: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(count).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u32, Field<'a>)> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok()?;
        let field = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((number, field))
    }
}

impl<'a> Iterator for Message<'a> {
    type Item = Result<(u32, Field<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or_else(|| BROKEN.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_or_refused() {
        let broken = || Err(BROKEN.to_owned());
        type Row<'a> = (&'a [u8], Vec<Result<(u32, Field<'a>), String>>);
        let rows: [Row; 9] = [
            (&[], vec![]),
            // From the encoding's description: 150 in field 1, "testing" in 2.
            (&[0x08, 0x96, 0x01], vec![Ok((1, Field::Varint(150)))]),
            (b"\x12\x07testing", vec![Ok((2, Field::Bytes(b"testing")))]),
            (b"\x15\0\0\x80\x3f", vec![Ok((2, Field::Fixed32(1.0_f32.to_bits())))]),
            (
                b"\x11\x01\0\0\0\0\0\0\0\x08\x01",
                vec![Ok((2, Field::Fixed64(1))), Ok((1, Field::Varint(1)))],
            ),
            (b"\x08\x01\x12\x07test", vec![Ok((1, Field::Varint(1))), broken()]),
            (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", vec![broken()]),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", vec![broken()]),
            (b"\x0b\x0c", vec![broken()]),
        ];
        for (bytes, expected) in rows {
            assert_eq!(Message(bytes).collect::<Vec<_>>(), expected, "{bytes:?}");
        }
    }
}

//! The protocol's integers and strings: reading that cannot run past the end, and writing.

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The packet ended too early.
    #[error("the packet ends before its {0}")]
    Truncated(&'static str),
    /// The packet is of another kind or form.
    #[error("the packet has {0}")]
    Malformed(&'static str),
}

/// A packet's bytes, read from the front.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn first(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub(crate) fn bytes(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated(what))?;
        self.rest = rest;
        Ok(head)
    }

    fn little_endian(&mut self, count: usize, what: &'static str) -> Result<u64, DecodeError> {
        let bytes = self.bytes(count, what)?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(self.bytes(1, what)?[0])
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        Ok(self.little_endian(2, what)? as u16)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        Ok(self.little_endian(4, what)? as u32)
    }

    /// A length-encoded integer; the NULL mark and the ERR mark are no integers.
    pub(crate) fn lenenc_int(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        match self.u8(what)? {
            0xfb | 0xff => Err(DecodeError::Malformed("a mark in the place of a length")),
            0xfc => self.little_endian(2, what),
            0xfd => self.little_endian(3, what),
            0xfe => self.little_endian(8, what),
            small => Ok(u64::from(small)),
        }
    }

    pub(crate) fn lenenc_bytes(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let count = usize::try_from(self.lenenc_int(what)?).map_err(|_| DecodeError::Truncated(what))?;
        self.bytes(count, what)
    }

    pub(crate) fn lenenc_text(&mut self, what: &'static str) -> Result<String, DecodeError> {
        Ok(text(self.lenenc_bytes(what)?))
    }

    /// Bytes up to a NUL, which is consumed too; without one, all that is left.
    pub(crate) fn nul_text(&mut self) -> String {
        let end = self.rest.iter().position(|byte| *byte == 0);
        let (head, rest) = match end {
            Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
            None => (self.rest, &[][..]),
        };
        self.rest = rest;
        text(head)
    }

    pub(crate) fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}

/// Bytes as text; what is not UTF-8 is replaced, since names and messages are only shown.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn put_lenenc_int(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=250 => out.push(value as u8),
        251..=0xffff => {
            out.push(0xfc);
            out.extend_from_slice(&value.to_le_bytes()[..2]);
        }
        0x1_0000..=0xff_ffff => {
            out.push(0xfd);
            out.extend_from_slice(&value.to_le_bytes()[..3]);
        }
        _ => {
            out.push(0xfe);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

pub(crate) fn put_lenenc_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_lenenc_int(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_nul_text(out: &mut Vec<u8>, value: &str) {
    out.extend_from_slice(value.as_bytes());
    out.push(0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lenenc_integers_come_back(value: u64) {
            let mut out = Vec::new();
            put_lenenc_int(&mut out, value);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.lenenc_int("value"), Ok(value));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn lenenc_bytes_come_back(value: Vec<u8>) {
            let mut out = Vec::new();
            put_lenenc_bytes(&mut out, &value);
            prop_assert_eq!(Reader::new(&out).lenenc_bytes("value"), Ok(&value[..]));
        }
    }

    #[test]
    fn a_length_past_the_end_is_an_error() {
        let error = Reader::new(&[0xfe, 255, 255, 255, 255, 255, 255, 255, 255]).lenenc_bytes("name");
        assert_eq!(error, Err(DecodeError::Truncated("name")));
    }
}

//! The short answers: OK, ERR and EOF.

use crate::codec::{DecodeError, Reader, put_lenenc_bytes, put_lenenc_int, text};
use crate::protocol::{HEADER_EOF, HEADER_ERR, HEADER_OK, capability};

/// A command was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OkPacket {
    /// Rows changed.
    pub affected_rows: u64,
    /// The last automatic key.
    pub last_insert_id: u64,
    /// [`crate::protocol::status`] flags.
    pub status: u16,
    /// Number of warnings.
    pub warnings: u16,
    /// Text for people.
    pub info: String,
}

impl OkPacket {
    /// An OK with nothing but status flags.
    pub fn with_status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    /// The payload, starting with 0x00.
    pub fn encode(&self, capabilities: u32) -> Vec<u8> {
        self.encode_as(HEADER_OK, capabilities)
    }

    /// The payload with the header byte that ends a result set when EOF packets are deprecated.
    pub fn encode_as_end_of_rows(&self, capabilities: u32) -> Vec<u8> {
        self.encode_as(HEADER_EOF, capabilities)
    }

    fn encode_as(&self, header: u8, capabilities: u32) -> Vec<u8> {
        let mut out = vec![header];
        put_lenenc_int(&mut out, self.affected_rows);
        put_lenenc_int(&mut out, self.last_insert_id);
        out.extend_from_slice(&self.status.to_le_bytes());
        out.extend_from_slice(&self.warnings.to_le_bytes());
        if capabilities & capability::SESSION_TRACK == 0 {
            out.extend_from_slice(self.info.as_bytes());
        } else if !self.info.is_empty() {
            put_lenenc_bytes(&mut out, self.info.as_bytes());
        }
        out
    }

    /// Reads an OK packet of either header byte; session changes are skipped.
    pub fn decode(payload: &[u8], capabilities: u32) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        if !matches!(reader.u8("header")?, HEADER_OK | HEADER_EOF) {
            return Err(DecodeError::Malformed("no OK header"));
        }
        let affected_rows = reader.lenenc_int("affected rows")?;
        let last_insert_id = reader.lenenc_int("last insert id")?;
        let status = reader.u16("status")?;
        let warnings = reader.u16("warnings")?;
        let info = if capabilities & capability::SESSION_TRACK == 0 {
            text(reader.take_rest())
        } else if reader.is_empty() {
            String::new()
        } else {
            reader.lenenc_text("info")?
        };
        Ok(Self {
            affected_rows,
            last_insert_id,
            status,
            warnings,
            info,
        })
    }
}

/// The state of an error that has none of its own.
const GENERAL_ERROR: &str = "HY000";

/// The bytes as a state: five letters and digits, or else that of a general error.
fn state(bytes: &[u8]) -> &str {
    let fits = bytes.len() == 5 && bytes.iter().all(u8::is_ascii_alphanumeric);
    str::from_utf8(bytes).ok().filter(|_| fits).unwrap_or(GENERAL_ERROR)
}

/// A command was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrPacket {
    /// Error number.
    pub code: u16,
    /// Five letters and digits.
    pub sqlstate: String,
    /// Text for people.
    pub message: String,
}

impl ErrPacket {
    /// An error with its number, five character state and text.
    pub fn new(code: u16, sqlstate: &str, message: impl Into<String>) -> Self {
        Self {
            code,
            sqlstate: sqlstate.to_owned(),
            message: message.into(),
        }
    }

    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![HEADER_ERR];
        out.extend_from_slice(&self.code.to_le_bytes());
        // Never without one: a message may begin with the mark of a state.
        out.push(b'#');
        out.extend_from_slice(state(self.sqlstate.as_bytes()).as_bytes());
        out.extend_from_slice(self.message.as_bytes());
        out
    }

    /// Reads an ERR packet; before the login it may lack the state, which is then `HY000`, as it is for one that is none.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        if reader.u8("header")? != HEADER_ERR {
            return Err(DecodeError::Malformed("no ERR header"));
        }
        let code = reader.u16("error number")?;
        let sqlstate = if reader.first() == Some(b'#') {
            state(&reader.bytes(6, "state")?[1..])
        } else {
            GENERAL_ERROR
        };
        Ok(Self {
            code,
            sqlstate: sqlstate.to_owned(),
            message: text(reader.take_rest()),
        })
    }

    /// Whether `payload` is an ERR packet.
    pub fn is_err(payload: &[u8]) -> bool {
        payload.first() == Some(&HEADER_ERR)
    }
}

/// The end of a list of columns or rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EofPacket {
    /// Number of warnings.
    pub warnings: u16,
    /// [`crate::protocol::status`] flags.
    pub status: u16,
}

impl EofPacket {
    /// The payload.
    pub fn encode(self) -> Vec<u8> {
        let mut out = vec![HEADER_EOF];
        out.extend_from_slice(&self.warnings.to_le_bytes());
        out.extend_from_slice(&self.status.to_le_bytes());
        out
    }

    /// Reads an EOF packet.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        if reader.u8("header")? != HEADER_EOF {
            return Err(DecodeError::Malformed("no EOF header"));
        }
        Ok(Self {
            warnings: reader.u16("warnings")?,
            status: reader.u16("status")?,
        })
    }

    /// Whether `payload` is an EOF packet; a row may begin with the same byte but is then longer.
    pub fn is_eof(payload: &[u8]) -> bool {
        payload.first() == Some(&HEADER_EOF) && payload.len() < 9
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_state_that_is_none_is_the_general_one() {
        for state in [b"\xff\xfe\xfd\xfc\xfb".as_slice(), b"12 45", b"1234\n"] {
            let payload = [b"\xff\x15\x04#", state, b"denied"].concat();
            let err = ErrPacket::decode(&payload).unwrap();
            assert_eq!(err, ErrPacket::new(1045, "HY000", "denied"));
            assert_eq!(ErrPacket::decode(&err.encode()), Ok(err));
        }
    }

    #[test]
    fn a_message_is_never_taken_for_a_state() {
        let err = ErrPacket::new(1045, "", "#12345 is missing");
        let read = ErrPacket::decode(&err.encode()).unwrap();
        assert_eq!(read, ErrPacket::new(1045, "HY000", "#12345 is missing"));
    }

    proptest! {
        #[test]
        fn ok_packets_come_back(affected_rows: u64, last_insert_id: u64, status: u16, warnings: u16, info in "[ -~]{0,300}", capabilities: u32) {
            let ok = OkPacket { affected_rows, last_insert_id, status, warnings, info };
            prop_assert_eq!(OkPacket::decode(&ok.encode(capabilities), capabilities), Ok(ok.clone()));
            prop_assert_eq!(OkPacket::decode(&ok.encode_as_end_of_rows(capabilities), capabilities), Ok(ok));
        }

        #[test]
        fn err_packets_come_back(code: u16, sqlstate in "[0-9A-Z]{5}", message in "[ -~]{0,100}") {
            let err = ErrPacket { code, sqlstate, message };
            prop_assert!(ErrPacket::is_err(&err.encode()));
            prop_assert_eq!(ErrPacket::decode(&err.encode()), Ok(err));
        }

        #[test]
        fn eof_packets_come_back(warnings: u16, status: u16) {
            let eof = EofPacket { warnings, status };
            prop_assert!(EofPacket::is_eof(&eof.encode()));
            prop_assert_eq!(EofPacket::decode(&eof.encode()), Ok(eof));
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, header in proptest::sample::select(vec![HEADER_OK, HEADER_EOF, HEADER_ERR]), capabilities: u32) {
            let bytes = [&[header], &bytes[..]].concat();
            let _ = OkPacket::decode(&bytes, capabilities);
            let _ = ErrPacket::decode(&bytes);
            let _ = EofPacket::decode(&bytes);
        }
    }
}

//! Result sets of the text protocol: a column count, the columns, the rows, and an end.

use crate::codec::{DecodeError, Reader, put_lenenc_bytes, put_lenenc_int};
use crate::protocol::{CHARSET_BINARY, CHARSET_UTF8MB4_BIN, capability, column_type};
use crate::reply::{EofPacket, OkPacket};

/// A row: one value per column as text, `None` for NULL.
pub type Row = Vec<Option<Vec<u8>>>;

/// A column's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name or alias.
    pub name: String,
    /// One of [`column_type`].
    pub kind: u8,
    /// Charset number; [`CHARSET_BINARY`] makes a string column binary.
    pub charset: u16,
}

impl Column {
    /// A `VARCHAR` column.
    pub fn text(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: column_type::VAR_STRING,
            charset: CHARSET_UTF8MB4_BIN,
        }
    }

    /// A `VARBINARY` column, which drivers hand out as bytes.
    pub fn binary(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: column_type::VAR_STRING,
            charset: CHARSET_BINARY,
        }
    }

    /// A `BIGINT` column.
    pub fn integer(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: column_type::LONGLONG,
            charset: CHARSET_BINARY,
        }
    }

    /// The definition's payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_lenenc_bytes(&mut out, b"def");
        for _schema_table_and_original_table in 0..3 {
            put_lenenc_bytes(&mut out, b"");
        }
        put_lenenc_bytes(&mut out, self.name.as_bytes());
        put_lenenc_bytes(&mut out, b"");
        out.push(0x0c);
        out.extend_from_slice(&self.charset.to_le_bytes());
        out.extend_from_slice(&u32::from(u16::MAX).to_le_bytes());
        out.push(self.kind);
        out.extend_from_slice(&[0; 5]);
        out
    }

    /// Reads a definition; schema, tables, length and flags are skipped.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        for what in ["catalog", "schema", "table", "original table"] {
            reader.lenenc_bytes(what)?;
        }
        let name = reader.lenenc_text("column name")?;
        reader.lenenc_bytes("original column name")?;
        reader.lenenc_int("length of the fixed part")?;
        let charset = reader.u16("charset")?;
        reader.u32("column length")?;
        let kind = reader.u8("column type")?;
        Ok(Self { name, kind, charset })
    }
}

/// A row's payload.
pub fn encode_row(row: &[Option<Vec<u8>>]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in row {
        match value {
            Some(bytes) => put_lenenc_bytes(&mut out, bytes),
            None => out.push(0xfb),
        }
    }
    out
}

/// Reads a row of `columns` values.
pub fn decode_row(payload: &[u8], columns: usize) -> Result<Row, DecodeError> {
    let mut reader = Reader::new(payload);
    let mut row = Row::new();
    for _ in 0..columns {
        if reader.first() == Some(0xfb) {
            reader.u8("NULL mark")?;
            row.push(None);
        } else {
            row.push(Some(reader.lenenc_bytes("value")?.to_vec()));
        }
    }
    Ok(row)
}

/// The column count that opens a result set.
pub fn decode_column_count(payload: &[u8]) -> Result<usize, DecodeError> {
    let count = Reader::new(payload).lenenc_int("column count")?;
    usize::try_from(count).map_err(|_| DecodeError::Malformed("too many columns"))
}

/// All payloads of a result set in order, ended as `capabilities` wants it.
pub fn encode_result_set(columns: &[Column], rows: &[Row], status: u16, capabilities: u32) -> Vec<Vec<u8>> {
    let deprecate_eof = capabilities & capability::DEPRECATE_EOF != 0;
    let eof = EofPacket { warnings: 0, status };
    let mut count = Vec::new();
    put_lenenc_int(&mut count, columns.len() as u64);
    let mut packets = vec![count];
    packets.extend(columns.iter().map(Column::encode));
    if !deprecate_eof {
        packets.push(eof.encode());
    }
    packets.extend(rows.iter().map(|row| encode_row(row)));
    packets.push(if deprecate_eof {
        OkPacket::with_status(status).encode_as_end_of_rows(capabilities)
    } else {
        eof.encode()
    });
    packets
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn columns_come_back(name in "[ -~]{0,300}", kind: u8, charset: u16) {
            let column = Column { name, kind, charset };
            prop_assert_eq!(Column::decode(&column.encode()), Ok(column));
        }

        #[test]
        fn rows_come_back(row: Row) {
            prop_assert_eq!(decode_row(&encode_row(&row), row.len()), Ok(row));
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, columns in 0_usize..20) {
            let _ = Column::decode(&bytes);
            let _ = decode_row(&bytes, columns);
            let _ = decode_column_count(&bytes);
        }
    }
}

//! The protocol's numbers: capability flags, status flags, command bytes, column types.

/// Capability flags, exchanged in the greeting and the login.
pub mod capability {
    /// Always set by MySQL clients; MariaDB reads its absence as "speaks my extensions".
    pub const LONG_PASSWORD: u32 = 1;
    /// Affected rows count found rows.
    pub const FOUND_ROWS: u32 = 1 << 1;
    /// Column flags have two bytes.
    pub const LONG_FLAG: u32 = 1 << 2;
    /// The login names a database.
    pub const CONNECT_WITH_DB: u32 = 1 << 3;
    /// Compressed packets.
    pub const COMPRESS: u32 = 1 << 5;
    /// `LOAD DATA LOCAL` allowed.
    pub const LOCAL_FILES: u32 = 1 << 7;
    /// Blanks before `(` allowed.
    pub const IGNORE_SPACE: u32 = 1 << 8;
    /// The protocol this crate speaks.
    pub const PROTOCOL_41: u32 = 1 << 9;
    /// `interactive_timeout` instead of `wait_timeout`.
    pub const INTERACTIVE: u32 = 1 << 10;
    /// TLS.
    pub const SSL: u32 = 1 << 11;
    /// Status flags are sent.
    pub const TRANSACTIONS: u32 = 1 << 13;
    /// Twenty byte scramble.
    pub const SECURE_CONNECTION: u32 = 1 << 15;
    /// Several statements in one query.
    pub const MULTI_STATEMENTS: u32 = 1 << 16;
    /// Several results for one query.
    pub const MULTI_RESULTS: u32 = 1 << 17;
    /// Several results for one prepared statement.
    pub const PS_MULTI_RESULTS: u32 = 1 << 18;
    /// Authentication plugins are named.
    pub const PLUGIN_AUTH: u32 = 1 << 19;
    /// The login carries attributes.
    pub const CONNECT_ATTRS: u32 = 1 << 20;
    /// The authentication answer has a length-encoded length.
    pub const PLUGIN_AUTH_LENENC: u32 = 1 << 21;
    /// OK packets tell session changes.
    pub const SESSION_TRACK: u32 = 1 << 23;
    /// Result sets end with an OK packet and have no EOF packets.
    pub const DEPRECATE_EOF: u32 = 1 << 24;
}

/// Status flags of OK and EOF packets.
pub mod status {
    /// A transaction is open.
    pub const IN_TRANS: u16 = 1;
    /// Every statement commits by itself.
    pub const AUTOCOMMIT: u16 = 2;
    /// Another result follows this one.
    pub const MORE_RESULTS_EXISTS: u16 = 8;
    /// A cursor is open: the rows are fetched later.
    pub const CURSOR_EXISTS: u16 = 0x40;
}

/// Command bytes.
pub mod command {
    /// End of the session.
    pub const QUIT: u8 = 0x01;
    /// Change the default database.
    pub const INIT_DB: u8 = 0x02;
    /// A statement as text.
    pub const QUERY: u8 = 0x03;
    /// Columns of a table.
    pub const FIELD_LIST: u8 = 0x04;
    /// One line of statistics.
    pub const STATISTICS: u8 = 0x09;
    /// Is the server there?
    pub const PING: u8 = 0x0e;
    /// Log in again on the same connection.
    pub const CHANGE_USER: u8 = 0x11;
    /// Prepare a statement.
    pub const STMT_PREPARE: u8 = 0x16;
    /// Execute a prepared statement.
    pub const STMT_EXECUTE: u8 = 0x17;
    /// Send a part of a parameter; has no answer.
    pub const STMT_SEND_LONG_DATA: u8 = 0x18;
    /// Forget a prepared statement; has no answer.
    pub const STMT_CLOSE: u8 = 0x19;
    /// Forget a prepared statement's data.
    pub const STMT_RESET: u8 = 0x1a;
    /// Multi statements on or off.
    pub const SET_OPTION: u8 = 0x1b;
    /// Fetch rows of a cursor.
    pub const STMT_FETCH: u8 = 0x1c;
    /// Back to the state after login.
    pub const RESET_CONNECTION: u8 = 0x1f;
}

/// Column types of a result set.
pub mod column_type {
    /// 32 bit integer.
    pub const LONG: u8 = 0x03;
    /// 64 bit integer.
    pub const LONGLONG: u8 = 0x08;
    /// Variable-length bytes: `VARBINARY` with charset 63, `VARCHAR` with any other.
    pub const VARCHAR: u8 = 0x0f;
    /// Variable-length bytes, as servers mostly send them.
    pub const VAR_STRING: u8 = 0xfd;
}

/// Charset number of binary data.
pub const CHARSET_BINARY: u16 = 63;
/// Charset number of `utf8mb4_bin`.
pub const CHARSET_UTF8MB4_BIN: u16 = 46;
/// First byte of an OK packet.
pub const HEADER_OK: u8 = 0x00;
/// First byte of a request for a local file.
pub const HEADER_LOCAL_INFILE: u8 = 0xfb;
/// First byte of an EOF packet, and of the OK packet that takes its place.
pub const HEADER_EOF: u8 = 0xfe;
/// First byte of an ERR packet.
pub const HEADER_ERR: u8 = 0xff;
/// The only authentication plugin this crate computes answers for.
pub const NATIVE_PASSWORD: &str = "mysql_native_password";

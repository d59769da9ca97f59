//! Following a relayed session from its packets, as far as it takes to know when an answer is complete and whether a transaction
//! is open.

use std::collections::VecDeque;

use obfleet_mysqlwire::protocol::{HEADER_EOF, HEADER_LOCAL_INFILE, HEADER_OK, capability, command, status};
use obfleet_mysqlwire::resultset::decode_column_count;
use obfleet_mysqlwire::{EofPacket, ErrPacket, OkPacket};

/// What the server's next packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// The first packet of an answer: to the oldest command that has none, or a further result of the current one.
    Answer,
    /// Definitions, this many of them, then an EOF packet unless those are deprecated.
    Definitions { left: usize, then: Then },
    /// The EOF packet behind definitions.
    DefinitionsEnd { then: Then },
    /// Rows until their end.
    Rows,
}

/// What follows a list of definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Rows,
    /// The columns a prepared statement gives, this many.
    StatementColumns(usize),
    Done,
}

/// A session's state, fed with the first frame of every packet in both directions.
#[derive(Debug, Clone)]
pub struct Tracker {
    capabilities: u32,
    /// Commands without a complete answer, the oldest first.
    pending: VecDeque<u8>,
    expect: Expect,
    in_transaction: bool,
    transactions: u64,
}

impl Tracker {
    /// A session just logged in, with the flags both sides agreed on and the status of the login's OK packet.
    pub fn new(capabilities: u32, login_status: u16) -> Self {
        Self {
            capabilities,
            pending: VecDeque::new(),
            expect: Expect::Answer,
            in_transaction: login_status & status::IN_TRANS != 0,
            transactions: 0,
        }
    }

    /// Whether an answer is outstanding.
    pub fn is_busy(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether the server said that a transaction is open.
    pub fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// Transactions ended so far.
    pub fn transactions(&self) -> u64 {
        self.transactions
    }

    /// The client sent a packet with this sequence id.
    pub fn client_packet(&mut self, sequence: u8, payload: &[u8]) {
        // Later packets of an exchange (authentication answers) belong to the command before.
        if sequence != 0 {
            return;
        }
        match payload.first() {
            Some(&(command::QUIT | command::STMT_CLOSE | command::STMT_SEND_LONG_DATA)) | None => {}
            Some(code) => self.pending.push_back(*code),
        }
    }

    /// The server sent a packet.
    pub fn server_packet(&mut self, payload: &[u8]) {
        let Some(&code) = self.pending.front() else { return };
        if ErrPacket::is_err(payload) {
            // No status is told, and a statement that failed alone leaves its transaction open.
            return self.complete(None);
        }
        match self.expect {
            Expect::Answer => self.first_of_answer(code, payload),
            Expect::Definitions { left, then } => self.definitions(left.saturating_sub(1), then),
            Expect::DefinitionsEnd { then } => {
                self.behind_definitions(then, EofPacket::decode(payload).ok().map(|eof| eof.status));
            }
            Expect::Rows => {
                if self.is_end_of_rows(payload) {
                    self.result_ended(self.end_status(payload));
                }
            }
        }
    }

    fn first_of_answer(&mut self, code: u8, payload: &[u8]) {
        let first = payload.first().copied();
        match code {
            command::QUERY | command::STMT_EXECUTE => match first {
                Some(HEADER_OK) => self.result_ended(self.ok_status(payload)),
                Some(HEADER_LOCAL_INFILE) | None => self.complete(None),
                Some(_) => match decode_column_count(payload) {
                    Ok(columns) => self.definitions(columns, Then::Rows),
                    Err(_) => self.complete(None),
                },
            },
            command::STMT_PREPARE => match payload {
                [
                    HEADER_OK,
                    _,
                    _,
                    _,
                    _,
                    columns_low,
                    columns_high,
                    parameters_low,
                    parameters_high,
                    ..,
                ] => {
                    let columns = usize::from(u16::from_le_bytes([*columns_low, *columns_high]));
                    let parameters = usize::from(u16::from_le_bytes([*parameters_low, *parameters_high]));
                    self.prepared(parameters, columns);
                }
                _ => self.complete(None),
            },
            command::STMT_FETCH | command::FIELD_LIST => {
                self.expect = Expect::Rows;
                self.server_packet(payload);
            }
            // Authentication goes on until OK.
            command::CHANGE_USER if first != Some(HEADER_OK) => {}
            command::STATISTICS => self.complete(None),
            _ if first == Some(HEADER_EOF) => self.complete(EofPacket::decode(payload).ok().map(|eof| eof.status)),
            _ => self.complete(self.ok_status(payload)),
        }
    }

    fn prepared(&mut self, parameters: usize, columns: usize) {
        match (parameters, columns) {
            (0, 0) => self.complete(None),
            (0, columns) => self.definitions(columns, Then::Done),
            (parameters, columns) => self.definitions(parameters, Then::StatementColumns(columns)),
        }
    }

    fn definitions(&mut self, left: usize, then: Then) {
        if left > 0 {
            self.expect = Expect::Definitions { left, then };
        } else if self.deprecates_eof() {
            self.behind_definitions(then, None);
        } else {
            self.expect = Expect::DefinitionsEnd { then };
        }
    }

    fn behind_definitions(&mut self, then: Then, eof_status: Option<u16>) {
        match then {
            // The rows of a cursor are fetched by commands of their own.
            Then::Rows if eof_status.is_some_and(|flags| flags & status::CURSOR_EXISTS != 0) => {
                self.complete(eof_status);
            }
            Then::Rows => self.expect = Expect::Rows,
            Then::StatementColumns(0) | Then::Done => self.complete(None),
            Then::StatementColumns(columns) => self.definitions(columns, Then::Done),
        }
    }

    fn deprecates_eof(&self) -> bool {
        self.capabilities & capability::DEPRECATE_EOF != 0
    }

    fn is_end_of_rows(&self, payload: &[u8]) -> bool {
        if self.deprecates_eof() {
            payload.first() == Some(&HEADER_EOF) && payload.len() < obfleet_mysqlwire::frame::MAX_FRAME_PAYLOAD
        } else {
            EofPacket::is_eof(payload)
        }
    }

    fn end_status(&self, payload: &[u8]) -> Option<u16> {
        if self.deprecates_eof() {
            self.ok_status(payload)
        } else {
            EofPacket::decode(payload).ok().map(|eof| eof.status)
        }
    }

    fn ok_status(&self, payload: &[u8]) -> Option<u16> {
        OkPacket::decode(payload, self.capabilities).ok().map(|ok| ok.status)
    }

    fn result_ended(&mut self, flags: Option<u16>) {
        if flags.is_some_and(|flags| flags & status::MORE_RESULTS_EXISTS != 0) {
            self.expect = Expect::Answer;
        } else {
            self.complete(flags);
        }
    }

    fn complete(&mut self, flags: Option<u16>) {
        let code = self.pending.pop_front();
        self.expect = Expect::Answer;
        let was_open = self.in_transaction;
        if let Some(flags) = flags {
            self.in_transaction = flags & status::IN_TRANS != 0;
        }
        let is_statement = matches!(code, Some(command::QUERY | command::STMT_EXECUTE));
        if !self.in_transaction && (was_open || is_statement) {
            self.transactions += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use obfleet_mysqlwire::Column;
    use obfleet_mysqlwire::resultset::encode_result_set;

    use super::*;

    fn query(tracker: &mut Tracker, answer: &[Vec<u8>]) {
        tracker.client_packet(0, &[command::QUERY, b'x']);
        assert!(tracker.is_busy());
        for (index, packet) in answer.iter().enumerate() {
            assert!(tracker.is_busy(), "complete before packet {index} of {}", answer.len());
            tracker.server_packet(packet);
        }
        assert!(!tracker.is_busy());
    }

    fn ok(flags: u16) -> Vec<Vec<u8>> {
        vec![OkPacket::with_status(flags).encode(0)]
    }

    fn rows(flags: u16, capabilities: u32) -> Vec<Vec<u8>> {
        // A value of 251 bytes and an empty one, so that rows begin with odd bytes.
        let rows = [
            vec![Some(vec![1; 251]), None],
            vec![None, Some(vec![])],
            vec![Some(vec![]), None],
        ];
        encode_result_set(&[Column::text("a"), Column::text("b")], &rows, flags, capabilities)
    }

    #[test]
    fn result_sets_with_both_ends_and_several_of_them() {
        for capabilities in [
            0,
            capability::DEPRECATE_EOF,
            capability::DEPRECATE_EOF | capability::SESSION_TRACK,
        ] {
            let mut tracker = Tracker::new(capabilities, status::AUTOCOMMIT);
            query(&mut tracker, &rows(status::IN_TRANS, capabilities));
            assert!(tracker.in_transaction());
            let mut several = rows(status::MORE_RESULTS_EXISTS, capabilities);
            several.extend(rows(0, capabilities));
            query(&mut tracker, &several);
            assert!(!tracker.in_transaction());
            assert_eq!(tracker.transactions(), 1);
        }
    }

    #[test]
    fn transactions_are_counted_at_their_end() {
        let mut tracker = Tracker::new(0, 0);
        query(&mut tracker, &ok(status::AUTOCOMMIT));
        assert_eq!(tracker.transactions(), 1);
        query(&mut tracker, &ok(status::IN_TRANS));
        query(&mut tracker, &[ErrPacket::new(1062, "23000", "duplicate").encode()]);
        assert!(tracker.in_transaction());
        assert_eq!(tracker.transactions(), 1);
        query(&mut tracker, &ok(0));
        assert_eq!(tracker.transactions(), 2);
    }

    #[test]
    fn prepared_statements() {
        for capabilities in [0, capability::DEPRECATE_EOF] {
            let eof = || {
                if capabilities == 0 {
                    vec![EofPacket::default().encode()]
                } else {
                    Vec::new()
                }
            };
            let definition = || vec![Column::text("?").encode()];
            for (parameters, columns) in [(0, 0), (1, 0), (0, 2), (2, 1)] {
                let mut tracker = Tracker::new(capabilities, 0);
                tracker.client_packet(0, &[command::STMT_PREPARE]);
                let mut packets = vec![vec![HEADER_OK, 1, 0, 0, 0, columns, 0, parameters, 0, 0, 0, 0]];
                for count in [parameters, columns].into_iter().filter(|count| *count > 0) {
                    (0..count).for_each(|_| packets.extend(definition()));
                    packets.extend(eof());
                }
                for packet in packets {
                    assert!(tracker.is_busy());
                    tracker.server_packet(&packet);
                }
                assert!(!tracker.is_busy(), "{parameters} parameters, {columns} columns");
            }
        }
    }

    #[test]
    fn commands_without_answer_and_pipelined_ones() {
        let mut tracker = Tracker::new(0, 0);
        tracker.client_packet(0, &[command::STMT_CLOSE, 1, 0, 0, 0]);
        assert!(!tracker.is_busy());
        tracker.client_packet(0, &[command::PING]);
        tracker.client_packet(0, &[command::QUERY]);
        tracker.server_packet(&ok(0)[0]);
        assert!(tracker.is_busy());
        tracker.server_packet(&ok(status::IN_TRANS)[0]);
        assert!(!tracker.is_busy() && tracker.in_transaction());
    }

    #[test]
    fn changing_the_user_ends_with_ok() {
        let mut tracker = Tracker::new(0, 0);
        tracker.client_packet(0, &[command::CHANGE_USER]);
        tracker.server_packet(b"\xfemysql_native_password\0aaaaaaaabbbbbbbbbbbb\0");
        tracker.client_packet(2, &[]);
        assert!(tracker.is_busy());
        tracker.server_packet(&ok(0)[0]);
        assert!(!tracker.is_busy());
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics(packets: Vec<(bool, Vec<u8>)>, capabilities: u32) {
            let mut tracker = Tracker::new(capabilities, 0);
            for (from_client, payload) in packets {
                if from_client { tracker.client_packet(0, &payload) } else { tracker.server_packet(&payload) }
            }
        }
    }
}

//! Packets of MySQL's protocol: what is read from any bytes, written again, is read the same; and so is what is put together.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use obfleet_mysqlwire::{
    Column, EofPacket, ErrPacket, Greeting, Login, OkPacket, PacketStream,
    frame::put_packet,
    resultset::{decode_column_count, decode_row, encode_row},
};
use tokio::runtime::Runtime;

thread_local! {
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
}

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    kind: u8,
    capabilities: u32,
    columns: u8,
    payload: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let Input {
        kind,
        capabilities,
        columns,
        payload,
    } = input;
    match kind % 8 {
        0 => {
            if let Ok(ok) = OkPacket::decode(payload, capabilities) {
                assert_eq!(
                    OkPacket::decode(&ok.encode(capabilities), capabilities).as_ref(),
                    Ok(&ok)
                );
                let end = ok.encode_as_end_of_rows(capabilities);
                assert_eq!(OkPacket::decode(&end, capabilities).as_ref(), Ok(&ok));
            }
        }
        1 => {
            if let Ok(err) = ErrPacket::decode(payload) {
                assert!(ErrPacket::is_err(payload) && ErrPacket::is_err(&err.encode()));
                assert_eq!(ErrPacket::decode(&err.encode()).as_ref(), Ok(&err));
            }
        }
        2 => {
            if let Ok(eof) = EofPacket::decode(payload) {
                assert!(EofPacket::is_eof(&eof.encode()));
                assert_eq!(EofPacket::decode(&eof.encode()), Ok(eof));
            }
        }
        3 => {
            if let Ok(greeting) = Greeting::decode(payload) {
                assert_eq!(Greeting::decode(&greeting.encode()).as_ref(), Ok(&greeting));
            }
        }
        4 => {
            if let Ok(login) = Login::decode(payload) {
                assert_eq!(Login::decode(&login.encode()).as_ref(), Ok(&login));
            }
        }
        5 => {
            if let Ok(column) = Column::decode(payload) {
                assert_eq!(Column::decode(&column.encode()).as_ref(), Ok(&column));
            }
        }
        6 => {
            let _ = decode_column_count(payload);
            if let Ok(row) = decode_row(payload, usize::from(columns)) {
                assert_eq!(row.len(), usize::from(columns));
                assert_eq!(decode_row(&encode_row(&row), row.len()).as_ref(), Ok(&row));
            }
        }
        _ => RUNTIME.with(|runtime| runtime.block_on(frames(payload))),
    }
});

/// The packets of a stream, framed again, are the same.
async fn frames(bytes: &[u8]) {
    let mut stream = PacketStream::new(bytes);
    let mut packets = Vec::new();
    while let Ok(Some(packet)) = stream.read().await {
        packets.push(packet);
    }
    assert!(packets.iter().map(Vec::len).sum::<usize>() <= bytes.len());
    let mut again = bytes::BytesMut::new();
    packets
        .iter()
        .fold(0, |sequence, packet| put_packet(&mut again, packet, sequence));
    let mut stream = PacketStream::new(&again[..]);
    for packet in packets {
        assert_eq!(stream.read().await.expect("what was framed is read"), Some(packet));
    }
    assert_eq!(stream.read().await.expect("the stream ends between packets"), None);
}

//! Framing: a packet is one or more frames of a three byte length, a sequence id and up to 16 MB - 1 of payload.

use std::io;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Most payload one frame can carry; a frame of exactly this length is continued by the next one.
pub const MAX_FRAME_PAYLOAD: usize = 0xff_ffff;
/// Length of a frame's header.
pub const HEADER_LEN: usize = 4;
/// Longest packet [`PacketStream::read`] puts together, so that a peer cannot make it take memory without end.
const MAX_PACKET: usize = 64 << 20;

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of payload that follow.
    pub payload_len: usize,
    /// Position in the exchange; the first packet of a command has 0.
    pub sequence: u8,
}

impl FrameHeader {
    /// The header at the front of `bytes`, if it is there as a whole.
    pub fn peek(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [a, b, c, sequence, ..] => Some(Self {
                payload_len: usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16,
                sequence: *sequence,
            }),
            _ => None,
        }
    }

    /// Header and payload together.
    pub fn frame_len(self) -> usize {
        HEADER_LEN + self.payload_len
    }

    /// Whether the packet goes on in the next frame.
    pub fn is_continued(self) -> bool {
        self.payload_len == MAX_FRAME_PAYLOAD
    }
}

/// Appends `payload` to `out` in frames that start at `sequence`; returns the sequence id after the last one.
pub fn put_packet(out: &mut BytesMut, payload: &[u8], mut sequence: u8) -> u8 {
    let mut rest = payload;
    loop {
        let (head, tail) = rest.split_at(rest.len().min(MAX_FRAME_PAYLOAD));
        out.extend_from_slice(&(head.len() as u32).to_le_bytes()[..3]);
        out.extend_from_slice(&[sequence]);
        out.extend_from_slice(head);
        sequence = sequence.wrapping_add(1);
        rest = tail;
        if head.len() < MAX_FRAME_PAYLOAD {
            return sequence;
        }
    }
}

/// Whole packets over a byte stream, with the sequence ids kept.
#[derive(Debug)]
pub struct PacketStream<S> {
    io: S,
    incoming: BytesMut,
    outgoing: BytesMut,
    sequence: u8,
}

impl<S> PacketStream<S> {
    /// Packets over `io`, the sequence starting at 0.
    pub fn new(io: S) -> Self {
        Self {
            io,
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            sequence: 0,
        }
    }

    /// The next packet sent gets sequence id 0: a new command begins.
    pub fn start_command(&mut self) {
        self.sequence = 0;
    }

    /// The sequence id the next packet sent gets.
    pub fn sequence(&self) -> u8 {
        self.sequence
    }

    /// Queues `payload`; [`PacketStream::flush`] sends it.
    pub fn put(&mut self, payload: &[u8]) {
        self.sequence = put_packet(&mut self.outgoing, payload, self.sequence);
    }

    /// The stream underneath, and the bytes read from it that belong to no packet taken yet.
    pub fn into_parts(self) -> (S, BytesMut) {
        (self.io, self.incoming)
    }

    /// The stream underneath.
    pub fn get_ref(&self) -> &S {
        &self.io
    }
}

impl<S: AsyncRead + Unpin> PacketStream<S> {
    /// The next packet, its frames joined; `None` when the peer closed the stream between two packets.
    ///
    /// Cancel safe: bytes of an unfinished packet are kept for the next call.
    pub async fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(payload) = self.take_packet()? {
                return Ok(Some(payload));
            }
            if self.io.read_buf(&mut self.incoming).await? == 0 {
                return if self.incoming.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    fn take_packet(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut end = 0;
        loop {
            let Some(header) = FrameHeader::peek(&self.incoming[end..]) else {
                return Ok(None);
            };
            end += header.frame_len();
            if end > MAX_PACKET {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a packet of more than 64 MB",
                ));
            }
            if self.incoming.len() < end {
                return Ok(None);
            }
            if !header.is_continued() {
                break;
            }
        }
        let mut frames = self.incoming.split_to(end);
        let mut payload = Vec::with_capacity(end);
        while let Some(header) = FrameHeader::peek(&frames) {
            self.sequence = header.sequence.wrapping_add(1);
            frames.advance(HEADER_LEN);
            payload.extend_from_slice(&frames.split_to(header.payload_len));
        }
        Ok(Some(payload))
    }
}

impl<S: AsyncWrite + Unpin> PacketStream<S> {
    /// Sends all that is queued.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.io.write_all_buf(&mut self.outgoing).await?;
        self.io.flush().await
    }

    /// Queues and sends one packet.
    pub async fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        self.put(payload);
        self.flush().await
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn through(payloads: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut bytes = BytesMut::new();
        let mut sequence = 0;
        for payload in payloads {
            sequence = put_packet(&mut bytes, payload, sequence);
        }
        let mut stream = PacketStream::new(&bytes[..]);
        let mut seen = Vec::new();
        while let Some(payload) = stream.read().await.unwrap() {
            seen.push(payload);
        }
        assert_eq!(stream.sequence(), sequence);
        seen
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    proptest! {
        #[test]
        fn packets_come_back(payloads in proptest::collection::vec(any::<Vec<u8>>(), 0..5)) {
            prop_assert_eq!(block_on(through(&payloads)), payloads);
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            block_on(async {
                let mut stream = PacketStream::new(&bytes[..]);
                while let Ok(Some(_)) = stream.read().await {}
            });
        }
    }

    #[tokio::test]
    async fn long_packets_are_split_and_joined() {
        for len in [
            MAX_FRAME_PAYLOAD - 1,
            MAX_FRAME_PAYLOAD,
            MAX_FRAME_PAYLOAD + 1,
            2 * MAX_FRAME_PAYLOAD,
        ] {
            let payload = vec![7; len];
            assert_eq!(through(std::slice::from_ref(&payload)).await, [payload]);
        }
    }

    #[tokio::test]
    async fn a_packet_without_end_is_refused() {
        let frame = [&[0xff, 0xff, 0xff, 0][..], &vec![0; MAX_FRAME_PAYLOAD]]
            .concat()
            .repeat(5);
        assert_eq!(
            PacketStream::new(&frame[..]).read().await.unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}

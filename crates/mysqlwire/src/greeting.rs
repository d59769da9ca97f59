//! The server's first packet, protocol version 10.

use crate::auth::SCRAMBLE_LEN;
use crate::codec::{DecodeError, Reader, put_nul_text};
use crate::protocol::{NATIVE_PASSWORD, capability};

/// What the server says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// Version text, such as `5.6.25`.
    pub server_version: String,
    /// The connection's id on this server.
    pub connection_id: u32,
    /// The random bytes a password answer is made with; without [`capability::SECURE_CONNECTION`] only the first eight.
    pub scramble: [u8; SCRAMBLE_LEN],
    /// [`capability`] flags the server offers.
    pub capabilities: u32,
    /// Default charset.
    pub charset: u8,
    /// [`crate::protocol::status`] flags.
    pub status: u16,
    /// The authentication plugin the scramble is for.
    pub auth_plugin: String,
}

impl Greeting {
    /// The packet's payload.
    pub fn encode(&self) -> Vec<u8> {
        let capabilities = self.capabilities.to_le_bytes();
        let mut out = vec![10];
        put_nul_text(&mut out, &self.server_version);
        out.extend_from_slice(&self.connection_id.to_le_bytes());
        out.extend_from_slice(&self.scramble[..8]);
        out.push(0);
        out.extend_from_slice(&capabilities[..2]);
        out.push(self.charset);
        out.extend_from_slice(&self.status.to_le_bytes());
        out.extend_from_slice(&capabilities[2..]);
        out.push(SCRAMBLE_LEN as u8 + 1);
        out.extend_from_slice(&[0; 10]);
        if self.capabilities & capability::SECURE_CONNECTION != 0 {
            out.extend_from_slice(&self.scramble[8..]);
            out.push(0);
        }
        if self.capabilities & capability::PLUGIN_AUTH != 0 {
            put_nul_text(&mut out, &self.auth_plugin);
        }
        out
    }

    /// Reads a greeting. An ERR packet in its place (too many connections) is [`DecodeError::Malformed`]: look for it first.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        if reader.u8("protocol version")? != 10 {
            return Err(DecodeError::Malformed("another protocol version than 10"));
        }
        let server_version = reader.nul_text();
        let connection_id = reader.u32("connection id")?;
        let mut scramble = [0; SCRAMBLE_LEN];
        scramble[..8].copy_from_slice(reader.bytes(8, "scramble")?);
        reader.u8("filler")?;
        let low = reader.u16("capabilities")?;
        let charset = reader.u8("charset")?;
        let status = reader.u16("status")?;
        let high = reader.u16("capabilities")?;
        let capabilities = u32::from(low) | u32::from(high) << 16;
        let scramble_len = usize::from(reader.u8("scramble length")?);
        reader.bytes(10, "filler")?;
        if capabilities & capability::SECURE_CONNECTION != 0 {
            // At least 13 bytes are sent, of which the first 12 count.
            let second = reader.bytes(scramble_len.saturating_sub(8).max(13), "scramble")?;
            scramble[8..].copy_from_slice(&second[..SCRAMBLE_LEN - 8]);
        }
        let auth_plugin = if capabilities & capability::PLUGIN_AUTH != 0 {
            reader.nul_text()
        } else {
            NATIVE_PASSWORD.to_owned()
        };
        Ok(Self {
            server_version,
            connection_id,
            scramble,
            capabilities,
            charset,
            status,
            auth_plugin,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn greetings_come_back(
            server_version in "[ -~]{0,40}", connection_id: u32, scramble: [u8; SCRAMBLE_LEN], flags: u32, charset: u8, status: u16,
            auth_plugin in "[a-z_0-9]{1,30}",
        ) {
            let capabilities = flags | capability::SECURE_CONNECTION | capability::PLUGIN_AUTH;
            let greeting = Greeting { server_version, connection_id, scramble, capabilities, charset, status, auth_plugin };
            prop_assert_eq!(Greeting::decode(&greeting.encode()), Ok(greeting));
        }

        #[test]
        fn greetings_of_old_servers_come_back(connection_id: u32, first: [u8; 8], flags: u32, charset: u8, status: u16) {
            let mut scramble = [0; SCRAMBLE_LEN];
            scramble[..8].copy_from_slice(&first);
            let capabilities = flags & !capability::SECURE_CONNECTION | capability::PLUGIN_AUTH;
            let (server_version, auth_plugin) = ("4.1.0".to_owned(), "mysql_old_password".to_owned());
            let greeting = Greeting { server_version, connection_id, scramble, capabilities, charset, status, auth_plugin };
            prop_assert_eq!(Greeting::decode(&greeting.encode()), Ok(greeting));
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = Greeting::decode(&bytes);
            let _ = Greeting::decode(&[&[10], &bytes[..]].concat());
        }
    }
}

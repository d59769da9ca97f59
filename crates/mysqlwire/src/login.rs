//! The client's answer to the greeting ("handshake response 41").

use crate::codec::{DecodeError, Reader, put_lenenc_bytes, put_lenenc_int, put_nul_text, text};
use crate::protocol::capability;

/// What a client says to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// [`capability`] flags the client wants, a subset of the greeting's.
    pub capabilities: u32,
    /// Longest packet the client takes.
    pub max_packet: u32,
    /// The connection's charset.
    pub charset: u8,
    /// User name as typed, for OBProxy with tenant and cluster.
    pub user: String,
    /// The answer to the scramble; empty for an empty password.
    pub auth_answer: Vec<u8>,
    /// Default database.
    pub database: Option<String>,
    /// The plugin `auth_answer` was made with.
    pub auth_plugin: Option<String>,
    /// Names and values the client tells about itself.
    pub attributes: Vec<(String, String)>,
}

impl Login {
    /// The packet's payload; members without their capability flag are left out.
    pub fn encode(&self) -> Vec<u8> {
        let has = |flag| self.capabilities & flag != 0;
        let mut out = self.capabilities.to_le_bytes().to_vec();
        out.extend_from_slice(&self.max_packet.to_le_bytes());
        out.push(self.charset);
        out.extend_from_slice(&[0; 23]);
        put_nul_text(&mut out, &self.user);
        if has(capability::PLUGIN_AUTH_LENENC) {
            put_lenenc_bytes(&mut out, &self.auth_answer);
        } else {
            let answer = &self.auth_answer[..self.auth_answer.len().min(255)];
            out.push(answer.len() as u8);
            out.extend_from_slice(answer);
        }
        if has(capability::CONNECT_WITH_DB) {
            put_nul_text(&mut out, self.database.as_deref().unwrap_or_default());
        }
        if has(capability::PLUGIN_AUTH) {
            put_nul_text(&mut out, self.auth_plugin.as_deref().unwrap_or_default());
        }
        if has(capability::CONNECT_ATTRS) {
            let mut pairs = Vec::new();
            for (name, value) in &self.attributes {
                put_lenenc_bytes(&mut pairs, name.as_bytes());
                put_lenenc_bytes(&mut pairs, value.as_bytes());
            }
            put_lenenc_int(&mut out, pairs.len() as u64);
            out.extend_from_slice(&pairs);
        }
        out
    }

    /// Reads a login. A request for TLS is [`DecodeError::Malformed`]: this crate never offers it.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let capabilities = reader.u32("capabilities")?;
        let has = |flag| capabilities & flag != 0;
        if !has(capability::PROTOCOL_41) {
            return Err(DecodeError::Malformed("no protocol 4.1 login"));
        }
        let max_packet = reader.u32("packet limit")?;
        let charset = reader.u8("charset")?;
        reader.bytes(23, "filler")?;
        if reader.is_empty() {
            return Err(DecodeError::Malformed("a request for TLS"));
        }
        let user = reader.nul_text();
        let auth_answer = if has(capability::PLUGIN_AUTH_LENENC) {
            reader.lenenc_bytes("authentication answer")?
        } else {
            let len = reader.u8("authentication answer")?;
            reader.bytes(usize::from(len), "authentication answer")?
        };
        let database = has(capability::CONNECT_WITH_DB)
            .then(|| reader.nul_text())
            .filter(|name| !name.is_empty());
        let auth_plugin = has(capability::PLUGIN_AUTH)
            .then(|| reader.nul_text())
            .filter(|name| !name.is_empty());
        let mut attributes = Vec::new();
        if has(capability::CONNECT_ATTRS) && !reader.is_empty() {
            let mut pairs = Reader::new(reader.lenenc_bytes("attributes")?);
            while !pairs.is_empty() {
                attributes.push((
                    pairs.lenenc_text("attribute name")?,
                    pairs.lenenc_text("attribute value")?,
                ));
            }
        }
        let auth_answer = auth_answer.to_vec();
        Ok(Self {
            capabilities,
            max_packet,
            charset,
            user,
            auth_answer,
            database,
            auth_plugin,
            attributes,
        })
    }
}

/// A server's demand to authenticate by another plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuthSwitch {
    pub(crate) plugin: String,
    pub(crate) scramble: Vec<u8>,
}

impl AuthSwitch {
    /// Reads the payload behind the leading 0xfe.
    pub(crate) fn decode(body: &[u8]) -> Self {
        let mut reader = Reader::new(body);
        let plugin = reader.nul_text();
        let scramble = reader.take_rest();
        let scramble = scramble.strip_suffix(&[0]).unwrap_or(scramble).to_vec();
        Self {
            plugin: if plugin.is_empty() {
                text(b"mysql_old_password")
            } else {
                plugin
            },
            scramble,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn logins_come_back(
            flags: u32, max_packet: u32, charset: u8, user in "[ -~]{0,64}", auth_answer in proptest::collection::vec(any::<u8>(), 0..255),
            database in proptest::option::of("[a-z]{1,20}"), auth_plugin in proptest::option::of("[a-z_]{1,30}"),
            attributes in proptest::collection::vec(("[a-z_]{0,20}", "[ -~]{0,300}"), 0..4),
        ) {
            let capabilities = flags | capability::PROTOCOL_41;
            let has = |flag| capabilities & flag != 0;
            let login = Login {
                capabilities, max_packet, charset, user, auth_answer,
                database: database.filter(|_| has(capability::CONNECT_WITH_DB)),
                auth_plugin: auth_plugin.filter(|_| has(capability::PLUGIN_AUTH)),
                attributes: if has(capability::CONNECT_ATTRS) { attributes } else { Vec::new() },
            };
            prop_assert_eq!(Login::decode(&login.encode()), Ok(login));
        }

        #[test]
        fn garbage_never_panics(mut bytes: Vec<u8>) {
            let _ = Login::decode(&bytes);
            let _ = AuthSwitch::decode(&bytes);
            if bytes.len() > 4 {
                bytes[1] |= 0x02;
                let _ = Login::decode(&bytes);
            }
        }
    }

    #[test]
    fn a_request_for_tls_is_refused() {
        let mut payload = (capability::PROTOCOL_41 | capability::SSL).to_le_bytes().to_vec();
        payload.resize(32, 0);
        assert_eq!(
            Login::decode(&payload),
            Err(DecodeError::Malformed("a request for TLS"))
        );
    }
}

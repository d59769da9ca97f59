//! Secrets at rest: sealed with a key that never leaves the server's key file.

use std::fmt;

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{Context, SHA256},
    rand::{SecureRandom as _, SystemRandom},
};
use serde::{Deserialize, Serialize};

/// A sealed secret: hexadecimal nonce and ciphertext. Safe to store and to print.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(String);

impl Sealed {
    /// As it is stored.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// What was stored.
    pub fn from_text(text: String) -> Self {
        Self(text)
    }
}

/// Seals and opens secrets with AES-256-GCM.
#[derive(Clone)]
pub struct Sealer {
    key: std::sync::Arc<LessSafeKey>,
}

/// A sealed secret cannot be opened, or none can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key is not 32 bytes long.
    #[error("the key must have 32 bytes, it has {0}")]
    KeyLength(usize),
    /// The system gives no random numbers.
    #[error("the system's random number generator failed")]
    Random,
    /// Another key sealed it, or it was damaged.
    #[error("a stored secret does not open with this server's key: restore the key file that belongs to the database")]
    WrongKey,
}

/// Names a key without telling it: the first 16 bytes of a digest, hexadecimal. Safe to store and to print.
pub fn fingerprint(key: &[u8]) -> String {
    let mut digest = Context::new(&SHA256);
    // The digest of the bare key is left for other purposes.
    digest.update(b"obfleet sealing key\0");
    digest.update(key);
    hex::encode(&digest.finish().as_ref()[..16])
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

impl Sealer {
    /// A sealer with the 32 bytes of the key file.
    pub fn new(key: &[u8]) -> Result<Self, SealError> {
        let unbound = UnboundKey::new(&AES_256_GCM, key).map_err(|_| SealError::KeyLength(key.len()))?;
        Ok(Self {
            key: std::sync::Arc::new(LessSafeKey::new(unbound)),
        })
    }

    /// Seals a secret.
    pub fn seal(&self, secret: &str) -> Result<Sealed, SealError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SealError::Random)?;
        let mut text = secret.as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut text)
            .map_err(|_| SealError::Random)?;
        Ok(Sealed(hex::encode(nonce) + &hex::encode(text)))
    }

    /// Opens what [`Sealer::seal`] made.
    pub fn open(&self, sealed: &Sealed) -> Result<String, SealError> {
        let open = || {
            let bytes = hex::decode(&sealed.0).ok()?;
            let (nonce, text) = bytes.split_at_checked(NONCE_LEN)?;
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut text = text.to_vec();
            let clear = self.key.open_in_place(nonce, Aad::empty(), &mut text).ok()?;
            String::from_utf8(clear.to_vec()).ok()
        };
        open().ok_or(SealError::WrongKey)
    }
}

/// A password that satisfies the rule for root@proxysys: sixteen letters and digits of all three classes.
pub fn generate_password() -> Result<String, SealError> {
    const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let mut bytes = [0; 13];
    SystemRandom::new().fill(&mut bytes).map_err(|_| SealError::Random)?;
    let letters = bytes
        .iter()
        .map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]));
    Ok("aA1".chars().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_with_the_same_key() {
        let sealer = Sealer::new(&[7; 32]).unwrap();
        let sealed = sealer.seal("Aa1_secret").unwrap();
        assert!(!format!("{sealed:?}").contains("secret"));
        assert_eq!(sealer.open(&sealed).unwrap(), "Aa1_secret");
        assert_eq!(Sealer::new(&[8; 32]).unwrap().open(&sealed), Err(SealError::WrongKey));
        assert_eq!(sealer.open(&Sealed("zz".into())), Err(SealError::WrongKey));
        assert!(Sealer::new(&[1; 5]).is_err());
    }

    #[test]
    fn a_fingerprint_tells_keys_apart_and_nothing_of_them() {
        let (one, other) = (fingerprint(&[7; 32]), fingerprint(&[8; 32]));
        assert_eq!(one, fingerprint(&[7; 32]), "it is the same for ever");
        assert!(one != other && one.len() == 32 && !one.contains("0707"));
    }
}

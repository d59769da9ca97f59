//! Verified credentials, remembered so that a busy client does not cost an argon2 a call.
//!
//! Only a fingerprint is kept: an HMAC under a key that lives as long as the process. An entry names the password hash
//! it was verified against and is void as soon as the user has another one.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::basic::Credentials;

/// Time a verification stands.
pub const FRESH: Duration = Duration::from_secs(60);
/// Time a client that was verified once is let past the throttle: its credentials are no guesses.
pub const KNOWN: Duration = Duration::from_secs(24 * 60 * 60);

/// Names credentials without telling them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// What is remembered of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recall {
    /// Verified less than [`FRESH`] ago.
    Fresh,
    /// Verified less than [`KNOWN`] ago.
    Known,
    /// Nothing that still counts.
    Nothing,
}

struct Entry {
    password_hash: String,
    verified: Instant,
}

/// The verified credentials.
pub struct Memory {
    key: [u8; 32],
    entries: Mutex<HashMap<Fingerprint, Entry>>,
}

impl Default for Memory {
    /// An empty memory with a random key.
    fn default() -> Self {
        Self {
            key: rand::random(),
            entries: Mutex::default(),
        }
    }
}

impl Memory {
    /// The fingerprint of credentials; the length keeps `ab:c` and `a:bc` apart.
    pub fn fingerprint(&self, credentials: &Credentials) -> Fingerprint {
        // An HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else {
            unreachable!("an HMAC key has any length")
        };
        mac.update(&(credentials.user.len() as u64).to_be_bytes());
        mac.update(credentials.user.as_bytes());
        mac.update(credentials.password.as_bytes());
        Fingerprint(mac.finalize().into_bytes().into())
    }

    /// What is remembered, if the user still has this password hash.
    pub fn recall(&self, fingerprint: Fingerprint, password_hash: &str, now: Instant) -> Recall {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = entries
            .get(&fingerprint)
            .filter(|entry| entry.password_hash == password_hash)
        else {
            return Recall::Nothing;
        };
        match now.saturating_duration_since(entry.verified) {
            age if age < FRESH => Recall::Fresh,
            age if age < KNOWN => Recall::Known,
            _ => Recall::Nothing,
        }
    }

    /// Remembers credentials that were verified against this password hash.
    pub fn remember(&self, fingerprint: Fingerprint, password_hash: &str, now: Instant) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| now.saturating_duration_since(entry.verified) < KNOWN);
        entries.insert(
            fingerprint,
            Entry {
                password_hash: password_hash.to_owned(),
                verified: now,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(user: &str, password: &str) -> Credentials {
        Credentials {
            user: user.to_owned(),
            password: password.to_owned(),
        }
    }

    #[test]
    fn a_verification_stands_for_a_minute_and_dies_with_the_password() {
        let memory = Memory::default();
        let right = memory.fingerprint(&credentials("admin", "secret"));
        let start = Instant::now();
        assert_eq!(memory.recall(right, "hash", start), Recall::Nothing);
        memory.remember(right, "hash", start);
        assert_eq!(
            memory.recall(right, "hash", start + FRESH - Duration::from_millis(1)),
            Recall::Fresh
        );
        assert_eq!(memory.recall(right, "hash", start + FRESH), Recall::Known);
        assert_eq!(memory.recall(right, "hash", start + KNOWN), Recall::Nothing);
        assert_eq!(memory.recall(right, "another hash", start), Recall::Nothing);
        let wrong = memory.fingerprint(&credentials("admin", "Secret"));
        assert_eq!(memory.recall(wrong, "hash", start), Recall::Nothing);
    }

    #[test]
    fn fingerprints_depend_on_where_user_and_password_meet_and_on_the_process() {
        let memory = Memory::default();
        assert!(memory.fingerprint(&credentials("ab", "c")) != memory.fingerprint(&credentials("a", "bc")));
        assert!(memory.fingerprint(&credentials("a", "b")) != Memory::default().fingerprint(&credentials("a", "b")));
    }
}

//! What a call from one server to another is recognised by: who calls whom, when and for what, under a key that only
//! servers of the database have.
//!
//! A pass is good for one request line and one server, and for half a minute: whoever overhears it could only repeat the
//! call, which changes nothing that the first one did not.

use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use obfleet_wire::time::Timestamp;
use sha2::Sha256;

/// The header that holds it.
pub const HEADER: &str = "obfleet-pass";
/// How far the clocks of caller and called, and the time of the call between them, may be apart.
const WINDOW: Duration = Duration::from_secs(30);

/// Why a call is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PassError {
    /// There is none, or it is not one.
    #[error("the call has no pass")]
    Missing,
    /// Another key, another request line, or no key at all made it.
    #[error("the call's pass was not made with this database's key for this request")]
    Wrong,
    /// It was made longer ago, or will be made.
    #[error("the call's pass was not made within the last {} s: keep the servers' clocks together", WINDOW.as_secs())]
    Expired,
    /// It is good, but for another server.
    #[error("the call is meant for another server")]
    Misdirected,
}

/// Makes and checks passes.
pub struct Passes {
    key: Hmac<Sha256>,
    own: String,
}

impl Passes {
    /// Those of the server with this id, by the key that its database's secrets are sealed with.
    pub fn new(key: &[u8; 32], own: &str) -> Self {
        // The key itself is left to the sealing.
        let derived = keyed(key).chain_update(b"obfleet calls between servers").finalize();
        Self {
            key: keyed(&derived.into_bytes()),
            own: own.to_owned(),
        }
    }

    /// The server's id.
    pub fn own(&self) -> &str {
        &self.own
    }

    /// The pass for a call to the server `to`.
    pub fn make(&self, to: &str, method: &str, path: &str, now: Timestamp) -> String {
        let head = format!("{} {to} {}", self.own, now.millis());
        let mac = hex::encode(self.mac(&head, method, path).finalize().into_bytes());
        format!("{head} {mac}")
    }

    /// Checks the pass that came with a call.
    pub fn check(&self, pass: Option<&str>, method: &str, path: &str, now: Timestamp) -> Result<(), PassError> {
        let (head, mac) = pass.and_then(|pass| pass.rsplit_once(' ')).ok_or(PassError::Missing)?;
        let mac = hex::decode(mac).map_err(|_| PassError::Missing)?;
        let mut fields = head.split(' ').skip(1);
        let (to, at) = fields.next().zip(fields.next()).ok_or(PassError::Missing)?;
        let at: i64 = at.parse().map_err(|_| PassError::Missing)?;
        // Compares in constant time.
        let good = self.mac(head, method, path).verify_slice(&mac);
        good.map_err(|_| PassError::Wrong)?;
        if u128::from(now.millis().abs_diff(at)) > WINDOW.as_millis() {
            return Err(PassError::Expired);
        }
        if to != self.own {
            return Err(PassError::Misdirected);
        }
        Ok(())
    }

    /// Spaces and line ends are in none of the parts.
    fn mac(&self, head: &str, method: &str, path: &str) -> Hmac<Sha256> {
        self.key.clone().chain_update(format!("{head}\n{method} {path}"))
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    Hmac::new_from_slice(key).expect("a key of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    #[test]
    fn a_pass_is_good_for_one_server_one_request_and_half_a_minute() {
        let (one, two) = (Passes::new(&[7; 32], "one"), Passes::new(&[7; 32], "two"));
        let pass = one.make("two", "POST", "/internal/nudge", NOW);
        let check = |pass: &str, path: &str, now: i64| two.check(Some(pass), "POST", path, Timestamp(now));
        let path = "/internal/nudge";
        for apart in [-30_000, 0, 30_000] {
            assert_eq!(check(&pass, path, NOW.0 + apart), Ok(()));
        }
        for apart in [-30_001, 30_001] {
            assert_eq!(check(&pass, path, NOW.0 + apart), Err(PassError::Expired));
        }
        assert_eq!(check(&pass, "/internal/other", NOW.0), Err(PassError::Wrong));
        let get = two.check(Some(&pass), "GET", path, NOW);
        assert_eq!(get, Err(PassError::Wrong));
        assert_eq!(one.check(Some(&pass), "POST", path, NOW), Err(PassError::Misdirected));
    }

    #[test]
    fn without_the_key_there_is_no_pass() {
        let two = Passes::new(&[7; 32], "two");
        let check = |pass: &str| two.check(Some(pass), "POST", "/x", NOW);
        let foreign = Passes::new(&[8; 32], "one").make("two", "POST", "/x", NOW);
        assert_eq!(check(&foreign), Err(PassError::Wrong));
        let good = Passes::new(&[7; 32], "one").make("two", "POST", "/x", NOW);
        assert_eq!(check(&good), Ok(()));
        assert_eq!(check(&good.replacen("one", "eve", 1)), Err(PassError::Wrong));
        assert_eq!(check(&good[..good.len() - 2]), Err(PassError::Wrong), "cut short");
        for none in ["", "one", "one two 5", "one two later 00", "one two 1000000 zz"] {
            assert_eq!(check(none), Err(PassError::Missing), "{none}");
        }
        assert_eq!(two.check(None, "POST", "/x", NOW), Err(PassError::Missing));
    }
}

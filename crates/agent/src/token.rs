//! The enrolment token and the two proofs it carries: that the agent was invited, and that the server is the one that
//! invited it. Used by the agent and by the server that issues tokens.

use std::{fmt, str::FromStr};

use hmac::{Hmac, KeyInit as _, Mac as _};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};

/// `id.secret.ca-sha256`, printed once by the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Names the token; no secret.
    pub id: String,
    /// Never sent.
    pub secret: String,
    /// [`fingerprint`] of the certificate authority the answer must come from.
    pub ca_sha256: String,
}

/// The text is not an enrolment token. The text itself is not told: it may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not an enrolment token; it has the form id.secret.ca-sha256: copy it whole, or have a new one made")]
pub struct TokenError;

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.trim().split('.');
        let mut part = || parts.next().filter(|p| !p.is_empty()).ok_or(TokenError);
        let token = Self {
            id: part()?.to_owned(),
            secret: part()?.to_owned(),
            ca_sha256: part()?.to_ascii_lowercase(),
        };
        let digest = token.ca_sha256.len() == 64 && token.ca_sha256.bytes().all(|b| b.is_ascii_hexdigit());
        (digest && parts.next().is_none()).then_some(token).ok_or(TokenError)
    }
}

impl fmt::Display for Token {
    /// The whole token, with its secret: for printing it once.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.id, self.secret, self.ca_sha256)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

/// SHA-256 of a token's secret: all the server needs to keep of it.
pub fn secret_digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Hexadecimal HMAC-SHA256 of a signing request under [`secret_digest`].
pub fn proof(secret_digest: &[u8; 32], csr_pem: &str) -> String {
    hex::encode(mac(secret_digest, csr_pem).finalize().into_bytes())
}

/// Whether `proof` is the [`proof`] of `csr_pem`, compared in constant time.
pub fn proof_holds(secret_digest: &[u8; 32], csr_pem: &str, proof: &str) -> bool {
    hex::decode(proof).is_ok_and(|proof| mac(secret_digest, csr_pem).verify_slice(&proof).is_ok())
}

fn mac(secret_digest: &[u8; 32], csr_pem: &str) -> Hmac<Sha256> {
    // HMAC fills a key up to its block with zeros.
    let mut block = [0; 64];
    block[..32].copy_from_slice(secret_digest);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    mac.update(csr_pem.as_bytes());
    mac
}

/// Hexadecimal SHA-256 of the (DER) certificate in a PEM text; `None` when there is none in it.
pub fn fingerprint(certificate_pem: &str) -> Option<String> {
    let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).ok()?;
    Some(hex::encode(Sha256::digest(&certificate)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_hide_their_secret() {
        let text = format!("7f.s3cret.{}", "ab".repeat(32));
        let token: Token = text.parse().unwrap();
        assert_eq!(token.to_string(), text);
        assert!(!format!("{token:?}").contains("s3cret"));
        for wrong in [
            "",
            "a.b",
            "a.b.c",
            &format!("{text}.x"),
            &format!("a..{}", "ab".repeat(32)),
        ] {
            assert_eq!(wrong.parse::<Token>(), Err(TokenError), "{wrong}");
        }
    }

    #[test]
    fn a_proof_binds_secret_and_request() {
        let good = proof(&secret_digest("one"), "csr");
        assert!(proof_holds(&secret_digest("one"), "csr", &good));
        assert!(!proof_holds(&secret_digest("two"), "csr", &good));
        assert!(!proof_holds(&secret_digest("one"), "other", &good));
        assert!(!proof_holds(&secret_digest("one"), "csr", "zz"));
    }
}

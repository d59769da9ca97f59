//! Passwords of users: argon2id, and generated ones.

use argon2::{
    Argon2, Params,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use rand::Rng as _;

/// No `0O1lI`: a generated password is read from a terminal.
const ALPHABET: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
/// 20 characters of 56: 116 bits.
const GENERATED_LENGTH: usize = 20;

/// A password cannot be hashed.
#[derive(Debug, thiserror::Error)]
#[error("the password cannot be hashed: {0}")]
pub struct HashError(argon2::password_hash::Error);

/// argon2id in PHC form, with a salt of its own. Takes some 30 ms and 19 MiB: call it where blocking is fine.
pub fn hash(password: &str) -> Result<String, HashError> {
    let hash: PasswordHash = Argon2::default()
        .hash_password(password.as_bytes())
        .map_err(HashError)?;
    Ok(hash.to_string())
}

/// Whether the password is the one of the hash. Costs as much as [`hash`].
pub fn verify(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// A hash that no password is known to have, though to [`verify`] one against it costs as much as against any other.
/// Costs nothing to make.
pub fn unmatched() -> String {
    let random = |bytes: [u8; 32]| BASE64_STANDARD_NO_PAD.encode(bytes);
    let (memory, passes, lanes) = (Params::DEFAULT_M_COST, Params::DEFAULT_T_COST, Params::DEFAULT_P_COST);
    let (salt, hash) = (random(rand::random()), random(rand::random()));
    format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${hash}")
}

/// A random password.
pub fn generate() -> String {
    let mut rng = rand::rng();
    (0..GENERATED_LENGTH)
        .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifies_what_it_hashed() {
        let password = generate();
        let hashed = hash(&password).unwrap();
        assert!(hashed.starts_with("$argon2id$") && !hashed.contains(&password));
        assert_ne!(hashed, hash(&password).unwrap(), "the salt is the same twice");
        assert!(verify(&password, &hashed));
        assert!(!verify(&password, &unmatched()));
        assert!(!verify("something else", &hashed) && !verify(&password, "no hash"));
    }

    #[test]
    fn an_unmatched_hash_costs_as_much_as_a_real_one() {
        let (unmatched, real) = (unmatched(), hash("secret").unwrap());
        let (unmatched, real) = (
            PasswordHash::new(&unmatched).unwrap(),
            PasswordHash::new(&real).unwrap(),
        );
        assert_eq!(
            (unmatched.algorithm, unmatched.version, &unmatched.params),
            (real.algorithm, real.version, &real.params)
        );
        assert_eq!(unmatched.hash.map(|hash| hash.len()), real.hash.map(|hash| hash.len()));
    }
}

//! `mysql_native_password`: the server stores SHA1(SHA1(password)) or, as OBProxy does, SHA1(password).

use sha1::{Digest as _, Sha1};

/// Length of a scramble and of an answer to it.
pub const SCRAMBLE_LEN: usize = 20;

fn sha1(parts: &[&[u8]]) -> [u8; SCRAMBLE_LEN] {
    let mut hasher = Sha1::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// SHA1 of the clear text, the form in which OBProxy keeps passwords.
pub fn password_sha1(password: &str) -> [u8; SCRAMBLE_LEN] {
    sha1(&[password.as_bytes()])
}

/// The client's answer to `scramble`; empty for an empty password.
pub fn native_answer(password: &str, scramble: &[u8; SCRAMBLE_LEN]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    native_answer_of_sha1(&password_sha1(password), scramble).to_vec()
}

fn native_answer_of_sha1(stage1: &[u8; SCRAMBLE_LEN], scramble: &[u8; SCRAMBLE_LEN]) -> [u8; SCRAMBLE_LEN] {
    let mut answer = sha1(&[scramble, &sha1(&[stage1])]);
    for (byte, mask) in answer.iter_mut().zip(stage1) {
        *byte ^= mask;
    }
    answer
}

/// Whether `answer` was made from the password whose SHA1 is `stored`.
pub fn verify_native(answer: &[u8], stored: &[u8; SCRAMBLE_LEN], scramble: &[u8; SCRAMBLE_LEN]) -> bool {
    answer == native_answer_of_sha1(stored, scramble)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAMBLE: [u8; SCRAMBLE_LEN] = *b"aaaaaaaabbbbbbbbbbbb";

    #[test]
    fn only_the_right_password_verifies() {
        let stored = password_sha1("Secret1");
        assert!(verify_native(&native_answer("Secret1", &SCRAMBLE), &stored, &SCRAMBLE));
        assert!(!verify_native(&native_answer("secret1", &SCRAMBLE), &stored, &SCRAMBLE));
        assert!(!verify_native(&[], &stored, &SCRAMBLE));
    }

    #[test]
    fn the_hash_of_the_empty_password_lets_nobody_in() {
        let stored = password_sha1("");
        assert!(!verify_native(&native_answer("", &SCRAMBLE), &stored, &SCRAMBLE));
    }
}

//! Whether a key, as its certificate has it, could make a signature at the time it was made.
//!
//! A certificate is a key with what its owner says of it: until when it is good, what it is for, which subkeys it has, and
//! that it is revoked. Each of these is signed by the key itself, and what is not is passed over. A key that is over is good
//! for what was signed before; one that is revoked is good for nothing, since whoever has it may choose any date.

use std::{
    io::Read,
    time::{Duration, SystemTime},
};

use pgp::{
    composed::{SignedPublicKey, SignedPublicSubKey},
    packet::{KeyFlags, Signature, SignatureType},
    types::{Duration as KeyDuration, KeyDetails, KeyVersion, Tag, Timestamp},
};

use super::{SignatureFault, Signer};

/// How far the clock of whoever signs may be ahead of ours.
const AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// A key of a certificate that a signature names as its maker.
pub(super) struct Maker<'a> {
    certificate: &'a SignedPublicKey,
    /// The subkey, unless it is the certificate's first key.
    subkey: Option<&'a SignedPublicSubKey>,
}

/// Fingerprint of a certificate.
pub(super) fn fingerprint(certificate: &SignedPublicKey) -> String {
    format!("{:X}", certificate.fingerprint())
}

/// The key of `certificate` that `signature` names; which signature names none has none.
pub(super) fn maker<'a>(certificate: &'a SignedPublicKey, signature: &Signature) -> Option<Maker<'a>> {
    let named = |key: &dyn KeyDetails| {
        let fingerprints = signature.issuer_fingerprint();
        if fingerprints.is_empty() {
            signature.issuer_key_id().contains(&&key.legacy_key_id())
        } else {
            fingerprints.contains(&&key.fingerprint())
        }
    };
    if named(&certificate.primary_key) {
        return Some(Maker {
            certificate,
            subkey: None,
        });
    }
    let subkey = certificate.public_subkeys.iter().find(|subkey| named(&subkey.key))?;
    Some(Maker {
        certificate,
        subkey: Some(subkey),
    })
}

impl Maker<'_> {
    /// Whether the signature was made with this key of exactly `content`.
    pub(super) fn fits(&self, signature: &Signature, content: impl Read) -> bool {
        let verified = match self.subkey {
            Some(subkey) => signature.verify(&subkey.key, content),
            None => signature.verify(&self.certificate.primary_key, content),
        };
        verified.is_ok()
    }

    /// Whether the key might sign when the signature says it was made, and the signature is good `now`.
    pub(super) fn allowed(&self, signature: &Signature, now: SystemTime) -> Result<Signer, SignatureFault> {
        let key = || match self.subkey {
            Some(subkey) => format!("{:X}", subkey.key.fingerprint()),
            None => fingerprint(self.certificate),
        };
        let primary = &self.certificate.primary_key;
        if !matches!(primary.version(), KeyVersion::V4 | KeyVersion::V6) {
            return Err(SignatureFault::NotForSigning { key: key() });
        }
        let Some(made) = signature.created() else {
            return Err(SignatureFault::NotNow { key: key() });
        };
        let is_over = is_over(made, signature.signature_expiration_time(), now);
        if is_over || SystemTime::from(made) > now + AHEAD {
            return Err(SignatureFault::NotNow { key: key() });
        }
        let revoked = &self.certificate.details.revocation_signatures;
        if revoked.iter().any(|revocation| revocation.verify_key(primary).is_ok()) {
            return Err(SignatureFault::KeyRevoked { key: key() });
        }
        let Some(said) = self.newest_statement() else {
            return Err(SignatureFault::NotForSigning { key: key() });
        };
        if !is_within(primary.created_at(), said.key_expiration_time(), made) {
            return Err(SignatureFault::KeyNotValid { key: key() });
        }
        match self.subkey {
            None => {
                // A key without a word on what it is for is for everything.
                let flags = said.key_flags();
                if !flags.sign() && flags != KeyFlags::default() {
                    return Err(SignatureFault::NotForSigning { key: key() });
                }
            }
            Some(subkey) => self.allowed_subkey(subkey, made, &key())?,
        }
        Ok(Signer {
            fingerprint: fingerprint(self.certificate),
        })
    }

    /// What the owner said last of the key: of the key itself, or of it with one of its names.
    fn newest_statement(&self) -> Option<&Signature> {
        let primary = &self.certificate.primary_key;
        let details = &self.certificate.details;
        let direct = details.direct_signatures.iter();
        let direct = direct.filter(|said| said.typ() == Some(SignatureType::Key) && said.verify_key(primary).is_ok());
        let named = details.users.iter().filter_map(|user| {
            // Others may have signed the name as well; only the key's own word counts.
            let own = |said: &&Signature| said.verify_certification(primary, Tag::UserId, &user.id).is_ok();
            let newest = user.signatures.iter().filter(own).max_by_key(|said| created(said))?;
            (newest.typ() != Some(SignatureType::CertRevocation)).then_some(newest)
        });
        direct.chain(named).max_by_key(|said| created(said))
    }

    fn allowed_subkey(&self, subkey: &SignedPublicSubKey, made: Timestamp, key: &str) -> Result<(), SignatureFault> {
        let primary = &self.certificate.primary_key;
        let own = subkey
            .signatures
            .iter()
            .filter(|said| said.verify_subkey_binding(primary, &subkey.key).is_ok());
        let (revoked, bound): (Vec<_>, Vec<_>) =
            own.partition(|said| said.typ() == Some(SignatureType::SubkeyRevocation));
        if !revoked.is_empty() {
            return Err(SignatureFault::KeyRevoked { key: key.to_owned() });
        }
        let newest = bound.into_iter().max_by_key(|said| created(said));
        // A subkey for signing has to say that it belongs to the key, or anybody's could be bound.
        let is_bound = |said: &&Signature| {
            let back = said.embedded_signature();
            said.key_flags().sign()
                && back.is_some_and(|back| back.verify_primary_key_binding(&subkey.key, primary).is_ok())
        };
        let Some(binding) = newest.filter(is_bound) else {
            return Err(SignatureFault::NotForSigning { key: key.to_owned() });
        };
        if !is_within(subkey.key.created_at(), binding.key_expiration_time(), made) {
            return Err(SignatureFault::KeyNotValid { key: key.to_owned() });
        }
        Ok(())
    }
}

fn created(signature: &Signature) -> u32 {
    signature.created().map_or(0, Timestamp::as_secs)
}

/// Whether what began at `from` and lasts for so long is over by `now`; zero and nothing stand for ever.
fn is_over(from: Timestamp, lasts: Option<KeyDuration>, now: SystemTime) -> bool {
    lasts.filter(|lasts| lasts.as_secs() > 0).is_some_and(|lasts| {
        let end = SystemTime::from(from) + Duration::from(lasts);
        end <= now
    })
}

/// Whether a key that began at `from` and is good for so long was good at `at`.
fn is_within(from: Timestamp, lasts: Option<KeyDuration>, at: Timestamp) -> bool {
    from.as_secs() <= at.as_secs() && !is_over(from, lasts, at.into())
}

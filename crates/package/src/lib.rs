//! RPM packages of OBProxy: read, verified, extracted within bounds, and built.
//!
//! A package is uploaded by somebody and so is not trusted: everything read from it is checked against [`Limits`]
//! first, names and link targets never lead outside the slot, and scriptlets are never run (the vendor's `%pre`
//! removes the configuration and logs of a live proxy).
//!
//! The way of a package: [`inspect`] reads what it is → [`verify`] compares its digests → [`extract`] turns it into a
//! [`Slot`], a directory that holds one version of the executable. Digests find damage; whoever wants to know that the
//! *right* package arrived has [`verify_signed`] compare its signature with keys that are trusted, or compares
//! [`PackageInfo::sha256`].
//!
//! This is the only crate that knows the `rpm` and `pgp` libraries, and none of their types leave this crate.

mod contents;
mod elf;
mod error;
mod extract;
mod hashing;
mod identity;
mod inspect;
mod limits;
mod package_file;
mod payload;
mod signature;
mod slot;
mod taken;
mod verify;

pub mod build;

pub use contents::{FileKind, PackagedFile};
pub use error::PackageError;
pub use extract::extract;
pub use identity::PackageKind;
pub use inspect::{PackageInfo, inspect};
pub use limits::Limits;
pub use signature::{KeysError, SignatureFault, Signer, TrustedKeys, verify_signed};
pub use slot::{Slot, list_slots, read_slot, remove_slot};
pub use taken::{is_taken, take};
pub use verify::{Integrity, verify};

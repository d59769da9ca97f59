//! RPM files taken apart and put together again, with digests that fit: a fuzzer finds none by itself, and would never get
//! behind them.

use std::{fs, path::PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

const LEAD: usize = 96;
const MAGIC: [u8; 8] = [0x8e, 0xad, 0xe8, 0x01, 0, 0, 0, 0];
const INTRO: usize = 16;
const INDEX_ENTRY: usize = 16;
/// Types of entries: a text, bytes, texts.
const TEXT: u32 = 6;
const BYTES: u32 = 7;
const TEXTS: u32 = 8;
/// Tag of the header's SHA-256 in the signature header.
const HEADER_SHA256: u32 = 273;
/// Tag of the payload's SHA-256 in the header.
const PAYLOAD_SHA256: u32 = 5092;

/// A package in pieces.
#[derive(Debug, Clone, Copy)]
pub struct Pieces<'a> {
    /// The lead.
    pub lead: &'a [u8],
    /// The main header.
    pub header: &'a [u8],
    /// All that follows.
    pub payload: &'a [u8],
}

/// The pieces of something that is at least laid out like a package.
pub fn take_apart(package: &[u8]) -> Option<Pieces<'_>> {
    let (lead, rest) = package.split_at_checked(LEAD)?;
    let (_, rest) = rest.split_at_checked(header_length(rest)?.next_multiple_of(8))?;
    let (header, payload) = rest.split_at_checked(header_length(rest)?)?;
    Some(Pieces { lead, header, payload })
}

fn header_length(bytes: &[u8]) -> Option<usize> {
    let entries = number(bytes, 8)? as usize;
    Some(INTRO + entries * INDEX_ENTRY + number(bytes, 12)? as usize)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl Pieces<'_> {
    /// The package with digests that fit its payload and its header, whatever these are.
    pub fn sealed(&self) -> Vec<u8> {
        self.signed(&[])
    }

    /// The same with signatures: tag and bytes each. The tag of RPM 6 has its bytes in base64, as text.
    pub fn signed(&self, signatures: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let mut header = self.header.to_vec();
        name_digest(&mut header, self.payload);
        let digest = [hex::encode(Sha256::digest(&header)).as_bytes(), b"\0"].concat();
        let mut entries = vec![(HEADER_SHA256, TEXT, 1, digest.as_slice())];
        for (tag, bytes) in signatures {
            entries.push(match *tag {
                278 => (*tag, TEXTS, 1, bytes),
                _ => (*tag, BYTES, bytes.len() as u32, bytes),
            });
        }
        let mut signature = signature_header(&entries);
        signature.resize(signature.len().next_multiple_of(8), 0);
        [self.lead, &signature, &header, self.payload].concat()
    }
}

fn signature_header(entries: &[(u32, u32, u32, &[u8])]) -> Vec<u8> {
    let (mut index, mut data) = (Vec::new(), Vec::new());
    for (tag, kind, count, bytes) in entries {
        for number in [*tag, *kind, data.len() as u32, *count] {
            index.extend(number.to_be_bytes());
        }
        data.extend_from_slice(bytes);
    }
    let counts = [entries.len() as u32, data.len() as u32].map(u32::to_be_bytes);
    [&MAGIC[..], &counts[0], &counts[1], &index, &data].concat()
}

/// Writes the payload's digest over the one that the header names, if it names one.
fn name_digest(header: &mut [u8], payload: &[u8]) {
    let Some(entries) = number(header, 8) else { return };
    let data = INTRO + entries as usize * INDEX_ENTRY;
    let at = (0..entries as usize).find_map(|entry| {
        let at = INTRO + entry * INDEX_ENTRY;
        let offset = number(header, at + 8)? as usize;
        (number(header, at)? == PAYLOAD_SHA256).then_some(data + offset)
    });
    if let Some(place) = at.and_then(|at| header.get_mut(at..at + 64)) {
        place.copy_from_slice(hex::encode(Sha256::digest(payload)).as_bytes());
    }
}

/// A directory for one run of a target, which goes with it.
pub struct Bench {
    dir: TempDir,
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

impl Bench {
    /// An empty one.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("obfleet-fuzz-").tempdir();
        Self {
            dir: dir.expect("a directory can be made where temporary files are"),
        }
    }

    /// A path inside.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("a temporary file can be written");
        path
    }

    /// What is inside by now, at its top.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).expect("the directory is there");
        let names = entries.map(|entry| entry.expect("it can be listed").file_name());
        let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

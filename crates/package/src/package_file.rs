//! An open package: its header read within bounds, and where its payload begins.
//!
//! An RPM file is a lead of 96 bytes, a signature header, a header, and the payload. The `rpm` library trusts the
//! counts and offsets inside the headers: it allocates what they say and indexes where they point. So this module
//! reads the headers itself and checks every number in them, and only then hands the bytes to the library.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use rpm::{DigestReport, PackageMetadata};

use crate::{Limits, PackageError};

const LEAD: usize = 96;
const LEAD_MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];
/// Magic number and version of a header.
const HEADER_MAGIC: [u8; 4] = [0x8e, 0xad, 0xe8, 0x01];
/// Bytes before the index of a header, and of one entry of the index.
const HEADER_INTRO: usize = 16;
const INDEX_ENTRY: usize = 16;

/// A package whose header is well formed and has the digest that it claims.
pub(crate) struct PackageFile {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    /// Bytes of the whole file.
    pub(crate) size: u64,
    /// Offset of the first byte of the payload.
    pub(crate) payload_offset: u64,
    /// The header as it is in the file, which is what signatures of it were made of.
    pub(crate) header: Vec<u8>,
    pub(crate) metadata: PackageMetadata,
}

impl PackageFile {
    /// Opens the package and reads its header; the payload is not looked at.
    pub(crate) fn open(path: &Path, limits: &Limits) -> Result<Self, PackageError> {
        // Looked at before it is opened: opening a named pipe would wait for its writer.
        let metadata = fs::metadata(path).map_err(PackageError::io("open", path))?;
        if !metadata.is_file() {
            return Err(PackageError::NotAnRpm {
                path: path.to_owned(),
                found: "not a regular file",
            });
        }
        let mut file = File::open(path).map_err(PackageError::io("open", path))?;
        let size = metadata.len();
        if size > limits.package_bytes {
            return Err(PackageError::too_large(path, "the file", limits.package_bytes));
        }
        let mut headers = read_lead(path, &mut file)?;
        read_header(path, &mut file, &mut headers, "signature header", limits)?;
        // Only the signature header is padded, to a multiple of eight bytes.
        let padding = headers.len().next_multiple_of(8) - headers.len();
        append(path, &mut file, &mut headers, padding, "signature header")?;
        let header_offset = headers.len();
        read_header(path, &mut file, &mut headers, "header", limits)?;

        let metadata = PackageMetadata::parse(&mut headers.as_slice()).map_err(|error| library_error(path, error))?;
        check_header_digest(path, &metadata)?;
        if metadata.is_source_package() {
            return Err(PackageError::malformed(path, "it is a source package"));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            size,
            payload_offset: headers.len() as u64,
            header: headers.split_off(header_offset),
            metadata,
        })
    }
}

/// Turns an error of the `rpm` library into one of ours, which names the package.
pub(crate) fn library_error(path: &Path, error: rpm::Error) -> PackageError {
    match error {
        rpm::Error::DigestMismatchError {
            digest,
            expected,
            actual,
        } => PackageError::DigestMismatch {
            path: path.to_owned(),
            object: digest.to_owned(),
            expected,
            actual,
        },
        other => PackageError::malformed(path, other.to_string()),
    }
}

fn check_header_digest(path: &Path, metadata: &PackageMetadata) -> Result<(), PackageError> {
    let report: DigestReport = metadata.check_digests().map_err(|error| library_error(path, error))?;
    if !report.has_header_digest() {
        return Err(PackageError::malformed(path, "it has no digest of its header"));
    }
    report.result().map_err(|error| library_error(path, error))
}

fn read_lead(path: &Path, file: &mut File) -> Result<Vec<u8>, PackageError> {
    let mut lead = Vec::with_capacity(LEAD);
    file.take(LEAD as u64)
        .read_to_end(&mut lead)
        .map_err(PackageError::io("read", path))?;
    if !lead.starts_with(&LEAD_MAGIC) {
        return Err(PackageError::NotAnRpm {
            path: path.to_owned(),
            found: describe(&lead),
        });
    }
    if lead.len() < LEAD {
        return Err(PackageError::malformed(path, "it ends inside its lead"));
    }
    Ok(lead)
}

/// What a file that is no RPM package looks like.
fn describe(start: &[u8]) -> &'static str {
    const KINDS: &[(&[u8], &str)] = &[
        (b"\x1f\x8b", "a gzip file"),
        (b"PK\x03\x04", "a zip archive"),
        (b"!<arch>\ndebian", "a Debian package"),
        (b"\x7fELF", "an ELF program or library"),
        (b"\x28\xb5\x2f\xfd", "a zstd file"),
        (b"\xfd7zXZ\0", "an xz file"),
        (b"BZh", "a bzip2 file"),
        (b"07070", "a cpio archive"),
        (b"#!", "a script"),
    ];
    if start.is_empty() {
        return "empty";
    }
    let printable = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    let by_magic = KINDS
        .iter()
        .find(|(magic, _)| start.starts_with(magic))
        .map(|&(_, kind)| kind);
    by_magic.unwrap_or(if start.iter().all(printable) {
        "a text file"
    } else {
        "a file of another type"
    })
}

/// Appends `count` bytes of the file to `headers`.
fn append(path: &Path, file: &mut File, headers: &mut Vec<u8>, count: usize, part: &str) -> Result<(), PackageError> {
    let start = headers.len();
    headers.resize(start + count, 0);
    file.read_exact(&mut headers[start..])
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => PackageError::malformed(path, format!("it ends inside its {part}")),
            _ => PackageError::io("read", path)(error),
        })
}

/// Appends one header to `headers` after checking every number in its index.
fn read_header(
    path: &Path,
    file: &mut File,
    headers: &mut Vec<u8>,
    part: &str,
    limits: &Limits,
) -> Result<(), PackageError> {
    let intro = headers.len();
    append(path, file, headers, HEADER_INTRO, part)?;
    if headers[intro..intro + 4] != HEADER_MAGIC {
        return Err(PackageError::malformed(
            path,
            format!("its {part} does not start with the magic number"),
        ));
    }
    let (entries, data) = (number(headers, intro + 8), number(headers, intro + 12));
    let length = u64::from(entries) * INDEX_ENTRY as u64 + u64::from(data);
    if length > limits.header_bytes {
        return Err(PackageError::too_large(
            path,
            format!("the {part}"),
            limits.header_bytes,
        ));
    }
    append(path, file, headers, length as usize, part)?;
    let (index, data) = headers[intro + HEADER_INTRO..].split_at(entries as usize * INDEX_ENTRY);
    check_index(index, data).map_err(|reason| PackageError::malformed(path, format!("its {part} {reason}")))
}

/// The big-endian number at `at`, which the caller knows to be inside.
fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Checks that every entry of the index lies inside the data, and that together they are no longer than the data:
/// entries that overlap would let a small header unfold into gigabytes.
fn check_index(index: &[u8], data: &[u8]) -> Result<(), String> {
    let mut used = 0u64;
    for entry in index.as_chunks::<INDEX_ENTRY>().0 {
        let (tag, kind) = (number(entry, 0), number(entry, 4));
        let (offset, count) = (number(entry, 8), u64::from(number(entry, 12)));
        let rest = data
            .get(offset as usize..)
            .ok_or_else(|| format!("points outside its data (tag {tag})"))?;
        let length = match kind {
            0 => 0,
            1 | 2 | 7 => count,
            3 => count * 2,
            4 => count * 4,
            5 => count * 8,
            6 => strings_length(rest, 1),
            8 | 9 => strings_length(rest, count),
            _ => return Err(format!("has an entry of the unknown type {kind} (tag {tag})")),
        };
        if length > rest.len() as u64 {
            return Err(format!("has an entry longer than its data (tag {tag})"));
        }
        used += length;
        if used > data.len() as u64 {
            return Err("has entries that overlap".to_owned());
        }
    }
    Ok(())
}

/// Bytes that `count` strings take, each with the NUL that ends it; more than there are if one is not ended.
fn strings_length(data: &[u8], count: u64) -> u64 {
    let mut at = 0;
    for _ in 0..count {
        match data[at..].iter().position(|&byte| byte == 0) {
            Some(length) => at += length + 1,
            None => return u64::MAX,
        }
    }
    at as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: u32, offset: u32, count: u32) -> Vec<u8> {
        [1000, kind, offset, count]
            .into_iter()
            .flat_map(u32::to_be_bytes)
            .collect()
    }

    #[test]
    fn accepts_an_index_within_its_data() {
        let index = [entry(6, 0, 1), entry(4, 4, 1), entry(8, 8, 2)].concat();
        assert_eq!(check_index(&index, b"abc\0\0\0\0\x01a\0b\0"), Ok(()));
    }

    #[test]
    fn refuses_an_index_that_points_or_reaches_outside() {
        for (kind, offset, count) in [
            (4, 9, 1),
            (4, u32::MAX, 1),
            (7, 0, 9),
            (4, 0, u32::MAX),
            (8, 0, 3),
            (8, 0, u32::MAX),
            (6, 4, 1),
            (10, 0, 1),
        ] {
            assert!(
                check_index(&entry(kind, offset, count), b"a\0b\0cdef").is_err(),
                "{kind} {offset} {count}"
            );
        }
    }

    #[test]
    fn refuses_entries_that_share_their_data() {
        let index = [entry(7, 0, 8), entry(7, 0, 8)].concat();
        assert_eq!(check_index(&index, &[0; 8]), Err("has entries that overlap".to_owned()));
    }
}

//! The payload: a compressed cpio archive, unpacked as a stream within bounds.
//!
//! The library's own reader is not used on uploads: it allocates the length an entry claims before checking it,
//! unpacks entries nobody asked for without a limit, and takes as many bytes as the archive says rather than the
//! header. Here the whole archive has one budget, each entry must be one the header lists, of the same type and size,
//! and each file must have the digest that the header names. That check is made before [`walk`] goes on to the next
//! entry, so whoever consumed the content of a file must drop it when `walk` fails.

use std::{
    collections::HashMap,
    io::{self, BufReader, Read, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use crate::{
    Limits, PackageError,
    contents::{self, FileKind, PackagedFile},
    hashing::{CHUNK, FileHasher},
    package_file::PackageFile,
};

/// Bytes of an entry's header in the "new ASCII" format.
const ENTRY_HEADER: usize = 110;
const TRAILER: &str = "TRAILER!!!";
/// Longest name of an entry, with its NUL.
const NAME_MAX: usize = 4097;
/// Memory that unpacking xz may take: its strongest preset needs 65 MiB.
const XZ_MEMORY: u64 = 96 << 20;

/// Calls `visit` for each file, directory and link in the archive, in the order of the archive.
///
/// What `visit` does not read of a content is read after it, so that digests are always compared.
pub(crate) fn walk(
    package: &PackageFile,
    files: &[PackagedFile],
    limits: &Limits,
    mut visit: impl FnMut(&PackagedFile, &mut Content<'_>) -> Result<(), PackageError>,
) -> Result<(), PackageError> {
    let mut archive = Archive::open(package, limits)?;
    let by_path: HashMap<&str, usize> = files
        .iter()
        .enumerate()
        .map(|(at, file)| (file.path.as_str(), at))
        .collect();
    let mut seen = vec![false; files.len()];
    while let Some(entry) = archive.next_entry()? {
        let at = *by_path.get(entry.path.as_str()).ok_or_else(|| {
            archive.malformed(format!(
                "its payload holds {:?}, which its header does not list",
                entry.path
            ))
        })?;
        let file = &files[at];
        if std::mem::replace(&mut seen[at], true) {
            return Err(archive.malformed(format!("its payload holds {:?} twice", entry.path)));
        }
        check_agreement(&archive, &entry, file)?;
        let mut content = Content::new(&mut archive, file, entry.size)?;
        if !file.ghost {
            visit(file, &mut content)?;
        }
        content.finish()?;
    }
    let missing = files.iter().zip(seen).find(|(file, seen)| !file.ghost && !seen);
    match missing {
        Some((file, _)) => Err(archive.malformed(format!("its payload lacks {:?}", file.path))),
        None => Ok(()),
    }
}

/// The archive's word on an entry must be the header's.
fn check_agreement(archive: &Archive, entry: &Entry, file: &PackagedFile) -> Result<(), PackageError> {
    let expected_type = match file.kind {
        FileKind::Regular => 0o100_000,
        FileKind::Directory => 0o040_000,
        FileKind::Symlink { .. } => 0o120_000,
    };
    if entry.mode & 0o170_000 != expected_type {
        return Err(archive.malformed(format!("header and payload disagree on the type of {:?}", file.path)));
    }
    let sizes_agree = match &file.kind {
        FileKind::Regular => file.ghost || u64::from(entry.size) == file.size,
        FileKind::Directory => entry.size == 0,
        FileKind::Symlink { target } => entry.size as usize == target.len(),
    };
    // Hard links are caught here as well: all but the last of them have no content. No OBProxy package has any.
    if sizes_agree {
        Ok(())
    } else {
        Err(archive.malformed(format!("header and payload disagree on the size of {:?}", file.path)))
    }
}

/// Header of one entry of the archive.
struct Entry {
    path: String,
    mode: u32,
    size: u32,
}

/// The content of one entry, and the digest it has so far.
pub(crate) struct Content<'a> {
    archive: &'a mut Archive,
    file: &'a PackagedFile,
    hasher: Option<FileHasher>,
    chunk: Vec<u8>,
    size: u32,
    left: usize,
}

impl<'a> Content<'a> {
    fn new(archive: &'a mut Archive, file: &'a PackagedFile, size: u32) -> Result<Self, PackageError> {
        let hasher = match &file.digest {
            Some((algorithm, _)) if file.kind == FileKind::Regular && !file.ghost => {
                let unknown = || archive.malformed(format!("{:?} has a digest of an unknown kind", file.path));
                Some(FileHasher::new(*algorithm).ok_or_else(unknown)?)
            }
            _ => None,
        };
        let left = size as usize;
        Ok(Self {
            archive,
            file,
            hasher,
            chunk: vec![0; left.min(CHUNK)],
            size,
            left,
        })
    }

    /// The next bytes of the content; `None` at its end.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<&[u8]>, PackageError> {
        if self.left == 0 {
            return Ok(None);
        }
        let chunk = &mut self.chunk[..self.left.min(CHUNK)];
        self.archive.read_exact(chunk)?;
        self.left -= chunk.len();
        if let Some(hasher) = &mut self.hasher {
            hasher.update(chunk);
        }
        Ok(Some(chunk))
    }

    /// Reads what is left and the padding, and compares the digest.
    fn finish(mut self) -> Result<(), PackageError> {
        while self.next_chunk()?.is_some() {}
        self.archive.skip_padding(self.size as usize)?;
        if let (Some(hasher), Some((_, expected))) = (self.hasher, &self.file.digest) {
            let actual = hasher.finish();
            if !expected.eq_ignore_ascii_case(&actual) {
                return Err(PackageError::DigestMismatch {
                    path: self.archive.package.clone(),
                    object: self.file.path.clone(),
                    expected: expected.clone(),
                    actual,
                });
            }
        }
        Ok(())
    }
}

/// The unpacked archive, read forward only.
struct Archive {
    package: PathBuf,
    stream: Budget<Box<dyn Read>>,
    limit: u64,
}

impl Archive {
    fn open(package: &PackageFile, limits: &Limits) -> Result<Self, PackageError> {
        let path = &package.path;
        let mut file = package.file.try_clone().map_err(PackageError::io("open", path))?;
        file.seek(SeekFrom::Start(package.payload_offset))
            .map_err(PackageError::io("read", path))?;
        let mut start = [0; 6];
        let mut reader = BufReader::with_capacity(CHUNK, file);
        reader
            .read_exact(&mut start)
            .map_err(|_| PackageError::malformed(path, "it has no payload"))?;
        reader
            .seek(SeekFrom::Start(package.payload_offset))
            .map_err(PackageError::io("read", path))?;
        // The first bytes decide, not the header: it may be wrong, and the bytes cannot be.
        let stream: Box<dyn Read> = match start {
            [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
            // The decoder refuses windows above 128 MiB by itself.
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                let decoder = zstd::stream::Decoder::with_buffer(reader);
                Box::new(decoder.map_err(PackageError::io("unpack", path))?)
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0] => {
                let decoder = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, 0).map_err(|error| {
                    PackageError::malformed(path, format!("its payload cannot be unpacked: {error}"))
                })?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(reader, decoder))
            }
            [b'0', b'7', b'0', b'7', b'0', _] => Box::new(reader),
            _ => {
                let reason = "its payload is not compressed with gzip, zstd or xz";
                return Err(PackageError::malformed(path, reason));
            }
        };
        let limit = limits.total_bytes;
        Ok(Self {
            package: path.clone(),
            stream: Budget {
                inner: stream,
                left: limit,
            },
            limit,
        })
    }

    fn malformed(&self, reason: String) -> PackageError {
        PackageError::malformed(&self.package, reason)
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> Result<(), PackageError> {
        self.stream.read_exact(bytes).map_err(|error| {
            if error.get_ref().is_some_and(|inner| inner.is::<BudgetSpent>()) {
                PackageError::too_large(&self.package, "the unpacked payload", self.limit)
            } else if error.raw_os_error().is_some() {
                PackageError::io("read", &self.package)(error)
            } else if error.kind() == io::ErrorKind::UnexpectedEof {
                self.malformed("its payload ends too early".to_owned())
            } else {
                self.malformed(format!("its payload cannot be unpacked: {error}"))
            }
        })
    }

    /// Skips to the next multiple of four after something of `length` bytes.
    fn skip_padding(&mut self, length: usize) -> Result<(), PackageError> {
        let mut padding = [0; 3];
        let count = length.next_multiple_of(4) - length;
        self.read_exact(&mut padding[..count])
    }

    /// The header of the next entry; `None` after the last.
    fn next_entry(&mut self) -> Result<Option<Entry>, PackageError> {
        let mut header = [0; ENTRY_HEADER];
        self.read_exact(&mut header)?;
        // 070701, or 070702 with a checksum that the digests make needless; 07070X is for files above 4 GiB.
        if !matches!(&header[..6], b"070701" | b"070702") {
            return Err(self.malformed("its payload is not a cpio archive of the usual kind".to_owned()));
        }
        let field = |number: usize| {
            let digits = &header[6 + number * 8..14 + number * 8];
            let text = digits
                .iter()
                .all(u8::is_ascii_hexdigit)
                .then(|| str::from_utf8(digits).ok())
                .flatten();
            text.and_then(|text| u32::from_str_radix(text, 16).ok())
        };
        let (Some(mode), Some(size), Some(name_length)) = (field(1), field(6), field(11)) else {
            return Err(self.malformed("its payload has an entry with a malformed header".to_owned()));
        };
        let name_length = name_length as usize;
        if !(1..=NAME_MAX).contains(&name_length) {
            return Err(self.malformed(format!("its payload has an entry with a name of {name_length} bytes")));
        }
        let mut name = vec![0; name_length];
        self.read_exact(&mut name)?;
        self.skip_padding(ENTRY_HEADER + name_length)?;
        if name.pop() != Some(0) {
            return Err(self.malformed("its payload has an entry with an unended name".to_owned()));
        }
        let name = String::from_utf8(name)
            .map_err(|_| self.malformed("its payload has an entry whose name is not UTF-8".to_owned()))?;
        if name == TRAILER {
            return Ok(None);
        }
        let path = entry_path(&self.package, &name)?;
        Ok(Some(Entry { path, mode, size }))
    }
}

/// The absolute path of an entry called `./home/x`, `home/x` or `/home/x`.
fn entry_path(package: &Path, name: &str) -> Result<String, PackageError> {
    contents::normalise(&format!("/{name}")).map_err(|reason| PackageError::UnsafePath {
        package: package.to_owned(),
        path: name.to_owned(),
        reason: reason.to_owned(),
    })
}

/// A reader that fails when more than its budget is read.
struct Budget<R> {
    inner: R,
    left: u64,
}

/// The budget is spent; [`Archive::read_exact`] turns it into [`PackageError::TooLarge`].
#[derive(Debug, thiserror::Error)]
#[error("the budget is spent")]
struct BudgetSpent;

impl<R: Read> Read for Budget<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let allowed = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if allowed == 0 {
            return Err(io::Error::other(BudgetSpent));
        }
        let read = self.inner.read(&mut bytes[..allowed])?;
        self.left -= read as u64;
        Ok(read)
    }
}

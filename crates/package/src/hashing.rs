//! Digests of streams: whole files, payloads, and the files inside with the algorithm their package chose.

use std::{
    fs::File,
    io::{self, BufReader, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use md5::Md5;
use rpm::DigestAlgorithm;
use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};

use crate::PackageError;

/// Bytes read at once.
pub(crate) const CHUNK: usize = 128 * 1024;

/// The bytes of `file` from `start` to its end. It moves the file's one position, so nobody else reads it meanwhile.
pub(crate) fn reader(mut file: &File, start: u64) -> io::Result<BufReader<&File>> {
    file.seek(SeekFrom::Start(start))?;
    Ok(BufReader::with_capacity(CHUNK, file))
}

/// Whether nobody can make another file with the same digest of this kind.
pub(crate) fn is_strong(algorithm: DigestAlgorithm) -> bool {
    use DigestAlgorithm as Kind;
    matches!(algorithm, Kind::Sha2_256 | Kind::Sha2_384 | Kind::Sha2_512)
}

/// Gives the bytes of `file` from `start` to its end to `sink`, a chunk at a time.
pub(crate) fn stream(mut file: &File, start: u64, mut sink: impl FnMut(&[u8])) -> io::Result<()> {
    file.seek(SeekFrom::Start(start))?;
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => sink(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// SHA-256 in hexadecimal of the file at `path`.
pub(crate) fn sha256_of(path: &Path) -> Result<String, PackageError> {
    let mut hasher = Sha256::new();
    let file = File::open(path).map_err(PackageError::io("open", path))?;
    stream(&file, 0, |chunk| hasher.update(chunk)).map_err(PackageError::io("read", path))?;
    Ok(hex::encode(hasher.finalize()))
}

/// A hash under way, of the algorithm that a package uses for its files.
pub(crate) enum FileHasher {
    Md5(Md5),
    Sha224(Sha224),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl FileHasher {
    /// `None` for an algorithm that no OBProxy package uses (SHA-3).
    pub(crate) fn new(algorithm: DigestAlgorithm) -> Option<Self> {
        Some(match algorithm {
            DigestAlgorithm::Md5 => Self::Md5(Md5::new()),
            DigestAlgorithm::Sha2_224 => Self::Sha224(Sha224::new()),
            DigestAlgorithm::Sha2_256 => Self::Sha256(Sha256::new()),
            DigestAlgorithm::Sha2_384 => Self::Sha384(Sha384::new()),
            DigestAlgorithm::Sha2_512 => Self::Sha512(Sha512::new()),
            _ => return None,
        })
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(hasher) => hasher.update(bytes),
            Self::Sha224(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha384(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest in hexadecimal.
    pub(crate) fn finish(self) -> String {
        match self {
            Self::Md5(hasher) => hex::encode(hasher.finalize()),
            Self::Sha224(hasher) => hex::encode(hasher.finalize()),
            Self::Sha256(hasher) => hex::encode(hasher.finalize()),
            Self::Sha384(hasher) => hex::encode(hasher.finalize()),
            Self::Sha512(hasher) => hex::encode(hasher.finalize()),
        }
    }
}

//! The files that a package's header lists, with names made safe.

use std::path::Path;

use rpm::{DigestAlgorithm, FileEntry, FileFlags, FileType, IndexTag};

use crate::{Limits, PackageError, package_file::PackageFile};

/// What an entry of a package is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points, as written in the package.
        target: String,
    },
}

/// One file, directory or link of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackagedFile {
    /// Absolute path where the package wants it, without `.`, `..` and repeated slashes.
    pub path: String,
    /// What it is.
    pub kind: FileKind,
    /// Bytes, unpacked.
    pub size: u64,
    /// Whether its owner may execute it.
    pub executable: bool,
    pub(crate) digest: Option<(DigestAlgorithm, String)>,
    /// Listed but not shipped (`%ghost`).
    pub(crate) ghost: bool,
}

/// Reads the list of files within `limits`; refuses unsafe paths, special files and repeated names.
pub(crate) fn read(package: &PackageFile, limits: &Limits) -> Result<Vec<PackagedFile>, PackageError> {
    let path = &package.path;
    let entries = match package.metadata.header.entry(IndexTag::RPMTAG_FILEMODES as u32) {
        Ok(rpm::IndexData::Int16(modes)) => modes.len(),
        _ => 0,
    };
    if entries > limits.entries {
        return Err(PackageError::TooManyEntries {
            path: path.clone(),
            entries,
            limit: limits.entries,
        });
    }
    let mut files = Vec::with_capacity(entries);
    let listed = package.metadata.get_file_entries();
    for entry in listed.map_err(|error| PackageError::malformed(path, error.to_string()))? {
        files.push(read_entry(path, &entry)?);
    }
    let mut names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(PackageError::malformed(path, format!("it lists {:?} twice", twice[0])));
    }
    check_sizes(path, &files, limits)?;
    Ok(files)
}

fn read_entry(package: &Path, entry: &FileEntry<'_>) -> Result<PackagedFile, PackageError> {
    let named = format!("{}/{}", entry.dirname(), entry.basename());
    let path = normalise(&named).map_err(|reason| PackageError::UnsafePath {
        package: package.to_owned(),
        path: named.clone(),
        reason: reason.to_owned(),
    })?;
    let kind = match entry.file_type() {
        FileType::Regular => FileKind::Regular,
        FileType::Dir => FileKind::Directory,
        FileType::SymbolicLink => FileKind::Symlink {
            target: entry.linkto().unwrap_or_default().to_owned(),
        },
        special => {
            let kind = match special {
                FileType::Fifo => "a named pipe",
                FileType::CharacterDevice | FileType::BlockDevice => "a device",
                FileType::Socket => "a socket",
                _ => "of an unknown type",
            };
            return Err(PackageError::SpecialFile {
                package: package.to_owned(),
                path,
                kind,
            });
        }
    };
    Ok(PackagedFile {
        path,
        kind,
        size: entry.size() as u64,
        executable: entry.permissions() & 0o100 != 0,
        digest: entry
            .digest()
            .map(|digest| (digest.algorithm(), digest.as_hex().to_owned())),
        ghost: entry.flags().contains(FileFlags::GHOST),
    })
}

fn check_sizes(package: &Path, files: &[PackagedFile], limits: &Limits) -> Result<(), PackageError> {
    let mut total = 0u64;
    for file in files.iter().filter(|file| file.kind == FileKind::Regular) {
        if file.size > limits.file_bytes {
            return Err(PackageError::too_large(package, &file.path, limits.file_bytes));
        }
        total = total.saturating_add(file.size);
    }
    if total > limits.total_bytes {
        return Err(PackageError::too_large(
            package,
            "the unpacked payload",
            limits.total_bytes,
        ));
    }
    Ok(())
}

/// The absolute path without empty and `.` parts; the error says why it is unsafe.
pub(crate) fn normalise(path: &str) -> Result<String, &'static str> {
    if !path.starts_with('/') {
        return Err("it is not absolute");
    }
    if path.len() > 4096 {
        return Err("it is longer than 4096 bytes");
    }
    if path.contains(char::is_control) {
        return Err("it contains a control character");
    }
    let mut clean = String::with_capacity(path.len());
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            return Err("it climbs with '..'");
        }
        clean.push('/');
        clean.push_str(part);
    }
    Ok(if clean.is_empty() { "/".to_owned() } else { clean })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_paths() {
        assert_eq!(normalise("/home//admin/./x/").unwrap(), "/home/admin/x");
        assert_eq!(normalise("//").unwrap(), "/");
        assert_eq!(normalise("/a/..b/...").unwrap(), "/a/..b/...");
    }

    #[test]
    fn refuses_paths_that_climb_or_hide() {
        for path in [
            "",
            "a",
            "../a",
            "/a/../b",
            "/..",
            "/a/..",
            "/a\0b",
            "/a\nb",
            &"/a".repeat(3000),
        ] {
            assert!(normalise(path).is_err(), "{path:?}");
        }
    }
}

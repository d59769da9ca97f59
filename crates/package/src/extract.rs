//! Turns a package into a slot.
//!
//! Only `bin/` and `lib/` of the package's prefix are taken. Nothing in the package decides where we write: directories
//! are made by us in a new private directory, files are created new in them, and links are made last, when no file is
//! written any more, so no file can be written through one.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::Write as _,
    os::unix::fs::{self as unix, DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use sha2::{Digest as _, Sha256};

use crate::{
    Limits, PackageError, Slot,
    contents::{self, FileKind, PackagedFile},
    elf,
    identity::Identity,
    inspect,
    package_file::PackageFile,
    payload::{self, Content},
    slot::{EXECUTABLE, Manifest, SlotsDirectory, Staging, Stored},
    verify,
};

/// Unpacks the proxy of the package at `path` to `<slots_dir>/obproxy-<version>-<release>`.
///
/// The package is verified as [`crate::verify`] does, and must be for this host. The slot appears whole, by a rename,
/// after everything in it is on disk. If it is there already with the same content, it is returned as it is; with other
/// content it is a [`PackageError::SlotConflict`]. Leftovers of earlier crashes are removed on the way.
///
/// Of modes only the owner's execute bit is kept: files get 0755 or 0644, never set-user-id. Scriptlets are not run.
pub fn extract(path: &Path, slots_dir: &Path, limits: &Limits) -> Result<Slot, PackageError> {
    let package = PackageFile::open(path, limits)?;
    let identity = Identity::read(path, &package.metadata)?;
    if identity.arch != elf::HOST {
        return Err(PackageError::WrongMachine {
            path: path.to_owned(),
            object: "the header".to_owned(),
            found: identity.arch,
            host: elf::HOST,
        });
    }
    let files = contents::read(&package, limits)?;
    let Some((prefix, executable)) = inspect::executable(&identity, &files) else {
        return Err(PackageError::NoProxyBinary {
            path: path.to_owned(),
            name: identity.name,
        });
    };
    if !executable.executable {
        return Err(not_executable(path, "its mode lacks the execute bit"));
    }
    let wanted = select(path, &prefix, &files)?;
    verify::verify_payload(&package, &files, limits)?;

    let slots = SlotsDirectory::lock(slots_dir)?;
    let staging = slots.stage(&identity.slot_name())?;
    let stored = unpack(&package, &files, &wanted, limits, &staging)?;
    check_machine(path, &staging.path.join(EXECUTABLE))?;
    let binary_sha256 = match stored.get(EXECUTABLE) {
        Some(Stored::File { sha256, .. }) => sha256.clone(),
        _ => {
            return Err(PackageError::NoProxyBinary {
                path: path.to_owned(),
                name: identity.name,
            });
        }
    };
    let manifest = Manifest {
        package: identity.name,
        version: identity.version,
        binary_sha256,
        files: stored,
    };
    if fs::symlink_metadata(&staging.target).is_ok() {
        return match manifest.difference(&staging.target) {
            None => Ok(Slot::new(staging.target.clone(), &manifest)),
            Some(reason) => Err(PackageError::SlotConflict {
                slot: staging.target.clone(),
                package: path.to_owned(),
                reason,
            }),
        };
    }
    let json = manifest
        .to_json()
        .map_err(|error| PackageError::malformed(path, error.to_string()))?;
    let mut file = create_file(&staging.path.join(Manifest::FILE_NAME), false)?;
    file.write_all(&json)
        .and_then(|()| file.sync_all())
        .map_err(PackageError::io("write", &staging.path))?;
    Ok(Slot::new(staging.publish()?, &manifest))
}

fn not_executable(package: &Path, reason: &str) -> PackageError {
    PackageError::NotExecutable {
        path: package.to_owned(),
        file: EXECUTABLE.to_owned(),
        reason: reason.to_owned(),
    }
}

/// The entries to unpack: by path in the package, their path in the slot.
type Wanted<'a> = BTreeMap<&'a str, &'a str>;

/// Chooses what lies in `bin/` and `lib/` of the prefix, and refuses links that lead, or let lead, out of the slot.
fn select<'a>(package: &Path, prefix: &str, files: &'a [PackagedFile]) -> Result<Wanted<'a>, PackageError> {
    let unsafe_path = |file: &PackagedFile, reason: &str| PackageError::UnsafePath {
        package: package.to_owned(),
        path: file.path.clone(),
        reason: reason.to_owned(),
    };
    let mut wanted = Wanted::new();
    let mut kinds = BTreeMap::new();
    for file in files.iter().filter(|file| !file.ghost) {
        let Some(inside) = file.path.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')) else {
            continue;
        };
        if !matches!(inside.split('/').next(), Some("bin" | "lib")) {
            continue;
        }
        if let FileKind::Symlink { target } = &file.kind {
            check_link(inside, target).map_err(|reason| unsafe_path(file, reason))?;
        }
        wanted.insert(file.path.as_str(), inside);
        kinds.insert(inside, file);
    }
    for (inside, file) in &kinds {
        let parents = inside.match_indices('/').map(|(at, _)| &inside[..at]);
        for parent in parents.filter_map(|parent| kinds.get(parent)) {
            if parent.kind != FileKind::Directory {
                return Err(unsafe_path(file, "it lies below something that is not a directory"));
            }
        }
    }
    Ok(wanted)
}

/// Follows the link at `inside`, a path in the slot, by its text alone; it must not leave the slot.
fn check_link(inside: &str, target: &str) -> Result<(), &'static str> {
    if target.is_empty() || target.starts_with('/') || target.contains(char::is_control) {
        return Err("its link target is absolute, empty or contains a control character");
    }
    let mut depth = inside.matches('/').count();
    for part in target.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            depth = depth.checked_sub(1).ok_or("its link target leads out of the slot")?;
        } else {
            depth += 1;
        }
    }
    Ok(())
}

/// Writes the wanted files, then the links, and returns what was stored by its path in the slot.
fn unpack(
    package: &PackageFile,
    files: &[PackagedFile],
    wanted: &Wanted<'_>,
    limits: &Limits,
    staging: &Staging<'_>,
) -> Result<BTreeMap<String, Stored>, PackageError> {
    let root = &staging.path;
    let mut stored = BTreeMap::new();
    payload::walk(package, files, limits, |file, content| {
        let Some(&inside) = wanted.get(file.path.as_str()) else {
            return Ok(());
        };
        match &file.kind {
            FileKind::Directory => create_directories(root, inside),
            FileKind::Regular => {
                if let Some((parent, _)) = inside.rsplit_once('/') {
                    create_directories(root, parent)?;
                }
                let sha256 = write_file(&root.join(inside), file.executable, content)?;
                stored.insert(
                    inside.to_owned(),
                    Stored::File {
                        sha256,
                        executable: file.executable,
                    },
                );
                Ok(())
            }
            FileKind::Symlink { target } => {
                stored.insert(inside.to_owned(), Stored::Link { target: target.clone() });
                Ok(())
            }
        }
    })?;
    for (inside, link) in &stored {
        if let Stored::Link { target } = link {
            if let Some((parent, _)) = inside.rsplit_once('/') {
                create_directories(root, parent)?;
            }
            let path = root.join(inside);
            unix::symlink(target, &path).map_err(PackageError::io("create link", &path))?;
        }
    }
    Ok(stored)
}

/// Creates the directories of `inside` below `root` that are not there yet.
fn create_directories(root: &Path, inside: &str) -> Result<(), PackageError> {
    let path = root.join(inside);
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&path)
        .map_err(PackageError::io("create", &path))
}

fn create_file(path: &Path, executable: bool) -> Result<File, PackageError> {
    let mode = if executable { 0o755 } else { 0o644 };
    // O_EXCL, so that neither a file nor a link of that name is followed.
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let file = file.map_err(PackageError::io("create", path))?;
    // The mode of a new file is cut by the umask.
    file.set_permissions(Permissions::from_mode(mode))
        .map_err(PackageError::io("set the mode of", path))?;
    Ok(file)
}

/// Writes one file durably and returns its SHA-256.
fn write_file(path: &Path, executable: bool, content: &mut Content<'_>) -> Result<String, PackageError> {
    let mut file = create_file(path, executable)?;
    let mut sha256 = Sha256::new();
    while let Some(chunk) = content.next_chunk()? {
        sha256.update(chunk);
        file.write_all(chunk).map_err(PackageError::io("write", path))?;
    }
    file.sync_all().map_err(PackageError::io("sync", path))?;
    Ok(hex::encode(sha256.finalize()))
}

fn check_machine(package: &Path, executable: &Path) -> Result<(), PackageError> {
    use std::io::Read as _;
    let mut start = Vec::with_capacity(elf::PREFIX);
    File::open(executable)
        .and_then(|file| file.take(elf::PREFIX as u64).read_to_end(&mut start))
        .map_err(PackageError::io("read", executable))?;
    let found = elf::machine(&start).map_err(|reason| not_executable(package, reason))?;
    if found == elf::HOST {
        return Ok(());
    }
    Err(PackageError::WrongMachine {
        path: package.to_owned(),
        object: EXECUTABLE.to_owned(),
        found,
        host: elf::HOST,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_links_by_their_text() {
        for target in ["libstdc++.so.6", "../bin/obproxy", "./a/../b", "a/../../lib/b"] {
            assert_eq!(check_link("lib/x", target), Ok(()), "{target}");
        }
        for target in ["", "/etc/passwd", "../../x", "a/../../../x", "..\n", "../bin/../../x"] {
            assert!(check_link("lib/x", target).is_err(), "{target:?}");
        }
    }
}

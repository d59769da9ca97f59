//! Turns an executable that runs already into a slot.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use obfleet_wire::version::ProxyVersion;

use crate::{
    PackageError, Slot, list_slots, read_slot,
    slot::{EXECUTABLE, Manifest, SlotsDirectory, Stored, regular_file_sha256},
};

/// Names such slots behind those of packages, whose suffix is that of a system.
const SUFFIX: &str = "taken-over";

/// Keeps a copy of the executable at `executable` as the slot of its version, unless there is a slot of that version that
/// holds the same. The slot appears whole, by a rename, after everything in it is on disk. → the slot, and whether it was
/// made
pub fn take(executable: &Path, version: &ProxyVersion, slots_dir: &Path) -> Result<(Slot, bool), PackageError> {
    let slots = SlotsDirectory::lock(slots_dir)?;
    let staging = slots.stage(&format!("obproxy-{version}.{SUFFIX}"))?;
    let copy = staging.path.join(EXECUTABLE);
    let bin = copy.parent().unwrap_or(&staging.path);
    DirBuilder::new()
        .mode(0o755)
        .create(bin)
        .map_err(PackageError::io("create", bin))?;
    let copied = || -> io::Result<()> {
        let mut from = File::open(executable)?;
        let options = OpenOptions::new().write(true).create_new(true).mode(0o755).clone();
        let mut to = options.open(&copy)?;
        io::copy(&mut from, &mut to)?;
        to.sync_all()
    };
    copied().map_err(PackageError::io("copy", executable))?;
    let hash = regular_file_sha256(&copy).map_err(|reason| PackageError::BadSlot {
        slot: staging.path.clone(),
        reason,
    })?;
    let same = |slot: &Slot| slot.version == *version && slot.binary_sha256 == hash;
    if let Some(there) = list_slots(slots_dir)?.into_iter().find(same)
        && let Ok(there) = read_slot(&there.path)
    {
        return Ok((there, false));
    }
    if fs::symlink_metadata(&staging.target).is_ok() {
        // Of another build of the version that was taken over before: nothing says which is the right one.
        return Err(PackageError::BadSlot {
            slot: staging.target.clone(),
            reason: format!("it holds another executable than {}", executable.display()),
        });
    }
    let stored = Stored::File {
        sha256: hash.clone(),
        executable: true,
    };
    let manifest = Manifest {
        package: "obproxy".to_owned(),
        version: version.clone(),
        binary_sha256: hash,
        files: BTreeMap::from([(EXECUTABLE.to_owned(), stored)]),
    };
    let path = staging.path.join(Manifest::FILE_NAME);
    let json = manifest.to_json().map_err(io::Error::other);
    let written = json.and_then(|json| {
        fs::write(&path, json)?;
        File::open(&path)?.sync_all()
    });
    written.map_err(PackageError::io("write", &path))?;
    let path = staging.publish()?;
    Ok((read_slot(&path)?, true))
}

/// Whether the slot was made so.
pub fn is_taken(slot: &Slot) -> bool {
    slot.path.extension().is_some_and(|extension| extension == SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_becomes_a_slot_once() {
        let dir = tempfile::tempdir().unwrap();
        let (slots, file) = (dir.path().join("slots"), dir.path().join("obproxy"));
        fs::write(&file, "one").unwrap();
        let version: ProxyVersion = "4.2.1.0-11".parse().unwrap();
        let (slot, made) = take(&file, &version, &slots).unwrap();
        assert!(made && is_taken(&slot));
        assert_eq!(fs::read(slot.binary()).unwrap(), b"one");
        assert_eq!(take(&file, &version, &slots).unwrap(), (slot.clone(), false));
        assert_eq!(list_slots(&slots).unwrap(), [slot]);

        fs::write(&file, "two").unwrap();
        assert!(matches!(
            take(&file, &version, &slots),
            Err(PackageError::BadSlot { .. })
        ));
        let other: ProxyVersion = "4.2.1.0-12".parse().unwrap();
        assert!(take(&file, &other, &slots).unwrap().1);
        assert_eq!(list_slots(&slots).unwrap().len(), 2);
    }
}

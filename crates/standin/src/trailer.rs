//! What makes an executable a stand-in: JSON, its length and a magic at the very end of the file.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::faults::Faults;

const MAGIC: [u8; 8] = *b"OBFSTAND";
/// Length and magic.
const FOOTER_LEN: u64 = 4 + MAGIC.len() as u64;
const MAX_JSON: u64 = 16 << 10;

/// Which OBProxy a stand-in is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trailer {
    /// Four numbers, such as `4.3.1.0`.
    pub version: String,
    /// Release, such as `1.el7`.
    pub release: String,
    /// What is wrong with this build.
    #[serde(default)]
    pub faults: Faults,
    /// Answer ordinary users with an OK to everything instead of relaying them.
    #[serde(default)]
    pub fake_backend: bool,
}

/// The trailer of the executable at `exe`, if it has one. Reads a few hundred bytes at the end, whatever the file's size.
pub fn is_standin(exe: &Path) -> io::Result<Option<Trailer>> {
    let file = File::open(exe)?;
    let Some((json, _)) = read_json(&file)? else {
        return Ok(None);
    };
    Ok(Some(serde_json::from_slice(&json)?))
}

/// Writes to `out` a copy of the executable at `exe` with `trailer` in the place of any it had, mode 0755.
pub fn pack(exe: &Path, trailer: &Trailer, out: &Path) -> io::Result<()> {
    let bare_len = match read_json(&File::open(exe)?)? {
        Some((_, start)) => start,
        None => fs::metadata(exe)?.len(),
    };
    fs::copy(exe, out)?;
    fs::set_permissions(out, fs::Permissions::from_mode(0o755))?;
    let json = serde_json::to_vec(trailer)?;
    let mut file = File::options().append(true).open(out)?;
    file.set_len(bare_len)?;
    file.write_all(&json)?;
    file.write_all(&(json.len() as u32).to_le_bytes())?;
    file.write_all(&MAGIC)
}

/// The trailer's JSON and the offset at which it starts.
fn read_json(file: &File) -> io::Result<Option<(Vec<u8>, u64)>> {
    let Some(footer_start) = file.metadata()?.len().checked_sub(FOOTER_LEN) else {
        return Ok(None);
    };
    let mut len = [0; 4];
    let mut magic = [0; MAGIC.len()];
    file.read_exact_at(&mut len, footer_start)?;
    file.read_exact_at(&mut magic, footer_start + 4)?;
    if magic != MAGIC {
        return Ok(None);
    }
    let len = u64::from(u32::from_le_bytes(len));
    let start = footer_start
        .checked_sub(len)
        .filter(|_| len <= MAX_JSON)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the trailer's length is wrong"))?;
    let mut json = vec![0; len as usize];
    file.read_exact_at(&mut json, start)?;
    Ok(Some((json, start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trailer(version: &str) -> Trailer {
        Trailer {
            version: version.into(),
            release: "1.el7".into(),
            ..Trailer::default()
        }
    }

    #[test]
    fn a_packed_copy_carries_its_trailer_and_can_be_packed_again() {
        let dir = tempfile::tempdir().unwrap();
        let (bare, first, second) = (
            dir.path().join("bare"),
            dir.path().join("first"),
            dir.path().join("second"),
        );
        fs::write(&bare, b"an executable").unwrap();
        assert_eq!(is_standin(&bare).unwrap(), None);

        pack(&bare, &trailer("4.2.1.0"), &first).unwrap();
        assert_eq!(is_standin(&first).unwrap(), Some(trailer("4.2.1.0")));
        pack(&first, &trailer("4.3.1.0"), &second).unwrap();
        assert_eq!(is_standin(&second).unwrap(), Some(trailer("4.3.1.0")));
        assert_eq!(
            fs::metadata(&first).unwrap().len(),
            fs::metadata(&second).unwrap().len()
        );
        assert_eq!(fs::metadata(&second).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn short_and_broken_files_are_no_standins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, b"x").unwrap();
        assert_eq!(is_standin(&path).unwrap(), None);
        fs::write(&path, [&[0xff; 4][..], &MAGIC].concat()).unwrap();
        assert_eq!(is_standin(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}

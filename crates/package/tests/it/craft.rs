//! Packages to test with, honest and not.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rpm::{
    BuildConfig, CompressionWithLevel, FileOptions, Header, HeaderEntry, IndexData, IndexTag, Package, PackageBuilder,
    PackageMetadata, RpmFormat, SignatureHeaderBuilder,
};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

pub const PREFIX: &str = "/home/admin/obproxy-4.3.1.0";
pub const SLOT: &str = "obproxy-4.3.1.0-1.el7";

/// A directory for one test, with a place for slots inside.
pub struct Bench {
    pub dir: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn slots(&self) -> PathBuf {
        self.dir.path().join("slots")
    }

    pub fn slot(&self) -> PathBuf {
        self.slots().join(SLOT)
    }

    /// Writes `bytes` to a file of the test's directory.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Writes the package to a file.
    pub fn package(&self, package: &Package) -> PathBuf {
        let path = self.dir.path().join("package.rpm");
        package.write_file(&path).unwrap();
        path
    }

    /// Everything below the test's directory except the package itself, sorted; links are not followed.
    pub fn tree(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(self.dir.path(), self.dir.path(), &mut found);
        found.retain(|path| path != "package.rpm");
        found.sort();
        found
    }

    /// Asserts that a refused extraction left nothing but the slots directory and its lock.
    pub fn assert_nothing_written(&self) {
        let left: Vec<String> = self
            .tree()
            .into_iter()
            .filter(|path| path != "slots" && path != "slots/.lock")
            .collect();
        assert_eq!(left, Vec::<String>::new());
    }
}

fn collect(root: &Path, dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        found.push(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        if entry.file_type().unwrap().is_dir() {
            collect(root, &entry.path(), found);
        }
    }
}

/// A program of this host, as far as its header goes, of `size` bytes that do not compress well.
pub fn program(size: usize) -> Vec<u8> {
    program_for(if cfg!(target_arch = "x86_64") { 62 } else { 183 }, size)
}

pub fn program_for(machine: u16, size: usize) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0".to_vec();
    bytes.extend(machine.to_le_bytes());
    let mut state = 1u32;
    while bytes.len() < size {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.push((state >> 24) as u8);
    }
    bytes
}

pub fn other_arch() -> (&'static str, u16) {
    if cfg!(target_arch = "x86_64") {
        ("aarch64", 183)
    } else {
        ("x86_64", 62)
    }
}

/// A builder with name, version and release set, to which a test adds files.
pub fn builder() -> PackageBuilder {
    builder_for("obproxy-ce", std::env::consts::ARCH, CompressionWithLevel::Gzip(1))
}

pub fn builder_for(name: &str, arch: &str, compression: CompressionWithLevel) -> PackageBuilder {
    let mut builder = PackageBuilder::new(name, "4.3.1.0", "Mulan PubL v2", arch, "a test");
    builder
        .release("1.el7")
        .using_config(BuildConfig::v4().compression(compression));
    builder
}

/// Adds a file below the prefix.
pub fn add(builder: &mut PackageBuilder, inside: &str, content: &[u8], mode: u16) {
    let options = FileOptions::new(format!("{PREFIX}/{inside}")).permissions(mode);
    builder.with_file_contents(content, options).unwrap();
}

pub fn add_link(builder: &mut PackageBuilder, inside: &str, target: &str) {
    builder
        .with_symlink(FileOptions::symlink(format!("{PREFIX}/{inside}"), target))
        .unwrap();
}

/// A good package as the vendor lays it out, with what `extra` adds.
pub fn good_with(extra: impl FnOnce(&mut PackageBuilder)) -> Package {
    let mut builder = builder();
    add(&mut builder, "bin/obproxy", &program(5000), 0o755);
    extra(&mut builder);
    builder.build().unwrap()
}

pub fn good() -> Package {
    good_with(|_| ())
}

pub fn bytes(package: &Package) -> Vec<u8> {
    let mut bytes = Vec::new();
    package.write(&mut bytes).unwrap();
    bytes
}

/// The package with another payload, whose digest its header then names.
pub fn with_payload(package: &Package, payload: Vec<u8>) -> Package {
    let digest = hex::encode(Sha256::digest(&payload));
    let mut changed = change_header(package, |tag, data| {
        let replaced = if tag == IndexTag::RPMTAG_PAYLOADSHA256 as u32 {
            IndexData::StringArray(vec![digest.clone()])
        } else {
            data
        };
        // The builder names these as well; they would not match any more.
        (tag != IndexTag::RPMTAG_PAYLOAD_SHA512 as u32).then_some(replaced)
    });
    changed.payload = payload;
    changed
}

/// The unpacked archive of the package.
pub fn archive(package: &Package) -> Vec<u8> {
    let mut unpacked = package.clone();
    unpacked.decompress_payload().unwrap();
    unpacked.payload
}

/// The package with each entry of its header replaced (or dropped, for `None`), and sealed again.
pub fn change_header(package: &Package, change: impl Fn(u32, IndexData) -> Option<IndexData>) -> Package {
    let entries = package.metadata.header.get_all_entries().unwrap();
    let region = IndexTag::RPMTAG_HEADERIMMUTABLE;
    let entries = entries.into_iter().filter(|(tag, _)| *tag != region as u32);
    let entries = entries.filter_map(|(tag, data)| Some(HeaderEntry::new(tag, change(tag, data)?)));
    let header = Header::from_entries(entries.collect::<Vec<_>>(), region);
    let mut metadata = PackageMetadata {
        header,
        ..package.metadata.clone()
    };
    let sealed = SignatureHeaderBuilder::new().format(RpmFormat::V4);
    metadata.signature = sealed
        .calculate_digests(&metadata.header_bytes().unwrap())
        .build()
        .unwrap();
    // Written and read again, because a header that was only built does not answer every question.
    let mut file = Vec::new();
    Package {
        metadata,
        payload: package.payload.clone(),
    }
    .write(&mut file)
    .unwrap();
    Package::parse(&mut file.as_slice()).unwrap()
}

/// Puts `header` in place of the main header of `package` and gives it a digest that fits, whatever it holds.
pub fn seal(package: &Package, header: &[u8]) -> Vec<u8> {
    let mut metadata = package.metadata.clone();
    let sealed = SignatureHeaderBuilder::new().format(RpmFormat::V4);
    metadata.signature = sealed.calculate_digests(header).build().unwrap();
    let mut file = Vec::new();
    metadata.write(&mut file).unwrap();
    file.truncate(metadata.get_package_segment_offsets().header as usize);
    [file.as_slice(), header, &package.payload].concat()
}

//! Builds packages laid out as the vendor's are, for demonstrations and tests.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rpm::{BuildConfig, CompressionWithLevel, FileOptions, PackageBuilder};

use crate::{
    PackageError,
    identity::{ARCHITECTURES, Identity},
};

/// What the package to build is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildSpec {
    /// Package name, `obproxy-ce`.
    pub name: String,
    /// Dotted version, `4.3.1.0`.
    pub version: String,
    /// Build number and operating system, `1.el7`.
    pub release: String,
    /// Architecture as RPM names it, `x86_64`.
    pub arch: String,
}

impl BuildSpec {
    /// File name of the package, `obproxy-ce-4.3.1.0-1.el7.x86_64.rpm`.
    pub fn file_name(&self) -> String {
        format!("{}-{}-{}.{}.rpm", self.name, self.version, self.release, self.arch)
    }
}

/// Where a package keeps the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Below `/home/admin/obproxy-<version>`, as packages have it now.
    HomeAdmin,
    /// Below `/opt/taobao/install/obproxy-<version>`, as older ones have it.
    OptTaobao,
}

/// Packs `binary` as `/home/admin/obproxy-<version>/bin/obproxy` and writes the package to `out_dir`, replacing one of
/// the same name at once; returns its path.
///
/// The payload is compressed with zstd at its fastest usual level. The compressed payload is held in memory, the
/// executable is not.
pub fn build_obproxy_rpm(spec: &BuildSpec, binary: &Path, out_dir: &Path) -> Result<PathBuf, PackageError> {
    build_obproxy_rpm_as(Layout::HomeAdmin, spec, binary, out_dir)
}

/// The same with the executable where `layout` has it.
pub fn build_obproxy_rpm_as(
    layout: Layout,
    spec: &BuildSpec,
    binary: &Path,
    out_dir: &Path,
) -> Result<PathBuf, PackageError> {
    let file_name = spec.file_name();
    let failed = |reason: String| PackageError::Build {
        name: file_name.clone(),
        reason,
    };
    let identity = Identity::parse(&spec.name, &spec.version, &spec.release, &spec.arch).map_err(failed)?;
    if !ARCHITECTURES.contains(&spec.arch.as_str()) {
        return Err(failed(format!("no proxy runs on architecture {:?}", spec.arch)));
    }
    let [home_admin, opt_taobao] = identity.prefixes();
    let prefix = match layout {
        Layout::HomeAdmin => home_admin,
        Layout::OptTaobao => opt_taobao,
    };
    let directory = |path: String| FileOptions::dir(path).user("admin").group("admin").permissions(0o755);
    let package = (|| {
        let mut builder = PackageBuilder::new(
            &spec.name,
            &spec.version,
            "Mulan PubL v2",
            &spec.arch,
            "OceanBase Database Proxy",
        );
        builder
            .using_config(BuildConfig::v4().compression(CompressionWithLevel::Zstd(1)))
            .release(spec.release.as_str())
            .with_dir_entry(directory(prefix.clone()))?
            .with_dir_entry(directory(format!("{prefix}/bin")))?;
        let executable = FileOptions::new(format!("{prefix}/bin/obproxy"));
        builder.with_file(binary, executable.user("admin").group("admin").permissions(0o755))?;
        builder.build()
    })()
    .map_err(|error: rpm::Error| failed(error.to_string()))?;

    let path = out_dir.join(&file_name);
    let unfinished = out_dir.join(format!(".{file_name}.{}", std::process::id()));
    let written = package
        .write_file(&unfinished)
        .map_err(|error| failed(error.to_string()));
    let named = written.and_then(|()| fs::rename(&unfinished, &path).map_err(PackageError::io("rename to", &path)));
    if named.is_err() {
        // The first error is the one to tell; what is left is a hidden file.
        let _ = fs::remove_file(&unfinished);
    }
    named.map(|()| path)
}

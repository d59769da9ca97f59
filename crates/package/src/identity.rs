//! What a package says it is: name, version, release and architecture, from its header.
//!
//! These texts become directory names and parts of API replies, so each must have a form that is safe there.

use std::path::Path;

use obfleet_wire::version::ProxyVersion;
use rpm::PackageMetadata;

use crate::PackageError;

/// Architectures that proxies are built for.
pub(crate) const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// What kind of software a package holds, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageKind {
    /// `obproxy`: OBProxy up to 3.2.2, and the enterprise edition.
    Obproxy,
    /// `obproxy-ce`: the community edition from 3.2.3 on.
    ObproxyCe,
    /// Anything else.
    Other,
}

/// Name, version, release and architecture, each of a safe form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) version: ProxyVersion,
    pub(crate) os: String,
    pub(crate) arch: String,
}

impl Identity {
    /// Checks the parts; `release` is `build.os`, as in `1.el7` or `100000032024030511.el7`. The error is the reason.
    pub(crate) fn parse(name: &str, version: &str, release: &str, arch: &str) -> Result<Self, String> {
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+');
        if !name.starts_with(|first: char| first.is_ascii_alphanumeric()) || !name.bytes().all(safe) || name.len() > 128
        {
            return Err(format!(
                "its name {name:?} is not made of letters, digits, '-', '_' and '+'"
            ));
        }
        // The operating system begins at the first part that is not a number. A dash would end the release.
        let of_os = |byte: u8| byte == b'.' || (safe(byte) && byte != b'-');
        let at = release.match_indices('.').map(|(at, _)| at).find(|at| {
            let rest = &release[at + 1..];
            rest.starts_with(|first: char| first.is_ascii_alphabetic()) && rest.bytes().all(of_os)
        });
        let Some((build, os)) = at
            .map(|at| (&release[..at], &release[at + 1..]))
            .filter(|_| release.len() <= 128)
        else {
            return Err(format!(
                "its release {release:?} is not a build number and an operating system, like 1.el7"
            ));
        };
        let version = (version.len() <= 64)
            .then(|| format!("{version}-{build}").parse().ok())
            .flatten()
            .filter(|parsed: &ProxyVersion| parsed.version == version && parsed.build == build)
            .ok_or_else(|| format!("its version {version:?} and build {build:?} are not dotted numbers"))?;
        Ok(Self {
            name: name.to_owned(),
            version,
            os: os.to_owned(),
            arch: arch.to_owned(),
        })
    }

    /// Reads and checks what the header says.
    pub(crate) fn read(path: &Path, metadata: &PackageMetadata) -> Result<Self, PackageError> {
        let text = |result: Result<&str, rpm::Error>| {
            result
                .map(str::to_owned)
                .map_err(|error| PackageError::malformed(path, error.to_string()))
        };
        let (name, arch) = (text(metadata.get_name())?, text(metadata.get_arch())?);
        if !ARCHITECTURES.contains(&arch.as_str()) {
            return Err(PackageError::UnsupportedArch {
                path: path.to_owned(),
                arch,
            });
        }
        Self::parse(
            &name,
            &text(metadata.get_version())?,
            &text(metadata.get_release())?,
            &arch,
        )
        .map_err(|reason| PackageError::malformed(path, reason))
    }

    pub(crate) fn kind(&self) -> PackageKind {
        match self.name.as_str() {
            "obproxy" => PackageKind::Obproxy,
            "obproxy-ce" => PackageKind::ObproxyCe,
            _ => PackageKind::Other,
        }
    }

    /// Directories below which a package of this version may keep its files, without a slash at the end.
    pub(crate) fn prefixes(&self) -> [String; 2] {
        let version = &self.version.version;
        [
            format!("/home/admin/obproxy-{version}"),
            format!("/opt/taobao/install/obproxy-{version}"),
        ]
    }

    /// Directory name of the slot: the release with its operating system, because `1.el7` and `1.el8` differ.
    pub(crate) fn slot_name(&self) -> String {
        format!("obproxy-{}.{}", self.version, self.os)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_the_release() {
        for (release, build, os) in [
            ("1.el7", "1", "el7"),
            ("100000032024030511.el7", "100000032024030511", "el7"),
            ("2.1.el8_9", "2.1", "el8_9"),
            ("1.alios7.x", "1", "alios7.x"),
        ] {
            let identity = Identity::parse("obproxy-ce", "4.3.1.0", release, "x86_64").unwrap();
            assert_eq!(
                (identity.version.build.as_str(), identity.os.as_str()),
                (build, os),
                "{release}"
            );
        }
    }

    #[test]
    fn refuses_texts_that_are_unsafe_as_names() {
        for (name, version, release) in [
            ("", "1.2", "1.el7"),
            ("../x", "1.2", "1.el7"),
            ("-x", "1.2", "1.el7"),
            ("x", "..", "1.el7"),
            ("x", "1/2", "1.el7"),
            ("x", "1-2", "1.el7"),
            ("x", "", "1.el7"),
            ("x", "1.2", "1"),
            ("x", "1.2", ".el7"),
            ("x", "1.2", "1.el7/.."),
            ("x", "1.2", "1.el7-1"),
            ("x", "1.2", "a.el7"),
            ("x", "1.2", ""),
        ] {
            assert!(
                Identity::parse(name, version, release, "x86_64").is_err(),
                "{name} {version} {release}"
            );
        }
    }
}

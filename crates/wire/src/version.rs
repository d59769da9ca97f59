//! OBProxy versions and the names of RPM packages.

use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Version and build of a proxy, `4.3.1.0-1`: what OCP calls `version` of a server.
///
/// Ordered by the numbers of the version, then by the numbers of the build, and those that have the same numbers (`4.3`,
/// `4.3.0`) by their texts; an operating system suffix (`.el7`) never counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProxyVersion {
    /// Dotted version, `4.3.1.0`.
    pub version: String,
    /// Build number without the operating system, `1`.
    pub build: String,
}

/// The text is not `version-build`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a version of the form 4.3.1.0-1")]
pub struct VersionError(pub String);

/// Compares dotted numbers, however long they are; missing parts count as zero.
fn compare_dotted(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let (a, b) = (a.next(), b.next());
        if a.is_none() && b.is_none() {
            return Ordering::Equal;
        }
        // Without leading zeros the longer number is the larger one.
        let [a, b] = [a, b].map(|part| part.unwrap_or_default().trim_start_matches('0'));
        let order = a.len().cmp(&b.len()).then_with(|| a.cmp(b));
        if order.is_ne() {
            return order;
        }
    }
}

impl Ord for ProxyVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        compare_dotted(&self.version, &other.version)
            .then_with(|| compare_dotted(&self.build, &other.build))
            .then_with(|| self.version.cmp(&other.version))
            .then_with(|| self.build.cmp(&other.build))
    }
}

impl PartialOrd for ProxyVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl ProxyVersion {
    /// Whether the dotted version is at least `minimum`, whatever the build.
    pub fn at_least(&self, minimum: &str) -> bool {
        compare_dotted(&self.version, minimum).is_ge()
    }
}

impl fmt::Display for ProxyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.version, self.build)
    }
}

fn is_dotted(text: &str) -> bool {
    !text.is_empty()
        && text
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

impl FromStr for ProxyVersion {
    type Err = VersionError;

    /// Accepts `4.3.1.0-1` and `4.3.1.0-1.el7`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || VersionError(text.to_owned());
        let (version, release) = text.split_once('-').ok_or_else(wrong)?;
        let build = release.split_once(".el").map_or(release, |(build, _)| build);
        if !is_dotted(version) || !is_dotted(build) {
            return Err(wrong());
        }
        Ok(Self {
            version: version.to_owned(),
            build: build.to_owned(),
        })
    }
}

impl TryFrom<String> for ProxyVersion {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ProxyVersion> for String {
    fn from(version: ProxyVersion) -> Self {
        version.to_string()
    }
}

/// The parts of an RPM file name `{name}-{version}-{build}.{os}.{arch}.rpm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PackageName {
    /// Package name, `obproxy-ce`.
    pub name: String,
    /// Version and build.
    pub version: ProxyVersion,
    /// Operating system tag, `el7`.
    pub os: String,
    /// Architecture, `x86_64`.
    pub arch: String,
}

/// The text is not a package file name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a package file name of the form obproxy-ce-4.3.1.0-1.el7.x86_64.rpm")]
pub struct PackageNameError(pub String);

impl PackageName {
    /// The name without operating system and architecture: what OCP calls `shortRpmName`.
    pub fn short(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }

    /// The whole file name.
    pub fn file_name(&self) -> String {
        format!("{}.{}.{}.rpm", self.short(), self.os, self.arch)
    }
}

impl FromStr for PackageName {
    type Err = PackageNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let stem = text.strip_suffix(".rpm")?;
            let (rest, arch) = stem.rsplit_once('.')?;
            let (rest, release) = rest.rsplit_once('-')?;
            let (name, version) = rest.rsplit_once('-')?;
            // The build is numbers; what follows them, dots included, is the operating system.
            let is_os = |at: &usize| !release[at + 1..].starts_with(|first: char| first.is_ascii_digit());
            let at = release.match_indices('.').map(|(at, _)| at).find(is_os)?;
            let (build, os) = (&release[..at], &release[at + 1..]);
            let version = format!("{version}-{build}").parse().ok()?;
            (!name.is_empty() && !os.is_empty() && !arch.is_empty()).then(|| Self {
                name: name.to_owned(),
                version,
                os: os.to_owned(),
                arch: arch.to_owned(),
            })
        };
        parse().ok_or_else(|| PackageNameError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> ProxyVersion {
        text.parse().unwrap()
    }

    #[test]
    fn orders_by_number_not_by_text() {
        assert!(v("4.10.0.0-1") > v("4.9.0.0-1"));
        assert!(v("4.3.1.0-11") > v("4.3.1.0-9"));
        assert!(v("3.2.0-1") < v("3.2.0.1-1"));
        assert_eq!(v("4.3.1.0-1.el7"), v("4.3.1.0-1"));
        assert!(v("4.2.1.0-100000032024030511") < v("4.3.1.0-1"));
        assert!(v("3.2.1-1").at_least("3.2.1") && !v("3.2.0-9").at_least("3.2.1"));
    }

    #[test]
    fn numbers_may_be_of_any_length() {
        assert!(v("4.3.1.0-18446744073709551616") > v("4.3.1.0-2"));
        assert!(v("18446744073709551616.0-1") > v("18446744073709551615.9-1"));
        assert!(v("4.3.1.0-18446744073709551616") < v("4.3.1.0-18446744073709551617"));
    }

    #[test]
    fn versions_that_differ_are_never_in_the_same_place() {
        for (one, other) in [("4.3.0-1", "4.3-1"), ("4.03-1", "4.3-1"), ("4.3-01", "4.3-1")] {
            assert_ne!(v(one).cmp(&v(other)), Ordering::Equal, "{one} {other}");
            assert_eq!(v(one).cmp(&v(other)), v(other).cmp(&v(one)).reverse(), "{one} {other}");
            assert!(v(one).at_least("4.3") && v(other).at_least("4.3.0"), "{one} {other}");
        }
    }

    #[test]
    fn refuses_what_is_no_version() {
        for text in ["", "4.3", "4.3.1.0-", "-1", "a.b-1", "4..1-1", "4.3.1.0-1.x"] {
            assert!(text.parse::<ProxyVersion>().is_err(), "{text}");
        }
    }

    #[test]
    fn splits_a_package_file_name() {
        let name: PackageName = "obproxy-ce-4.3.1.0-1.el7.x86_64.rpm".parse().unwrap();
        assert_eq!(
            (name.name.as_str(), name.os.as_str(), name.arch.as_str()),
            ("obproxy-ce", "el7", "x86_64")
        );
        assert_eq!(name.short(), "obproxy-ce-4.3.1.0-1");
        assert_eq!(name.file_name(), "obproxy-ce-4.3.1.0-1.el7.x86_64.rpm");
        let name: PackageName = "obproxy-3.2.0-1.2.alios7.x.aarch64.rpm".parse().unwrap();
        assert_eq!((name.version.build.as_str(), name.os.as_str()), ("1.2", "alios7.x"));
        assert_eq!(name.file_name(), "obproxy-3.2.0-1.2.alios7.x.aarch64.rpm");
        for text in [
            "obproxy.rpm",
            "obproxy-ce-4.3.1.0-1.el7.x86_64",
            "-4.3.1.0-1.el7.x86_64.rpm",
            "",
        ] {
            assert!(text.parse::<PackageName>().is_err(), "{text}");
        }
    }
}

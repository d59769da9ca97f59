//! Two versions of the stand-in proxy as RPMs, the newer one sound or bad.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use obfleet_package::build::{BuildSpec, build_obproxy_rpm};
use obfleet_standin::{Faults, Trailer, pack};

/// What is wrong with the new version; all of it shows only once it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It ends at once.
    Exit,
    /// It never listens.
    Hang,
    /// It serves, but says it is another version.
    WrongVersion,
    /// It lets nobody in.
    NoLogin,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Exit, Self::Hang, Self::WrongVersion, Self::NoLogin];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Hang => "hang",
            Self::WrongVersion => "wrong-version",
            Self::NoLogin => "no-login",
        }
    }

    /// The fault with this name.
    pub fn parse(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|fault| fault.name() == name);
        found.ok_or_else(|| format!("one of {}", Self::ALL.map(Self::name).join(", ")))
    }

    fn in_standin(self) -> Faults {
        match self {
            Self::Exit => Faults {
                exit: Some(1),
                ..Faults::default()
            },
            Self::Hang => Faults {
                hang: true,
                ..Faults::default()
            },
            Self::WrongVersion => Faults {
                wrong_version: Some("4.0.0.0".to_owned()),
                ..Faults::default()
            },
            Self::NoLogin => Faults {
                no_login: true,
                ..Faults::default()
            },
        }
    }
}

/// A version of OBProxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// Four numbers.
    pub version: &'static str,
    /// Build number.
    pub build: &'static str,
}

/// What the fleet begins with.
pub const OLD: Release = Release {
    version: "4.2.1.0",
    build: "11",
};
/// What it is upgraded to.
pub const NEW: Release = Release {
    version: "4.3.1.0",
    build: "1",
};

impl Release {
    /// `4.3.1.0-1`, as the API shows it.
    pub fn text(self) -> String {
        format!("{}-{}", self.version, self.build)
    }

    /// `obproxy-ce-4.3.1.0-1`, as an upgrade names it.
    pub fn short_rpm_name(self) -> String {
        format!("obproxy-ce-{}", self.text())
    }

    fn spec(self) -> BuildSpec {
        BuildSpec {
            name: "obproxy-ce".to_owned(),
            version: self.version.to_owned(),
            release: format!("{}.el7", self.build),
            arch: std::env::consts::ARCH.to_owned(),
        }
    }

    /// The package's file name.
    pub fn file_name(self) -> String {
        self.spec().file_name()
    }

    /// Packs the executable as this version and builds the package in `dir`. → its path
    pub fn build(self, exe: &Path, fault: Option<Fault>, dir: &Path) -> anyhow::Result<PathBuf> {
        let binary = dir.join(format!("obproxy-{}", self.version));
        self.pack_with(exe, fault, &binary)?;
        Ok(build_obproxy_rpm(&self.spec(), &binary, dir)?)
    }

    /// Packs the executable as this version, without a package.
    pub fn pack(self, exe: &Path, to: &Path) -> anyhow::Result<()> {
        self.pack_with(exe, None, to)
    }

    fn pack_with(self, exe: &Path, fault: Option<Fault>, to: &Path) -> anyhow::Result<()> {
        let trailer = Trailer {
            version: self.version.to_owned(),
            release: self.spec().release,
            faults: fault.map(Fault::in_standin).unwrap_or_default(),
            fake_backend: false,
        };
        pack(exe, &trailer, to).with_context(|| format!("cannot pack {}", exe.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_known_by_their_names() {
        for fault in Fault::ALL {
            assert_eq!(Fault::parse(fault.name()), Ok(fault));
        }
        assert!(Fault::parse("none").is_err());
    }

    #[test]
    fn packages_are_named_as_the_vendor_names_them() {
        assert_eq!(OLD.short_rpm_name(), "obproxy-ce-4.2.1.0-11");
        assert!(NEW.file_name().starts_with("obproxy-ce-4.3.1.0-1.el7."));
    }
}

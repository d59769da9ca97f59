//! What kind of host this is.

use std::fs;

use nix::{sys::utsname::uname, unistd::gethostname};
use obfleet_wire::agent::HostFacts;

/// Reads the host's facts; what cannot be read is `unknown`.
pub(crate) fn facts(host_uid: &str) -> HostFacts {
    let or_unknown = |text: Option<String>| text.filter(|t| !t.is_empty()).unwrap_or_else(|| "unknown".to_owned());
    HostFacts {
        host_uid: host_uid.to_owned(),
        name: or_unknown(gethostname().ok().and_then(|name| name.into_string().ok())),
        architecture: std::env::consts::ARCH.to_owned(),
        kernel: or_unknown(uname().ok().and_then(|u| u.release().to_str().map(str::to_owned))),
        release: release_tag(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
    }
}

/// The distribution tag packages are named by: `el7` for everything built from Red Hat's sources, else name and number.
fn release_tag(os_release: &str) -> String {
    let value = |name: &str| {
        let line = os_release.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
    };
    let (id, like, version) = (value("ID"), value("ID_LIKE"), value("VERSION_ID"));
    let major = version.split('.').next().unwrap_or_default();
    if id == "rhel" || like.split(' ').any(|l| l == "rhel") {
        return format!("el{major}");
    }
    if id.is_empty() {
        "unknown".to_owned()
    } else {
        format!("{id}{version}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_have_their_package_tag() {
        assert_eq!(
            release_tag("ID=\"centos\"\nID_LIKE=\"rhel fedora\"\nVERSION_ID=\"7\"\n"),
            "el7"
        );
        assert_eq!(release_tag("ID=rhel\nVERSION_ID=8.10\n"), "el8");
        assert_eq!(
            release_tag("PRETTY_NAME=\"Debian\"\nID=debian\nVERSION_ID=\"12\"\n"),
            "debian12"
        );
        assert_eq!(release_tag(""), "unknown");
    }
}

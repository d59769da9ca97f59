//! A certificate of the server's own making, for who has none: from an authority that is made once and kept in the state
//! directory, so that whoever was given it goes on trusting the server. It is another authority than the agents': that one
//! is for servers and agents alone, and people are not asked to trust it.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use super::{TlsError, TlsFiles};

/// Below the state directory.
const DIR: &str = "tls";
/// What clients are given.
const AUTHORITY: &str = "authority.pem";
const AUTHORITY_KEY: &str = "authority.key";
const CERTIFICATE: &str = "server.pem";
const KEY: &str = "server.key";
const AUTHORITY_VALID: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// It is made anew at each start, so this is how long a server may run.
const VALID: Duration = Duration::from_secs(5 * 365 * 24 * 60 * 60);
/// Clocks of clients may be behind by this much.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 60 * 60);
/// Nobody has to renew it, so it is looked at no more often than that.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Where the authority's certificate is, for a server with this state directory.
pub fn authority(state_dir: &Path) -> PathBuf {
    state_dir.join(DIR).join(AUTHORITY)
}

/// Makes a certificate for these names and addresses, and the authority if there is none yet.
///
/// # Errors
/// When files cannot be read or written, or hold something else.
pub fn make(state_dir: &Path, names: Vec<String>) -> Result<TlsFiles, TlsError> {
    let dir = state_dir.join(DIR);
    let failed = |source| TlsError::Own {
        path: dir.clone(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .map_err(failed)?;
    let issuer = issuer(&dir)?;
    let made = || {
        let key = KeyPair::generate()?;
        let mut params = params(names, "obfleet server", VALID)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        Ok((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
    };
    let (certificate, key) = made().map_err(TlsError::Make)?;
    let files = TlsFiles {
        certificate: dir.join(CERTIFICATE),
        key: dir.join(KEY),
        look_every: LOOK_EVERY,
    };
    write(&files.key, &key, 0o600).map_err(failed)?;
    write(&files.certificate, &certificate, 0o644).map_err(failed)?;
    Ok(files)
}

fn issuer(dir: &Path) -> Result<Issuer<'static, KeyPair>, TlsError> {
    let (certificate, key) = (dir.join(AUTHORITY), dir.join(AUTHORITY_KEY));
    let failed = |source| TlsError::Own {
        path: dir.to_owned(),
        source,
    };
    // The certificate comes last: without it nobody was given anything yet.
    if !certificate.exists() {
        let made = || {
            let key = KeyPair::generate()?;
            let mut params = params(Vec::new(), "obfleet", AUTHORITY_VALID)?;
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
        };
        let (made, made_key) = made().map_err(TlsError::Make)?;
        write(&key, &made_key, 0o600).map_err(failed)?;
        write(&certificate, &made, 0o644).map_err(failed)?;
    }
    let pem = fs::read_to_string(&certificate).map_err(failed)?;
    let key = fs::read_to_string(&key).map_err(failed)?;
    let key = KeyPair::from_pem(&key).map_err(TlsError::Make)?;
    Issuer::from_ca_cert_pem(&pem, key).map_err(TlsError::Make)
}

fn params(names: Vec<String>, common_name: &str, valid: Duration) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + valid).into();
    Ok(params)
}

/// Whole or not at all, and never readable for more than it should be.
fn write(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&beside)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

/// What clients may call a server that listens there: the host of its public URL, this machine's name, and its addresses.
pub fn names(listen: std::net::SocketAddr, public_url: Option<&str>) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !listen.ip().is_unspecified() {
        names.push(listen.ip().to_canonical().to_string());
    }
    let host = public_url.and_then(|url| reqwest::Url::parse(url).ok()?.host_str().map(str::to_owned));
    names.extend(host.map(|host| host.trim_matches(['[', ']']).to_owned()));
    let machine = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let machine = machine.trim();
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if !machine.is_empty() && machine.chars().all(is_name) {
        names.push(machine.to_owned());
    }
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_stays_and_keys_are_for_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(DIR).join(name)).unwrap();
        let first = make(dir.path(), vec!["localhost".into()]).unwrap();
        let (authority, certificate) = (read(AUTHORITY), fs::read_to_string(&first.certificate).unwrap());
        make(dir.path(), vec!["localhost".into(), "10.0.0.1".into()]).unwrap();
        assert_eq!(read(AUTHORITY), authority);
        assert_ne!(fs::read_to_string(&first.certificate).unwrap(), certificate);
        for name in [AUTHORITY_KEY, KEY] {
            let mode = fs::metadata(dir.path().join(DIR).join(name))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        fs::write(dir.path().join(DIR).join(AUTHORITY_KEY), "none").unwrap();
        assert!(matches!(make(dir.path(), Vec::new()), Err(TlsError::Make(_))));
    }

    #[test]
    fn a_server_is_called_by_its_addresses_and_its_public_name() {
        let names = names(
            "10.0.0.1:8080".parse().unwrap(),
            Some("https://fleet.example:8443/base"),
        );
        for name in ["localhost", "127.0.0.1", "::1", "10.0.0.1", "fleet.example"] {
            assert!(names.iter().any(|known| known == name), "{name}: {names:?}");
        }
        let everywhere = super::names("0.0.0.0:8080".parse().unwrap(), Some("https://[fe80::1]:8443"));
        assert!(everywhere.iter().all(|name| name != "0.0.0.0"), "{everywhere:?}");
        assert!(everywhere.iter().any(|name| name == "fe80::1"), "{everywhere:?}");
    }
}

//! The certificate clients see: read from files, and again whenever they change.
//!
//! Whoever renews certificates writes files and tells nobody, so they are looked at every few seconds; who does tell ([`Reload`])
//! has them looked at once, and is answered in the log whatever comes of it. What cannot be used is
//! told once, and the certificate in use stays: a server with an old certificate is better than none.

pub mod own;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum_server::tls_rustls::RustlsConfig;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Where certificate and key are, in PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate, and behind it those between it and its authority.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// How often they are looked at.
    pub look_every: Duration,
}

/// Certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One cannot be read.
    #[error("{path} cannot be read; give --tls-cert and --tls-key files that the server's user may read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{path} holds no {what} in PEM")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is missed: a certificate, or a private key.
        what: &'static str,
    },
    /// The server's own files cannot be read or written.
    #[error("{path} cannot be used for the server's own certificate; have it belong to the server's user")]
    Own {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The server's own certificate cannot be made.
    #[error(
        "the server's own certificate cannot be made; if its authority is damaged, restore the state directory's tls from a backup"
    )]
    Make(#[source] rcgen::Error),
    /// They do not go together, or their kind is unknown.
    #[error("the key in {key} cannot be used with the certificate in {certificate}; give the two that belong together")]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// The certificate in use.
pub struct Tls {
    files: TlsFiles,
    config: RustlsConfig,
    /// Digest of what was tried last, good or not: a half-written pair is complained of once.
    tried: Option<[u8; 32]>,
    told: Arc<Notify>,
}

/// Has the files read at once, if there are any.
#[derive(Debug, Clone, Default)]
pub struct Reload(Option<Arc<Notify>>);

impl Reload {
    /// Tells it; what comes of it is in the log.
    pub fn now(&self) {
        match &self.0 {
            Some(told) => told.notify_one(),
            None => {
                tracing::info!("told to read the certificate again, and there is none: this server speaks plain HTTP");
            }
        }
    }
}

struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Content {
    async fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = async |path: &Path| {
            let content = tokio::fs::read(path).await;
            content.map_err(|source| TlsError::Read {
                path: path.to_owned(),
                source,
            })
        };
        Ok(Self {
            certificate: read(&files.certificate).await?,
            key: read(&files.key).await?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(Sha256::digest(&self.certificate));
        digest.update(Sha256::digest(&self.key));
        digest.finalize().into()
    }

    fn config(&self, files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
        let none = |path: &Path, what| TlsError::Pem {
            path: path.to_owned(),
            what,
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| none(&files.certificate, "certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| none(&files.key, "private key"))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|source| TlsError::Pair {
                certificate: files.certificate.clone(),
                key: files.key.clone(),
                source,
            })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When they cannot be read or used.
    pub async fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let content = Content::read(&files).await?;
        Ok(Self {
            config: RustlsConfig::from_config(content.config(&files)?),
            tried: Some(content.digest()),
            told: Arc::default(),
            files,
        })
    }

    /// What to listen with; follows every change of the files.
    pub fn config(&self) -> RustlsConfig {
        self.config.clone()
    }

    /// What has the files read at once.
    pub fn reload(&self) -> Reload {
        Reload(Some(Arc::clone(&self.told)))
    }

    /// Looks at the files now and then, and whenever it is told to, until told to stop. Connections that are open keep the certificate they began with.
    pub async fn follow(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.files.look_every) => {}
                // As if nothing had been tried: the answer is of the files as they are.
                () = self.told.notified() => {
                    tracing::info!(certificate = %self.files.certificate.display(), "told to read the certificate again");
                    let content = Content::read(&self.files).await;
                    self.take(content);
                    continue;
                }
            }
            self.look().await;
        }
    }

    /// Takes what the files hold, if it is something else than the last time and can be used.
    async fn look(&mut self) {
        match Content::read(&self.files).await {
            Ok(content) if self.tried == Some(content.digest()) => {}
            // A file on its way from one name to another is there the next time.
            Err(_) if self.tried.is_none() => {}
            content => self.take(content),
        }
    }

    fn take(&mut self, content: Result<Content, TlsError>) {
        let taken = match content {
            Ok(content) => {
                self.tried = Some(content.digest());
                content.config(&self.files)
            }
            Err(error) => {
                self.tried = None;
                Err(error)
            }
        };
        match taken {
            Ok(config) => {
                self.config.reload_from_config(config);
                tracing::info!(certificate = %self.files.certificate.display(), "the API has the certificate of these files");
            }
            Err(error) => {
                let reason = obfleet_agent::describe(&error);
                tracing::error!(reason, "the API goes on with the certificate it has");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(files: &TlsFiles) {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        fs::write(&files.certificate, made.cert.pem()).unwrap();
        fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_used_leaves_the_certificate_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let files = TlsFiles {
            certificate: dir.path().join("cert"),
            key: dir.path().join("key"),
            look_every: Duration::from_secs(1),
        };
        write(&files);
        let mut tls = Tls::open(files.clone()).await.unwrap();
        let first = tls.config().get_inner();
        let is_first = |tls: &Tls| Arc::ptr_eq(&tls.config().get_inner(), &first);
        tls.look().await;
        assert!(is_first(&tls), "nothing has changed");

        let good = fs::read(&files.key).unwrap();
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        for bad in ["", "no key", &other] {
            fs::write(&files.key, bad).unwrap();
            tls.look().await;
            assert!(is_first(&tls), "{bad}");
        }
        fs::remove_file(&files.key).unwrap();
        tls.look().await;
        tls.look().await;
        assert!(is_first(&tls));
        fs::write(&files.key, good).unwrap();
        tls.look().await;
        assert!(!is_first(&tls), "the files are back, and are taken");
        let second = tls.config().get_inner();
        write(&files);
        tls.look().await;
        assert!(!Arc::ptr_eq(&tls.config().get_inner(), &second));
    }
}

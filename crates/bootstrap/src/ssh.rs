//! SSH: a connection to a server whose host key is the one known, and a login on it.

use std::{
    borrow::Cow,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use russh::{
    ChannelMsg, Disconnect, MethodKind, Preferred,
    client::{self, AuthResult, Handle, KeyboardInteractiveAuthResponse},
    keys::{
        Algorithm, EcdsaCurve, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate, decode_secret_key,
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::timeout,
};

use crate::remote::{Exit, Remote, RemoteError};

/// Time to connect and log in.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Time a command may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes of output that are kept of each stream.
const MOST_OUTPUT: usize = 256 * 1024;
/// Bytes of a file that are sent at once.
const CHUNK: usize = 32 * 1024;
/// Questions of a server that are answered with the password.
const MOST_QUESTIONS: usize = 4;

/// Where, and by which host key it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// An IP address or host name.
    pub host: String,
    /// The port.
    pub port: u16,
    /// `SHA256:…` of the server's host key; `None` takes the one it shows.
    pub fingerprint: Option<String>,
}

/// Who logs in, and how.
#[derive(Clone)]
pub struct Login {
    /// The user.
    pub user: String,
    /// What proves it.
    pub secret: Secret,
}

/// What proves a login.
#[derive(Clone)]
pub enum Secret {
    /// A password.
    Password(String),
    /// A private key.
    Key {
        /// In OpenSSH's or a PEM form.
        text: String,
        /// What it is encrypted with, if it is.
        passphrase: Option<String>,
    },
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// There is no connection, or no login.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nobody who speaks SSH.
    #[error("no SSH server answers at {at} ({reason})")]
    Unreachable {
        /// `address:port`.
        at: String,
        /// What was seen.
        reason: String,
    },
    /// Another host key than the one known.
    #[error("the SSH server at {at} shows host key {found}, but {known} is known of it")]
    OtherHostKey {
        /// `address:port`.
        at: String,
        /// What is known.
        known: String,
        /// What it shows.
        found: String,
    },
    /// It did not let the user in.
    #[error("{user} is not let in at {at} ({reason})")]
    Refused {
        /// `address:port`.
        at: String,
        /// The user.
        user: String,
        /// Why, as far as it said.
        reason: String,
    },
    /// The private key cannot be used.
    #[error("the private key cannot be read ({0})")]
    Key(String),
}

fn private_key(text: &str, passphrase: Option<&str>) -> Result<PrivateKey, String> {
    // The library takes an empty passphrase for one.
    let passphrase = passphrase.filter(|passphrase| !passphrase.is_empty());
    decode_secret_key(text, passphrase).map_err(|error| error.to_string())
}

/// A login on a machine.
pub struct Ssh {
    handle: Handle<Door>,
    at: String,
    fingerprint: String,
}

impl Ssh {
    /// Connects and logs in.
    ///
    /// # Errors
    /// When the server does not answer, is another one, or does not let the user in.
    pub async fn connect(address: &Address, login: &Login) -> Result<Self, ConnectError> {
        let at = format!("{}:{}", address.host, address.port);
        // Read before anybody is bothered.
        let key = match &login.secret {
            Secret::Password(_) => None,
            Secret::Key { text, passphrase } => {
                Some(private_key(text, passphrase.as_deref()).map_err(ConnectError::Key)?)
            }
        };
        let whole = async {
            let (mut handle, fingerprint) = knock(address, &at).await?;
            enter(&mut handle, login, key, &at).await?;
            Ok(Self {
                handle,
                at: at.clone(),
                fingerprint,
            })
        };
        timeout(LOGIN_TIMEOUT, whole).await.unwrap_or_else(|_| {
            Err(unreachable(
                &at,
                format!("nothing within {} s", LOGIN_TIMEOUT.as_secs()),
            ))
        })
    }

    /// `SHA256:…` of the host key the server showed.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Takes leave.
    pub async fn close(self) {
        let bye = self.handle.disconnect(Disconnect::ByApplication, "", "");
        // Whoever is not there any more needs no farewell.
        drop(timeout(Duration::from_secs(1), bye).await);
    }

    fn broken(&self, reason: impl ToString) -> RemoteError {
        RemoteError::Broken {
            machine: self.at.clone(),
            reason: reason.to_string(),
        }
    }

    async fn within_silence<T>(&self, what: impl Future<Output = T>) -> Result<T, RemoteError> {
        timeout(SILENCE, what).await.map_err(|_| RemoteError::Silent {
            machine: self.at.clone(),
            seconds: SILENCE.as_secs(),
        })
    }

    async fn run(
        &self,
        command: &str,
        input: &mut (dyn AsyncRead + Send + Unpin),
        file: &Path,
    ) -> Result<Exit, RemoteError> {
        let opened = self.within_silence(self.handle.channel_open_session()).await?;
        let channel = opened.map_err(|error| self.broken(error))?;
        channel.exec(true, command).await.map_err(|error| self.broken(error))?;
        let (mut from, to) = channel.split();
        let send = async {
            let mut chunk = vec![0; CHUNK];
            loop {
                let read = input.read(&mut chunk).await.map_err(|source| RemoteError::File {
                    path: file.to_owned(),
                    source,
                })?;
                let sent = match read {
                    0 => self.within_silence(to.eof()).await?,
                    _ => self.within_silence(to.data(&chunk[..read])).await?,
                };
                if sent.is_err() || read == 0 {
                    // A command may end before it has read everything; how it ended tells more.
                    return Ok(());
                }
            }
        };
        let receive = async {
            let mut output = Output::default();
            while let Some(message) = self.within_silence(from.wait()).await? {
                if output.take(message) {
                    break;
                }
            }
            Ok::<_, RemoteError>(output)
        };
        let mut send = std::pin::pin!(send);
        let mut receive = std::pin::pin!(receive);
        let output = tokio::select! {
            output = &mut receive => output?,
            sent = &mut send => {
                sent?;
                receive.await?
            }
        };
        if !output.ended {
            return Err(self.broken("it ended without a status"));
        }
        Ok(Exit {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

#[async_trait]
impl Remote for Ssh {
    async fn exec(&self, command: &str, input: &[u8]) -> Result<Exit, RemoteError> {
        let mut input = input;
        self.run(command, &mut input, Path::new("")).await
    }

    async fn upload(&self, command: &str, file: &Path) -> Result<Exit, RemoteError> {
        let opened = tokio::fs::File::open(file).await;
        let mut input = opened.map_err(|source| RemoteError::File {
            path: file.to_owned(),
            source,
        })?;
        self.run(command, &mut input, file).await
    }
}

/// What a command has written so far.
#[derive(Default)]
struct Output {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    status: Option<u32>,
    ended: bool,
}

impl Output {
    /// Takes a message in. → whether it was the last
    fn take(&mut self, message: ChannelMsg) -> bool {
        let keep = |kept: &mut Vec<u8>, data: &[u8]| {
            let room = MOST_OUTPUT.saturating_sub(kept.len());
            kept.extend(&data[..data.len().min(room)]);
        };
        match message {
            ChannelMsg::Data { data } => keep(&mut self.stdout, &data),
            ChannelMsg::ExtendedData { data, .. } => keep(&mut self.stderr, &data),
            ChannelMsg::ExitStatus { exit_status } => {
                self.status = Some(exit_status);
                self.ended = true;
            }
            ChannelMsg::ExitSignal { .. } => self.ended = true,
            ChannelMsg::Close => return true,
            _ => {}
        }
        false
    }
}

/// Sees the host key.
struct Door {
    known: Option<String>,
    shown: Arc<Mutex<Option<String>>>,
}

impl client::Handler for Door {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let shown = key.public_key().fingerprint(HashAlg::Sha256).to_string();
        let good = self.known.as_ref().is_none_or(|known| *known == shown);
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        Ok(good)
    }
}

fn unreachable(at: &str, reason: impl ToString) -> ConnectError {
    ConnectError::Unreachable {
        at: at.to_owned(),
        reason: reason.to_string(),
    }
}

/// Host keys that a server may have one of each kind of; the known one is looked for among all of them.
fn kinds() -> [Vec<Algorithm>; 5] {
    let ecdsa = |curve| vec![Algorithm::Ecdsa { curve }];
    let rsa = [Some(HashAlg::Sha512), Some(HashAlg::Sha256)];
    [
        vec![Algorithm::Ed25519],
        ecdsa(EcdsaCurve::NistP256),
        ecdsa(EcdsaCurve::NistP384),
        ecdsa(EcdsaCurve::NistP521),
        rsa.map(|hash| Algorithm::Rsa { hash }).to_vec(),
    ]
}

/// Connects, up to a host key that is the one known. → its fingerprint
async fn knock(address: &Address, at: &str) -> Result<(Handle<Door>, String), ConnectError> {
    let Some(known) = &address.fingerprint else {
        return match try_door(address, kinds().concat()).await {
            Ok((handle, Some(shown))) => Ok((handle, shown)),
            Ok((_, None)) => Err(unreachable(at, "it shows no host key")),
            Err((error, _)) => Err(unreachable(at, error)),
        };
    };
    let mut found = Vec::new();
    let mut last = None;
    for kind in kinds() {
        match try_door(address, kind).await {
            Ok((handle, Some(shown))) => return Ok((handle, shown)),
            Ok((_, None)) => {}
            Err((russh::Error::UnknownKey, Some(shown))) => found.push(shown),
            // It has no key of that kind.
            Err((error @ russh::Error::NoCommonAlgo { .. }, _)) => last = Some(error),
            Err((error, _)) => return Err(unreachable(at, error)),
        }
    }
    if found.is_empty() {
        return Err(unreachable(
            at,
            last.map_or_else(String::new, |error| error.to_string()),
        ));
    }
    Err(ConnectError::OtherHostKey {
        at: at.to_owned(),
        known: known.clone(),
        found: found.join(", "),
    })
}

async fn try_door(
    address: &Address,
    keys: Vec<Algorithm>,
) -> Result<(Handle<Door>, Option<String>), (russh::Error, Option<String>)> {
    let config = client::Config {
        preferred: Preferred {
            key: Cow::Owned(keys),
            ..Preferred::default()
        },
        nodelay: true,
        ..client::Config::default()
    };
    let shown = Arc::new(Mutex::new(None));
    let door = Door {
        known: address.fingerprint.clone(),
        shown: Arc::clone(&shown),
    };
    let seen = || shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let host = address.host.trim_start_matches('[').trim_end_matches(']');
    match client::connect(Arc::new(config), (host, address.port), door).await {
        Ok(handle) => Ok((handle, seen())),
        Err(error) => Err((error, seen())),
    }
}

async fn enter(
    handle: &mut Handle<Door>,
    login: &Login,
    key: Option<PrivateKey>,
    at: &str,
) -> Result<(), ConnectError> {
    let refused = |reason: String| ConnectError::Refused {
        at: at.to_owned(),
        user: login.user.clone(),
        reason,
    };
    let asked = match (&login.secret, key) {
        (Secret::Password(password), _) => by_password(handle, &login.user, password).await,
        (Secret::Key { .. }, Some(key)) => by_key(handle, &login.user, key).await,
        (Secret::Key { .. }, None) => return Err(ConnectError::Key("it is missing".to_owned())),
    };
    match asked {
        Ok(AuthResult::Success) => Ok(()),
        Ok(AuthResult::Failure {
            remaining_methods,
            partial_success,
        }) => {
            let methods: Vec<&str> = remaining_methods.iter().map(<&str>::from).collect();
            let open = match methods.as_slice() {
                [] => "it takes no other login".to_owned(),
                methods => format!("it takes {}", methods.join(", ")),
            };
            Err(refused(match partial_success {
                true => format!("it wants a second proof; {open}"),
                false => open,
            }))
        }
        Err(error) => Err(refused(error.to_string())),
    }
}

async fn by_key(handle: &mut Handle<Door>, user: &str, key: PrivateKey) -> Result<AuthResult, russh::Error> {
    let hash = match key.algorithm() {
        Algorithm::Rsa { .. } => handle.best_supported_rsa_hash().await?.flatten(),
        _ => None,
    };
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
    handle.authenticate_publickey(user, key).await
}

/// As a password, or, where the server takes none, as the answer to its questions.
async fn by_password(handle: &mut Handle<Door>, user: &str, password: &str) -> Result<AuthResult, russh::Error> {
    let tried = handle.authenticate_password(user, password).await?;
    let AuthResult::Failure { remaining_methods, .. } = &tried else {
        return Ok(tried);
    };
    let takes = |kind| remaining_methods.contains(&kind);
    if takes(MethodKind::Password) || !takes(MethodKind::KeyboardInteractive) {
        return Ok(tried);
    }
    let mut said = handle.authenticate_keyboard_interactive_start(user, None).await?;
    for _ in 0..MOST_QUESTIONS {
        match said {
            KeyboardInteractiveAuthResponse::Success => return Ok(AuthResult::Success),
            KeyboardInteractiveAuthResponse::Failure {
                remaining_methods,
                partial_success,
            } => {
                return Ok(AuthResult::Failure {
                    remaining_methods,
                    partial_success,
                });
            }
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => {
                let answers = vec![password.to_owned(); prompts.len()];
                said = handle.authenticate_keyboard_interactive_respond(answers).await?;
            }
        }
    }
    Ok(tried)
}

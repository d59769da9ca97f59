//! Sends requests and reads envelopes.

mod form;

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use reqwest::{
    Certificate, Method, RequestBuilder, Url,
    header::{ACCEPT_LANGUAGE, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE},
};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;

use self::form::Form;
use crate::sign::{self, Draft};

/// Longest to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same for an upload, however slow the line.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(4 * 3600);
const JSON: &str = "application/json";
/// Makes each request another one: a change is made once by one signature.
const NONCE: &str = "x-ocp-nonce";

/// Who asks. Has no `Debug`: a secret must not reach the log.
#[derive(Clone)]
pub enum Credentials {
    /// With an access key.
    Key {
        /// Names it.
        access_key: String,
        /// What requests are signed with.
        secret_key: String,
    },
    /// With a password.
    Password {
        /// Login name.
        user: String,
        /// In clear text.
        password: String,
    },
}

/// Why there is no answer, or not the one that was wanted.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server's URL is none.
    #[error("'{0}' is no URL of a server; write it as http://host:port")]
    Url(String),
    /// What should be the authority of its certificate is none.
    #[error("the authority given for {0} is no certificate in PEM; give --ca the one that signed the server's")]
    Authority(String),
    /// The server cannot be reached.
    #[error("{url} does not answer; check the URL, and that a server runs there")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// It answers something else.
    #[error("{url} answers {status} without OCP's envelope; check that an obfleet server is there")]
    Envelope {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// A file to upload cannot be read.
    #[error("{path} cannot be read")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It refuses.
    #[error("{message} ({code})")]
    Refused {
        /// OCP's code, `IAM11000`.
        code: String,
        /// What the server says.
        message: String,
        /// The HTTP status.
        status: u16,
    },
}

/// Asks one server. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
    credentials: Credentials,
    language: String,
}

impl Client {
    /// A client of the server at this URL, whose certificate is from the authority `ca` (PEM) or, without, from one the
    /// system knows; sentences come in this language, if the server has it.
    ///
    /// # Errors
    /// When the URL or the authority is none.
    pub fn new(url: &str, ca: Option<&str>, credentials: Credentials, language: &str) -> Result<Self, ClientError> {
        let wrong = || ClientError::Url(url.to_owned());
        let parsed: Url = url.parse().map_err(|_| wrong())?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
            return Err(wrong());
        }
        // Whoever was first has chosen the same.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut http = reqwest::Client::builder().timeout(PATIENCE);
        if let Some(ca) = ca {
            let wrong = || ClientError::Authority(url.to_owned());
            let known = Certificate::from_pem_bundle(ca.as_bytes()).map_err(|_| wrong())?;
            if known.is_empty() {
                return Err(wrong());
            }
            http = http.tls_certs_only(known);
        }
        let http = http.build();
        Ok(Self {
            http: http.map_err(|source| ClientError::Unreachable {
                url: url.to_owned(),
                source,
            })?,
            url: parsed,
            credentials,
            language: language.to_owned(),
        })
    }

    /// Asks; `data` of the answer, null when there is none.
    ///
    /// # Errors
    /// When the server cannot be reached, is none, or refuses.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        parameters: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let data = self.ask(&method, path, parameters, body).await?;
        Ok(data.unwrap_or_default())
    }

    /// Asks, and passes over what is answered: `false` when there is no `data`.
    ///
    /// # Errors
    /// When the server cannot be reached, is none, or refuses.
    pub async fn read_over(&self, path: &str, parameters: &[(&str, &str)]) -> Result<bool, ClientError> {
        let data = self.ask::<IgnoredAny>(&Method::GET, path, parameters, None).await?;
        Ok(data.is_some())
    }

    async fn ask<D: DeserializeOwned>(
        &self,
        method: &Method,
        path: &str,
        parameters: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Option<D>, ClientError> {
        let target = self.target(path, parameters);
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = self.request(method, &target, JSON, |draft, access_key, secret_key| {
            Draft { body: &body, ..draft }.authorization(access_key, secret_key)
        });
        self.answer(request.body(body.clone()), &target).await
    }

    /// Uploads a file as the part `file` of a form; `told` is told of each piece of it that goes out, by its bytes. `data` of
    /// the answer.
    ///
    /// # Errors
    /// When the file cannot be read, or the server cannot be reached, is none, or refuses.
    pub async fn upload(
        &self,
        path: &str,
        file: &Path,
        told: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<Value, ClientError> {
        let target = self.target(path, &[]);
        let form = Form::of(file).await?;
        // A signature is of the whole body, so a file that is signed is read twice.
        let md5 = match self.credentials {
            Credentials::Key { .. } => form.md5().await?,
            Credentials::Password { .. } => String::new(),
        };
        let request = self.request(
            &Method::POST,
            &target,
            &form.content_type,
            |draft, access_key, secret_key| draft.authorization_for(&md5, access_key, secret_key),
        );
        let request = request.timeout(UPLOAD_PATIENCE).header(CONTENT_LENGTH, form.length());
        let data = self.answer(request.body(form.body(told).await?), &target).await?;
        Ok(data.unwrap_or_default())
    }

    /// Path and query, as they are sent and signed.
    fn target(&self, path: &str, parameters: &[(&str, &str)]) -> String {
        let base = self.url.path().trim_end_matches('/');
        match parameters {
            [] => format!("{base}{path}"),
            some => format!("{base}{path}?{}", sign::query(some)),
        }
    }

    /// The server's name and port.
    fn host(&self) -> String {
        match (self.url.host_str().unwrap_or_default(), self.url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        }
    }

    fn url_of(&self, target: &str) -> String {
        format!("{}://{}{target}", self.url.scheme(), self.host())
    }

    /// A request without its body, which `sign` signs where there is a key.
    fn request(
        &self,
        method: &Method,
        target: &str,
        content_type: &str,
        sign: impl FnOnce(Draft<'_>, &str, &str) -> String,
    ) -> RequestBuilder {
        let nonce = hex::encode(rand::random::<[u8; 8]>());
        let date = httpdate::fmt_http_date(SystemTime::now());
        let request = self.http.request(method.clone(), self.url_of(target));
        let request = request
            .header(CONTENT_TYPE, content_type)
            .header(DATE, &date)
            .header(ACCEPT_LANGUAGE, &self.language);
        match &self.credentials {
            Credentials::Password { user, password } => request.basic_auth(user, Some(password)),
            Credentials::Key { access_key, secret_key } => {
                let draft = Draft {
                    method: method.as_str(),
                    body: &[],
                    content_type,
                    date: &date,
                    host: &self.host(),
                    headers: &[(NONCE, &nonce)],
                    target,
                };
                let authorization = sign(draft, access_key, secret_key);
                request.header(AUTHORIZATION, authorization).header(NONCE, &nonce)
            }
        }
    }

    async fn answer<D: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        target: &str,
    ) -> Result<Option<D>, ClientError> {
        let url = self.url_of(target);
        let unreachable = |source| ClientError::Unreachable {
            url: url.clone(),
            source,
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status().as_u16();
        let text = response.text().await.map_err(unreachable)?;
        answer(&text, status).ok_or(ClientError::Envelope { url, status })?
    }
}

/// What the server alone fills in, as far as it is read.
#[derive(Deserialize)]
struct Envelope<D> {
    #[serde(default = "Option::default")]
    data: Option<D>,
    error: Option<Value>,
    successful: bool,
}

/// `None` when it is no envelope.
fn answer<D: DeserializeOwned>(text: &str, status: u16) -> Option<Result<Option<D>, ClientError>> {
    let envelope: Envelope<D> = serde_json::from_str(text).ok()?;
    if envelope.successful {
        return Some(Ok(envelope.data));
    }
    let error = envelope.error?;
    let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    Some(Err(ClientError::Refused {
        code: text("debugMessage"),
        message: text("message"),
        status,
    }))
}

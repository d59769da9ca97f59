//! Why a request is answered with an error: everything the envelope needs to say so.

use std::time::Duration;

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use obfleet_wire::{
    Code, Refusal,
    envelope::{ErrorBody, SubError},
};

use super::{envelope::Outcome, language::Language, messages};

/// What a handler fails with; the envelope turns it into a status and a sentence in the reader's language.
#[derive(Debug, Clone)]
pub struct ApiError(Box<Details>);

#[derive(Debug, Clone)]
struct Details {
    status: StatusCode,
    refusal: Refusal,
    /// Takes the place of the refusal's first argument.
    fault: Option<Fault>,
    retry_after: Option<Duration>,
}

/// What is wrong with a request, found before anything was asked of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A path or query parameter or a body member with a value that cannot be.
    Value {
        /// The parameter's or member's name.
        name: String,
        /// What was given.
        given: String,
        /// What it has to be.
        wanted: Wanted,
    },
    /// A body member nobody knows.
    UnknownMember(String),
    /// A body member that has to be there.
    MissingMember(String),
    /// A body member of the wrong type; what the parser said.
    WrongMember {
        /// The member's path, `obproxyInstallParam.hostIds[0]`.
        member: String,
        /// What the parser said, in English.
        reason: String,
    },
    /// A body that is no JSON; where and why.
    NotJson(String),
    /// A body of the wrong type; the one that is needed.
    ContentType(&'static str),
    /// A body larger than so many bytes.
    TooLarge(u64),
    /// A body that stopped coming.
    BodyBroken,
    /// A multipart body without the part.
    MissingPart(&'static str),
    /// A method and path nobody serves.
    NoRoute {
        /// The method.
        method: String,
        /// The path.
        path: String,
    },
    /// An enrolment that cannot be accepted.
    Enrolment(EnrolmentFault),
}

/// What a value has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// A positive integer id.
    Id,
    /// Positive integer ids with commas between them.
    Ids,
    /// An integer from 1 to the given one.
    UpTo(u64),
    /// `member,asc` or `member,desc`.
    Sort,
    /// A path segment that is UTF-8 once decoded.
    Utf8,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// An IP address or host name.
    Address,
}

/// Why an enrolment is not accepted. Which of token and proof is wrong is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnrolmentFault {
    /// The token is unknown, used, expired, or the proof was not made with it.
    Token,
    /// The signing request cannot be used.
    Csr,
    /// The host's uid is no plain name.
    HostUid,
}

impl Fault {
    /// What is wrong, as a part of a sentence.
    pub fn text(&self, language: Language) -> String {
        let chinese = language == Language::Chinese;
        match self {
            Self::Value { name, given, wanted } if chinese => {
                format!("参数 {name} 的值 '{given}' 不合法，应为{}", wanted.text(language))
            }
            Self::Value { name, given, wanted } => format!("{name} is '{given}' but must be {}", wanted.text(language)),
            Self::UnknownMember(name) if chinese => format!("请求体中的成员 {name} 无法识别"),
            Self::UnknownMember(name) => format!("The body's member {name} is not known here"),
            Self::MissingMember(name) if chinese => format!("请求体缺少成员 {name}"),
            Self::MissingMember(name) => format!("The body's member {name} is missing"),
            Self::WrongMember { member, reason } if chinese => format!("请求体中的成员 {member} 不合法（{reason}）"),
            Self::WrongMember { member, reason } => format!("The body's member {member} is wrong ({reason})"),
            Self::NotJson(reason) if chinese => format!("请求体不是合法的 JSON（{reason}）"),
            Self::NotJson(reason) => format!("the body is not JSON ({reason})"),
            Self::ContentType(wanted) if chinese => format!("Content-Type 应为 {wanted}"),
            Self::ContentType(wanted) => format!("its Content-Type must be {wanted}"),
            Self::TooLarge(limit) if chinese => format!("请求体超过 {limit} 字节的上限"),
            Self::TooLarge(limit) => format!("its body is larger than {limit} bytes"),
            Self::BodyBroken if chinese => "请求体未能完整接收".to_owned(),
            Self::BodyBroken => "its body did not arrive completely".to_owned(),
            Self::MissingPart(name) if chinese => format!("multipart 请求体缺少 {name} 部分"),
            Self::MissingPart(name) => format!("its multipart body has no part named {name}"),
            Self::NoRoute { method, path } if chinese => format!("{path} 没有 {method} 方法"),
            Self::NoRoute { method, path } => format!("there is no {method} for {path}"),
            Self::Enrolment(fault) => fault.text(chinese).to_owned(),
        }
    }
}

impl Wanted {
    fn text(self, language: Language) -> String {
        let chinese = language == Language::Chinese;
        match self {
            Self::Id if chinese => "正整数 ID".to_owned(),
            Self::Id => "a positive integer id".to_owned(),
            Self::Ids if chinese => "以逗号分隔的正整数 ID".to_owned(),
            Self::Ids => "positive integer ids with commas between them".to_owned(),
            Self::UpTo(most) if chinese => format!(" 1 至 {most} 之间的整数"),
            Self::UpTo(most) => format!("an integer from 1 to {most}"),
            Self::Sort if chinese => "成员名,asc 或 成员名,desc".to_owned(),
            Self::Sort => "a member of the list's entries, then ,asc or ,desc".to_owned(),
            Self::Utf8 if chinese => "合法的 UTF-8 文本".to_owned(),
            Self::Utf8 => "valid UTF-8".to_owned(),
            Self::OneOf(words) if chinese => format!("以下之一：{}", words.join("、")),
            Self::OneOf(words) => format!("one of {}", words.join(", ")),
            Self::Address if chinese => "IP 地址或主机名".to_owned(),
            Self::Address => "an IP address or host name".to_owned(),
        }
    }
}

impl EnrolmentFault {
    fn text(self, chinese: bool) -> &'static str {
        match self {
            Self::Token if chinese => "注册令牌无效、已使用或已过期，请创建新的令牌",
            Self::Token => "the enrolment token is wrong, used or expired, so create a new one",
            Self::Csr if chinese => "csrPem 不是可用的证书签名请求",
            Self::Csr => "csrPem is not a certificate signing request that can be used",
            Self::HostUid if chinese => "hostUid 只能包含 1 至 63 个小写字母、数字和连字符",
            Self::HostUid => "hostUid takes 1 to 63 lower case letters, digits and hyphens",
        }
    }
}

impl ApiError {
    /// What is wrong with the request; the fault decides code and status.
    pub fn fault(fault: Fault) -> Self {
        let (code, status, field) = match &fault {
            Fault::Value { name, .. } => (Code::Com10001, None, Some(name.clone())),
            Fault::UnknownMember(name) | Fault::MissingMember(name) | Fault::WrongMember { member: name, .. } => {
                (Code::Com10001, None, Some(name.clone()))
            }
            Fault::ContentType(_) => (Code::Com10003, Some(StatusCode::UNSUPPORTED_MEDIA_TYPE), None),
            Fault::TooLarge(_) => (Code::Com10003, Some(StatusCode::PAYLOAD_TOO_LARGE), None),
            Fault::Enrolment(EnrolmentFault::Token) => (Code::Com10003, Some(StatusCode::UNAUTHORIZED), None),
            Fault::NotJson(_)
            | Fault::BodyBroken
            | Fault::MissingPart(_)
            | Fault::NoRoute { .. }
            | Fault::Enrolment(_) => (Code::Com10003, None, None),
        };
        let mut error = Self::plain(code);
        error.0.status = status.unwrap_or(error.0.status);
        error.0.refusal.field = field;
        error.0.fault = Some(fault);
        error
    }

    /// A refusal whose sentence takes no arguments.
    pub fn plain(code: Code) -> Self {
        Refusal::new(code, [""; 0]).into()
    }

    /// A parameter with a value that cannot be.
    pub fn value(name: &str, given: &str, wanted: Wanted) -> Self {
        let (name, given) = (name.to_owned(), given.to_owned());
        Self::fault(Fault::Value { name, given, wanted })
    }

    /// The server itself failed. `reason` is told; it must carry no secret.
    pub fn internal(reason: impl ToString) -> Self {
        Refusal::new(Code::Com10999, [reason.to_string()]).into()
    }

    /// Answers with another status than the code's own.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    /// When it makes sense to try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Seconds until it makes sense to try again, rounded up.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.0.retry_after.map(seconds)
    }

    /// The `error` member of the envelope.
    pub fn body(&self, language: Language) -> ErrorBody {
        let Details { refusal, fault, .. } = &*self.0;
        let code = refusal.code;
        let arguments = match fault {
            Some(fault) => vec![fault.text(language)],
            None => refusal.args.clone(),
        };
        let message = messages::message(code).sentence(language, &arguments);
        let sub_error = refusal.field.as_ref().map(|field| SubError {
            object: "request".to_owned(),
            field: field.clone(),
            rejected_value: match fault {
                Some(Fault::Value { given, .. }) => Some(given.clone().into()),
                _ => None,
            },
            message: message.clone(),
        });
        // Modules of OCP share their numbers (COM10001, TSK10001), so the whole code is told as well.
        ErrorBody {
            code: messages::number(code),
            message,
            debug_message: Some(messages::label(code)),
            sub_errors: sub_error.into_iter().collect(),
            target: refusal.target.clone(),
        }
    }
}

/// Whole seconds, rounded up.
pub fn seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self(Box::new(Details {
            status: messages::message(refusal.code).status,
            refusal,
            fault: None,
            retry_after: None,
        }))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        Outcome::Refused(self).into_response()
    }
}

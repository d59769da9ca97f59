//! Why a request is answered with an error: everything the envelope needs to say so.

use std::{io, time::Duration};

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use obfleet_wire::{
    Code, Refusal,
    envelope::{ErrorBody, SubError},
    reason::Arg,
};

use super::{
    envelope::Outcome,
    fault::{EnrolmentFault, Fault, Wanted},
    language::Language,
    messages, reasons,
};

/// What a handler fails with; the envelope turns it into a status and a sentence in the reader's language.
#[derive(Debug, Clone)]
pub struct ApiError(Box<Details>);

#[derive(Debug, Clone)]
struct Details {
    status: StatusCode,
    refusal: Refusal,
    /// Takes the place of the refusal's first argument.
    fault: Option<Fault>,
    /// What is wrong besides.
    others: Vec<Fault>,
    retry_after: Option<Duration>,
}

impl ApiError {
    /// What is wrong with the request; the fault decides code and status.
    pub fn fault(fault: Fault) -> Self {
        let (code, status) = match &fault {
            Fault::Value { .. }
            | Fault::UnknownMember(_)
            | Fault::MissingMember(_)
            | Fault::RepeatedMember(_)
            | Fault::WrongMember { .. } => (Code::Com10001, None),
            Fault::KeyReused { .. } => (Code::Com10001, Some(StatusCode::CONFLICT)),
            Fault::ContentType(_) => (Code::Com10003, Some(StatusCode::UNSUPPORTED_MEDIA_TYPE)),
            Fault::TooLarge(_) => (Code::Com10003, Some(StatusCode::PAYLOAD_TOO_LARGE)),
            Fault::TooManyListeners(_) | Fault::TooManyUploads(_) | Fault::NoLease | Fault::Stopping => {
                (Code::Com10999, Some(StatusCode::SERVICE_UNAVAILABLE))
            }
            Fault::PackageKeys => (Code::Com10999, None),
            Fault::TooManyRequests(_) => (Code::Com10003, Some(StatusCode::TOO_MANY_REQUESTS)),
            Fault::RangeBeyond(_) => (Code::Com10003, Some(StatusCode::RANGE_NOT_SATISFIABLE)),
            Fault::NoRoom => (Code::Com10999, Some(StatusCode::INSUFFICIENT_STORAGE)),
            Fault::Enrolment(EnrolmentFault::Token) => (Code::Com10003, Some(StatusCode::UNAUTHORIZED)),
            Fault::OtherSite => (Code::Com10009, None),
            Fault::Login(_) => (Code::Iam10000, None),
            Fault::NotJson { .. }
            | Fault::BodyBroken
            | Fault::MissingPart(_)
            | Fault::RepeatedPart(_)
            | Fault::NoRoute { .. }
            | Fault::Enrolment(_) => (Code::Com10003, None),
        };
        let mut error = Self::plain(code);
        error.0.status = status.unwrap_or(error.0.status);
        error.0.refusal.field = fault.field().map(str::to_owned);
        error.0.fault = Some(fault);
        error
    }

    /// What is wrong with a request in several places; the first counts.
    #[must_use]
    pub fn and(mut self, others: Vec<Fault>) -> Self {
        self.0.others = others;
        self
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

    /// The disk failed in what is said; a full one is told apart.
    pub fn storage(what: &str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                tracing::error!(%error, "{what}");
                Self::fault(Fault::NoRoom)
            }
            _ => Self::internal(format!("{what}: {error}")),
        }
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
        let Details {
            refusal, fault, others, ..
        } = &*self.0;
        let code = refusal.code;
        let mut arguments = match fault {
            Some(fault) => vec![fault.text(language)],
            None => refusal.args.iter().map(|arg| reasons::text(arg, language)).collect(),
        };
        // COM10001 is about a field; its faults name it within their own text.
        if let (Code::Com10001, None, Some(field), [reason]) = (code, fault, &refusal.field, &mut *arguments) {
            *reason = format!("{field}{}{reason}", language.choose(": ", "："));
        }
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
        let others = others.iter().filter_map(|fault| {
            let sentence = messages::message(code).sentence(language, &[fault.text(language)]);
            Some(SubError {
                object: "request".to_owned(),
                field: fault.field()?.to_owned(),
                rejected_value: None,
                message: sentence,
            })
        });
        // Modules of OCP share their numbers (COM10001, TSK10001), so the whole code is told as well.
        ErrorBody {
            // OCP has no number for this one.
            code: match fault {
                Some(Fault::TooManyRequests(_)) => 0,
                _ => messages::number(code),
            },
            message,
            debug_message: Some(messages::label(code)),
            sub_errors: sub_error.into_iter().chain(others).collect(),
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
        let is_conflict = |arg: &Arg| matches!(arg, Arg::Reason(reason) if reason.is_conflict());
        let status = match refusal.args.iter().any(is_conflict) {
            true => StatusCode::CONFLICT,
            false => messages::message(refusal.code).status,
        };
        Self(Box::new(Details {
            status,
            refusal,
            fault: None,
            others: Vec::new(),
            retry_after: None,
        }))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        Outcome::Refused(self).into_response()
    }
}

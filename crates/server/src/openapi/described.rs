//! What a handler takes and answers, read off its own signature.

use std::net::SocketAddr;

use axum::{
    extract::{ConnectInfo, Query, Request, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::shape::schema;
use crate::{
    auth::{Who, granted::Scope},
    http::{ApiError, Data, Idempotency, Json, ListQuery, NoData, OptionalJson, PathIds},
};

/// Makes the schema of one type; see [`schema`].
pub type Schema = fn(&mut Map<String, Value>) -> Result<Value, String>;

/// What a handler answers when all is well.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// The envelope, with this in it.
    Data(Schema),
    /// The envelope, with nothing in it.
    Nothing,
    /// This without an envelope.
    Json(Schema),
    /// Text.
    Text,
    /// Something of its own.
    Own,
}

/// A handler.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// The path of its function.
    pub handler: &'static str,
    /// The body it reads, and whether it has to be there.
    pub body: Option<(Schema, bool)>,
    /// It reads the whole request itself.
    pub raw: bool,
    /// It takes `Idempotency-Key`.
    pub idempotent: bool,
    /// It reads the query.
    pub query: bool,
    /// What it answers.
    pub answer: Answer,
}

/// Handlers; `T` is as in [`axum::handler::Handler`].
pub trait Described<T> {
    /// What it takes and answers.
    fn operation() -> Operation;
}

/// [`Described::operation`] of a handler.
pub fn operation<T, H: Described<T>>(_: &H) -> fn() -> Operation {
    H::operation
}

/// What a handler may take.
pub trait Taken {
    /// Tells it.
    fn tell(operation: &mut Operation);
}

/// What a handler may answer.
pub trait Answered {
    /// It.
    const ANSWER: Answer;
}

macro_rules! untold {
    ($($kind:ty),*) => {
        $(
            impl Taken for $kind {
                fn tell(_: &mut Operation) {}
            }
        )*
    };
}

untold!(Who, Scope, HeaderMap, PathIds, ConnectInfo<SocketAddr>);

impl<S> Taken for State<S> {
    fn tell(_: &mut Operation) {}
}

impl Taken for Request {
    fn tell(operation: &mut Operation) {
        operation.raw = true;
    }
}

impl Taken for ListQuery {
    fn tell(operation: &mut Operation) {
        operation.query = true;
    }
}

impl<T> Taken for Query<T> {
    fn tell(operation: &mut Operation) {
        operation.query = true;
    }
}

impl Taken for Idempotency {
    fn tell(operation: &mut Operation) {
        operation.idempotent = true;
    }
}

impl<T: for<'de> Deserialize<'de>> Taken for Json<T> {
    fn tell(operation: &mut Operation) {
        operation.body = Some((schema::<T>, true));
    }
}

impl<T: for<'de> Deserialize<'de>> Taken for OptionalJson<T> {
    fn tell(operation: &mut Operation) {
        operation.body = Some((schema::<T>, false));
    }
}

impl<T: for<'de> Deserialize<'de>> Answered for Data<T> {
    const ANSWER: Answer = Answer::Data(schema::<T>);
}

impl Answered for NoData {
    const ANSWER: Answer = Answer::Nothing;
}

impl<T: for<'de> Deserialize<'de>> Answered for axum::Json<T> {
    const ANSWER: Answer = Answer::Json(schema::<T>);
}

impl Answered for String {
    const ANSWER: Answer = Answer::Text;
}

impl Answered for &'static str {
    const ANSWER: Answer = Answer::Text;
}

impl Answered for (StatusCode, &'static str) {
    const ANSWER: Answer = Answer::Text;
}

impl Answered for StatusCode {
    const ANSWER: Answer = Answer::Own;
}

impl Answered for Response {
    const ANSWER: Answer = Answer::Own;
}

impl<T: Answered> Answered for Result<T, ApiError> {
    const ANSWER: Answer = T::ANSWER;
}

impl<F, Fut> Described<((),)> for F
where
    F: FnOnce() -> Fut,
    Fut: Future,
    Fut::Output: Answered,
{
    fn operation() -> Operation {
        Operation::new::<F, Fut::Output>()
    }
}

macro_rules! handlers {
    ($($($taken:ident)*;)*) => {
        $(
            impl<F, Fut, M, $($taken),*> Described<(M, $($taken,)*)> for F
            where
                F: FnOnce($($taken),*) -> Fut,
                Fut: Future,
                Fut::Output: Answered,
                $($taken: Taken,)*
            {
                fn operation() -> Operation {
                    let mut operation = Operation::new::<F, Fut::Output>();
                    $($taken::tell(&mut operation);)*
                    operation
                }
            }
        )*
    };
}

handlers! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E G;
}

impl Operation {
    fn new<F, A: Answered>() -> Self {
        Self {
            handler: std::any::type_name::<F>(),
            body: None,
            raw: false,
            idempotent: false,
            query: false,
            answer: A::ANSWER,
        }
    }
}

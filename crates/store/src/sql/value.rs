//! What a statement is given.

use std::borrow::Cow;

/// A value for a mark of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'v> {
    /// No value.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A number, also a time or an id.
    Integer(i64),
    /// A text.
    Text(Cow<'v, str>),
}

impl Value<'_> {
    /// Independent of what it was taken from.
    pub(crate) fn into_owned(self) -> Value<'static> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Integer(value) => Value::Integer(value),
            Self::Text(text) => Value::Text(text.into_owned().into()),
        }
    }
}

macro_rules! integers {
    ($($number:ty),+) => {
        $(
            impl From<$number> for Value<'_> {
                fn from(number: $number) -> Self {
                    Self::Integer(number.into())
                }
            }

            impl From<&$number> for Value<'_> {
                fn from(number: &$number) -> Self {
                    Self::Integer((*number).into())
                }
            }
        )+
    };
}
integers!(i64, u32, u16);

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&bool> for Value<'_> {
    fn from(value: &bool) -> Self {
        Self::Bool(*value)
    }
}

impl<'v> From<&'v str> for Value<'v> {
    fn from(text: &'v str) -> Self {
        Self::Text(text.into())
    }
}

impl<'v> From<&'v String> for Value<'v> {
    fn from(text: &'v String) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl<'v, T: Into<Value<'v>>> From<Option<T>> for Value<'v> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<'v> From<&'v Option<String>> for Value<'v> {
    fn from(text: &'v Option<String>) -> Self {
        text.as_deref().into()
    }
}

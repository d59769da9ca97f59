//! The language of a reply, from `Accept-Language`.

use axum::http::{HeaderMap, header::ACCEPT_LANGUAGE};

/// The languages obfleet speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    /// For everybody who does not ask for Chinese.
    #[default]
    English,
    /// `zh`, `zh-CN`, `zh-Hans-CN`, …
    Chinese,
}

impl Language {
    /// The one of two that is in this language.
    pub fn choose<T>(self, english: T, chinese: T) -> T {
        match self {
            Self::English => english,
            Self::Chinese => chinese,
        }
    }

    /// The language the client likes best; the first one wins among equals.
    pub fn of(headers: &HeaderMap) -> Self {
        let wishes = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        let mut best = (0.0, Self::English);
        for wish in wishes.unwrap_or_default().split(',') {
            let (tag, parameters) = wish.split_once(';').unwrap_or((wish, ""));
            let weight = parameters
                .trim()
                .strip_prefix("q=")
                .map_or(1.0, |q| q.trim().parse().unwrap_or(0.0));
            let primary = tag
                .trim()
                .split(['-', '_'])
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase();
            let language = match primary.as_str() {
                "zh" => Self::Chinese,
                "en" => Self::English,
                _ => continue,
            };
            if weight > best.0 {
                best = (weight, language);
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_best_liked_of_the_two() {
        let of = |wish: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_LANGUAGE, wish.parse().unwrap());
            Language::of(&headers)
        };
        assert_eq!(Language::of(&HeaderMap::new()), Language::English);
        assert_eq!(of("zh-CN"), Language::Chinese);
        assert_eq!(of("zh_cn,en;q=0.5"), Language::Chinese);
        assert_eq!(of("en-US,zh-CN"), Language::English);
        assert_eq!(of("en;q=0.3, zh;q=0.8"), Language::Chinese);
        assert_eq!(of("fr, de;q=0.9"), Language::English);
        assert_eq!(of("zh;q=x"), Language::English);
    }
}

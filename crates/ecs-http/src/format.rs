//! JSON or XML: which of the two an answer comes in.
//!
//! What must always hold: the choice needs nothing but what arrived, so that a request whose
//! parameters cannot be read gets its refusal in the format it asked for.
//! Left to others: writing it (`response`).

use axum::http::{HeaderMap, header};

use crate::{parameters, signature};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerFormat {
    /// `application/json`
    Json,
    /// `text/xml`
    Xml,
}

impl AnswerFormat {
    /// `Format` if it names one of the two, else JSON for an ACS3 client that accepts it, else XML.
    pub(crate) fn of(headers: &HeaderMap, query: &str, form: Option<&[u8]>) -> Self {
        let asked = parameters::peek(query.as_bytes(), "Format")
            .or_else(|| form.and_then(|form| parameters::peek(form, "Format")));
        asked.and_then(|text| Self::named(&text)).unwrap_or_else(|| Self::by_headers(headers))
    }

    fn named(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("json") {
            Some(Self::Json)
        } else if text.eq_ignore_ascii_case("xml") {
            Some(Self::Xml)
        } else {
            None
        }
    }

    fn by_headers(headers: &HeaderMap) -> Self {
        let accepts_json = headers.get_all(header::ACCEPT).iter().any(|value| {
            value.to_str().is_ok_and(|text| text.to_ascii_lowercase().contains("json"))
        });
        if signature::is_acs3(headers) && accepts_json { Self::Json } else { Self::Xml }
    }

    /// Byte for byte what clients look for: one of them reads an error as XML only with exactly this.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json;charset=utf-8",
            Self::Xml => "text/xml;charset=utf-8",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_parameter_wins_in_any_case_and_from_the_form_too() {
        let none = HeaderMap::new();
        assert_eq!(AnswerFormat::of(&none, "a=%FF&Format=jSoN", None), AnswerFormat::Json);
        assert_eq!(AnswerFormat::of(&none, "", Some(b"Format=JSON")), AnswerFormat::Json);
        assert_eq!(AnswerFormat::of(&none, "Format=yaml", None), AnswerFormat::Xml);
        let acs3 = headers(&[
            ("authorization", "ACS3-HMAC-SHA256 Credential=x"),
            ("accept", "application/json"),
        ]);
        assert_eq!(AnswerFormat::of(&acs3, "", None), AnswerFormat::Json);
        assert_eq!(AnswerFormat::of(&acs3, "Format=XML", None), AnswerFormat::Xml);
    }

    #[test]
    fn accept_counts_for_acs3_only() {
        let plain = headers(&[("accept", "application/json")]);
        assert_eq!(AnswerFormat::of(&plain, "", None), AnswerFormat::Xml);
    }
}

//! A request as it arrived, with its parameters decoded.
//!
//! What must always hold: action and version are read where the signature covers them: from the
//! headers with ACS3, from the parameters otherwise, whatever stands in the other place.
//! Left to others: whether the signature is right (`signature`), what is asked for (`actions`).

use axum::{
    body::Bytes,
    http::{HeaderMap, Method},
};

use crate::{
    parameters::{self, Parameters},
    refusal::Refusal,
    signature,
};

const ACTION: &str = "Action";
const ACTION_HEADER: &str = "x-acs-action";

/// A request as it arrived, with its parameters decoded.
#[derive(Debug)]
pub(crate) struct Request {
    /// GET or POST.
    pub(crate) method: Method,
    /// As sent.
    pub(crate) headers: HeaderMap,
    /// As sent.
    pub(crate) body: Bytes,
    /// Those of the query alone: ACS3 signs them apart from the body.
    pub(crate) query_parameters: Parameters,
    /// Those of query and body.
    pub(crate) parameters: Parameters,
}

impl Request {
    /// Decodes the parameters.
    pub(crate) fn read(
        method: Method,
        query: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Self, Refusal> {
        if method != Method::GET && method != Method::POST {
            let message =
                format!("This HTTP method is not supported. Use GET or POST, not {method}.");
            return Err(Refusal::new("UnsupportedHTTPMethod", 403, message));
        }
        let query_parameters = Parameters::of_form(query.as_bytes())?;
        let of_body = Parameters::of_body(&headers, &body)?;
        let parameters = query_parameters.clone().merged(of_body)?;
        Ok(Self { method, headers, body, query_parameters, parameters })
    }

    /// The action asked for.
    pub(crate) fn action(&self) -> Option<&str> {
        self.named(ACTION, ACTION_HEADER)
    }

    /// The version of the API it is asked of.
    pub(crate) fn version(&self) -> Option<&str> {
        self.named("Version", "x-acs-version")
    }

    fn named(&self, parameter: &str, header: &str) -> Option<&str> {
        if signature::is_acs3(&self.headers) {
            text_of(&self.headers, header)
        } else {
            self.parameters.text(parameter)
        }
    }
}

/// The action that [`Request::action`] will tell, before anything is decoded or refused.
pub(crate) fn peek_action(headers: &HeaderMap, query: &str, form: Option<&[u8]>) -> Option<String> {
    if signature::is_acs3(headers) {
        return text_of(headers, ACTION_HEADER).map(str::to_owned);
    }
    let of_query = parameters::peek(query.as_bytes(), ACTION);
    of_query.or_else(|| parameters::peek(form?, ACTION))
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

#[cfg(test)]
impl Request {
    pub(crate) fn for_test(
        method: &str,
        query: &str,
        pairs: &[(&'static str, &str)],
        body: &'static [u8],
    ) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        let query_parameters = Parameters::of_form(query.as_bytes()).unwrap();
        Self {
            method: method.parse().unwrap(),
            headers,
            body: Bytes::from_static(body),
            parameters: query_parameters.clone(),
            query_parameters,
        }
    }

    pub(crate) fn with_parameters(method: &str, parameters: Parameters) -> Self {
        Self {
            method: method.parse().unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            query_parameters: parameters.clone(),
            parameters,
        }
    }
}

//! The envelope of an answer: root element, request id, content type, status.
//!
//! What must always hold: a JSON document never goes out with the content type of XML, nor the other
//! way round; a success holds no top-level `Code`, which one client takes for an error.
//! Left to others: the fields (`actions`), the choice of the format (`format`).

use axum::{
    body::Body,
    http::{Response, StatusCode, header},
};

use crate::{format::AnswerFormat, refusal::Refusal, tree::Tree};

/// In milliseconds; two of the SDKs tell throttling by it.
const RETRY_AFTER: &str = "x-acs-retry-after";

const XML_DECLARATION: &str = "<?xml version='1.0' encoding='UTF-8'?>";

/// A success: the fields of the action, with the request id.
pub(crate) fn success(
    format: AnswerFormat,
    action: &str,
    request_id: &str,
    mut fields: Vec<(&'static str, Tree)>,
) -> Response<Body> {
    debug_assert!(fields.iter().all(|(name, _)| *name != "Code"), "pop-core takes it for an error");
    fields.insert(0, ("RequestId", request_id.into()));
    document(format, 200, &Tree::Object(fields), &format!("{action}Response"))
}

/// A refusal.
pub(crate) fn refusal(
    format: AnswerFormat,
    refusal: &Refusal,
    request_id: &str,
    host: &str,
) -> Response<Body> {
    let fields = Tree::object([
        ("RequestId", request_id.into()),
        ("HostId", host.into()),
        ("Code", refusal.code.into()),
        ("Message", refusal.message.as_str().into()),
    ]);
    let mut response = document(format, refusal.status, &fields, "Error");
    if let Some(after) = refusal.retry_after {
        // Never 0, which clients take for none.
        let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        response.headers_mut().insert(RETRY_AFTER, millis.into());
    }
    response
}

fn document(format: AnswerFormat, status: u16, tree: &Tree, root: &str) -> Response<Body> {
    let text = match format {
        AnswerFormat::Json => tree.to_json(),
        AnswerFormat::Xml => format!("{XML_DECLARATION}{}", tree.to_xml(root)),
    };
    plain(status, format.content_type(), text)
}

/// Any other document of ours.
pub(crate) fn plain(status: u16, content_type: &'static str, text: String) -> Response<Body> {
    let status = StatusCode::from_u16(status).expect("every status of ours is a valid one");
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, content_type)
        .body(Body::from(text))
        .expect("status and content type are valid")
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn text_of(response: Response<Body>) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bytes = runtime.block_on(response.into_body().collect()).unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn a_success_in_both_formats() {
        let fields = || vec![("DiskId", Tree::from("d-1"))];
        let json = success(AnswerFormat::Json, "CreateDisk", "ID", fields());
        assert_eq!(json.headers()["content-type"], "application/json;charset=utf-8");
        assert_eq!(text_of(json), r#"{"DiskId":"d-1","RequestId":"ID"}"#);
        let xml = success(AnswerFormat::Xml, "CreateDisk", "ID", fields());
        assert_eq!(xml.headers()["content-type"], "text/xml;charset=utf-8");
        assert_eq!(
            text_of(xml),
            "<?xml version='1.0' encoding='UTF-8'?><CreateDiskResponse><RequestId>ID</RequestId>\
             <DiskId>d-1</DiskId></CreateDiskResponse>"
        );
    }

    #[test]
    fn a_refusal_in_both_formats() {
        let cause = Refusal::new("InvalidDiskId.NotFound", 404, "no disk <d-1>");
        let json = refusal(AnswerFormat::Json, &cause, "ID", "127.0.0.1:8520");
        assert_eq!(json.status(), 404);
        assert_eq!(
            text_of(json),
            r#"{"Code":"InvalidDiskId.NotFound","HostId":"127.0.0.1:8520","Message":"no disk <d-1>","RequestId":"ID"}"#
        );
        assert_eq!(
            text_of(refusal(AnswerFormat::Xml, &cause, "ID", "h")),
            "<?xml version='1.0' encoding='UTF-8'?><Error><RequestId>ID</RequestId><HostId>h</HostId>\
             <Code>InvalidDiskId.NotFound</Code><Message>no disk &lt;d-1&gt;</Message></Error>"
        );
    }
}

//! Queries and forms, sent as the operator, so that everything behind the signatures is reached.
//!
//! What must be true: every request is answered, never with "we made a mistake", and the next right one is answered
//! right.

use crate::{
    campaign::Trial,
    service::{Service, request},
};

/// A new service after so many inputs, or it would fill up with what they make.
const EACH: usize = 2_000;

/// Names and values that mean something.
pub(crate) const WORDS: [&[u8]; 16] = [
    b"&",
    b"=",
    b"+",
    b"%",
    b"%00",
    b"%ff",
    b".1.",
    b"&Tag.1.Key=",
    b"&Format=XML",
    b"[\"d-1\"]",
    b"18446744073709551616",
    b"-1",
    b"true",
    b"&PageSize=",
    b"&MaxResults=",
    b"&NextToken=",
];

/// The query up to the first line feed, the body behind it.
pub(crate) fn prepare() -> Trial {
    let mut service = Service::start();
    let mut tried = 0;
    Box::new(move |input| {
        tried += 1;
        if tried % EACH == 0 {
            service = Service::start();
        }
        let mut parts = input.splitn(2, |byte| *byte == b'\n');
        let query = parts.next().unwrap_or_default();
        let body = parts.next().unwrap_or_default();
        let headers = b"Host: local\r\nContent-Type: application/x-www-form-urlencoded";
        service.control(&request(b"POST", query, headers, body));
        let right = service.control(&request(
            b"GET",
            b"Action=DescribeRegions&Format=JSON",
            b"Host: local",
            b"",
        ));
        assert_eq!(right.status, 200, "{right:?}");
    })
}

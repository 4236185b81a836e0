//! End-to-end headers, and those that belong to one connection (RFC 9110, 7.6.1).

use hyper::HeaderMap;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

use soramode_protocol::http_client::{MARK_HEADER, Outgoing};

const OF_THE_CONNECTION: [HeaderName; 9] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Returns the mark of this process, for [`MARK_HEADER`].
pub(crate) fn mark(random: [u8; 8]) -> HeaderValue {
    HeaderValue::from(u64::from_le_bytes(random))
}

/// Returns whether a request has been passed on by this process before, and so goes in circles.
pub(crate) fn has_come_back(headers: &HeaderMap, outgoing: &Outgoing) -> bool {
    outgoing.mark.as_ref().is_some_and(|mark| {
        headers
            .get_all(MARK_HEADER)
            .iter()
            .any(|other| other == mark)
    })
}

/// Returns a request's headers as they go on, with our mark.
pub(crate) fn passed_on(headers: &HeaderMap, outgoing: &Outgoing) -> HeaderMap {
    let mut passed = end_to_end(headers);
    if let Some(mark) = &outgoing.mark {
        passed.append(MARK_HEADER, mark.clone());
    }
    passed
}

/// Returns the end-to-end headers of a request or an answer. The sender adds `host` and
/// `content-length` again.
pub(crate) fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let named: Vec<&str> = named
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let stays = |name: &HeaderName| {
        let is_made_anew = *name == HOST || *name == CONTENT_LENGTH;
        is_made_anew
            || OF_THE_CONNECTION.contains(name)
            || named
                .iter()
                .any(|word| word.eq_ignore_ascii_case(name.as_str()))
    };
    headers
        .iter()
        .filter(|(name, _)| !stays(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_by_hop_headers_stay() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("host", "a"),
            ("content-length", "1"),
            ("x-kept", "1"),
            ("x-kept", "2"),
            ("sora-connection-id", "c"),
        ] {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        let passed = end_to_end(&headers);
        let names: Vec<&str> = passed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x-kept", "x-kept", "sora-connection-id"]);
    }
}

//! Pages of other origins (`spec/api.md` 1.4): those that `api.cors.origins` names may read answers, and use a cookie.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::uri::Uri;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::app::App;

const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
const REQUEST_HEADERS: &str = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, \
                               Tus-Resumable, Upload-Length, Upload-Offset";
const RESPONSE_HEADERS: &str = "ETag, Link, Location, Tus-Resumable, Upload-Length, Upload-Offset";
/// Seconds for which a browser need not ask again.
const KEPT: &str = "600";

/// Answers questions of browsers, and adds what lets pages of other origins read an answer.
pub(super) async fn cors(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Some(origin) = request.headers().get(header::ORIGIN).cloned() else { return next.run(request).await };
    let own = is_own(&origin, request.headers(), request.uri());
    // A setting that cannot be read allows nothing.
    let list = app.config.now().text("api.cors.origins").unwrap_or_default();
    let named = is_named(&origin, &list);
    let asks = HeaderName::from_static("access-control-request-method");
    if request.method() == Method::OPTIONS && request.headers().contains_key(&asks) {
        let mut answer = empty(if named { StatusCode::NO_CONTENT } else { StatusCode::FORBIDDEN });
        if named {
            allow(answer.headers_mut(), origin);
            let headers = answer.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(REQUEST_HEADERS));
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(KEPT));
        }
        return answer;
    }
    // What a WebSocket carries is readable by any page unless the server refuses.
    if request.headers().contains_key(header::SEC_WEBSOCKET_KEY) && !own && !named {
        return empty(StatusCode::FORBIDDEN);
    }
    // A cookie goes with whatever a page sends; pages that are neither our own nor named get nothing for it.
    if super::cookie(request.headers()).is_some() && !own && !named {
        return empty(StatusCode::FORBIDDEN);
    }
    let mut answer = next.run(request).await;
    if named {
        allow(answer.headers_mut(), origin);
        let exposed = HeaderValue::from_static(RESPONSE_HEADERS);
        answer.headers_mut().insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    } else {
        answer.headers_mut().append(header::VARY, HeaderValue::from_static("Origin"));
    }
    answer
}

fn empty(status: StatusCode) -> Response {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer.headers_mut().append(header::VARY, HeaderValue::from_static("Origin"));
    answer
}

fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
}

/// Whether the list has the origin; `null`, which every sandbox has, is never one.
fn is_named(origin: &HeaderValue, list: &str) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let mut named = list.split([' ', ',']).filter(|word| word.contains("://"));
    named.any(|word| word.trim_end_matches('/').eq_ignore_ascii_case(origin))
}

/// Whether the page came from where it asks.
fn is_own(origin: &HeaderValue, headers: &HeaderMap, uri: &Uri) -> bool {
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| uri.authority().map(|authority| authority.as_str()));
    let plain = |host: &str| host.trim_end_matches(":443").to_ascii_lowercase();
    matches!((origin, host), (Some(("https", origin)), Some(host)) if plain(origin) == plain(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_whole() {
        let named = |origin: &'static str| {
            is_named(
                &HeaderValue::from_static(origin),
                "https://console.example, https://other.example:8443/ null *",
            )
        };
        assert!(named("https://console.example") && named("https://OTHER.example:8443"));
        for bad in [
            "http://console.example",
            "https://console.example.evil",
            "https://evil-console.example",
            "https://other.example",
            "null",
            "*",
            "",
        ] {
            assert!(!named(bad), "{bad}");
        }
    }

    #[test]
    fn an_own_page_is_one_of_the_same_host_by_tls() {
        let own = |origin: &'static str, host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static(host));
            is_own(&HeaderValue::from_static(origin), &headers, &Uri::from_static("/api"))
        };
        assert!(
            own("https://api.example", "api.example:443")
                && own("https://api.example:8443", "API.example:8443")
        );
        assert!(!own("http://api.example", "api.example") && !own("https://api.example:1", "api.example"));
        assert!(!own("null", "null"));
    }
}

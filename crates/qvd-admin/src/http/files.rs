//! The files of a web console that lies in the directory `path.wat`, with its `config.json` (`spec/api.md` 1.3).

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use tokio::fs;
use tokio_util::io::ReaderStream;

use crate::app::App;

/// What pages may do. Consoles of older versions have scripts in their pages and templates that become code; an API of
/// another host is asked by TLS.
const POLICY: &str = "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; \
                      style-src 'self' 'unsafe-inline'; connect-src 'self' https: wss:; object-src 'none'; \
                      base-uri 'self'; form-action 'self'; frame-ancestors 'self'";

/// What a directory stands for.
const INDEX: &str = "index.html";

/// Answers with a file, or with 404.
pub(super) async fn serve(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    // The console's login form posts to its own page, so that browsers offer to keep the password.
    if !matches!(*request.method(), Method::GET | Method::HEAD | Method::POST) {
        return empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    let Ok(root) = app.config.now().path("path.wat") else { return empty(StatusCode::NOT_FOUND) };
    match find(&root, request.uri().path()).await {
        Some((path, metadata)) => answer(&path, &metadata, request.method(), request.headers()).await,
        None => empty(StatusCode::NOT_FOUND),
    }
}

/// The plain file that a path means, if it really is below `root`.
async fn find(root: &Path, path: &str) -> Option<(PathBuf, Metadata)> {
    let relative = relative(path)?;
    let root = fs::canonicalize(root).await.ok()?;
    let mut file = fs::canonicalize(root.join(relative)).await.ok()?;
    if fs::metadata(&file).await.ok()?.is_dir() {
        file = fs::canonicalize(file.join(INDEX)).await.ok()?;
    }
    let metadata = fs::metadata(&file).await.ok()?;
    (file.starts_with(&root) && metadata.is_file()).then_some((file, metadata))
}

/// A path without anything that could lead elsewhere, or to a hidden file.
fn relative(path: &str) -> Option<PathBuf> {
    let names = path.split('/').filter(|name| !name.is_empty());
    let mut relative = PathBuf::new();
    for name in names {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+@~".contains(c);
        if name.starts_with('.') || !name.chars().all(plain) {
            return None;
        }
        relative.push(name);
    }
    Some(relative)
}

async fn answer(path: &Path, metadata: &Metadata, method: &Method, asked: &HeaderMap) -> Response {
    let tag = tag(metadata);
    let known = asked.get(header::IF_NONE_MATCH).is_some_and(|known| *known == tag);
    let mut response = if known {
        empty(StatusCode::NOT_MODIFIED)
    } else if method == Method::HEAD {
        empty(StatusCode::OK)
    } else {
        match fs::File::open(path).await {
            Ok(file) => Response::new(Body::from_stream(ReaderStream::new(file))),
            Err(_) => return empty(StatusCode::NOT_FOUND),
        }
    };
    let headers = response.headers_mut();
    if !known {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind(path)));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(metadata.len()));
    }
    headers.insert(header::ETAG, tag);
    // Asked for anew each time, answered by the tag: an update of the console is seen at once.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

/// Changes whenever the file does.
fn tag(metadata: &Metadata) -> HeaderValue {
    let changed = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let tag = format!("\"{:x}-{:x}\"", changed.unwrap_or_default().as_micros(), metadata.len());
    HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""))
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// The type of a file by its name.
fn kind(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    match extension.as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json; charset=utf-8",
        "txt" | "md" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "eot" => "application/vnd.ms-fontobject",
        "pdf" => "application/pdf",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_directory() {
        assert_eq!(relative("/").unwrap(), Path::new(""));
        assert_eq!(relative("//lib//jquery-1.2.min.js").unwrap(), Path::new("lib/jquery-1.2.min.js"));
        for bad in ["/../etc/passwd", "/a/../../b", "/.git/config", "/a%2e%2e/b", "/a\\b", "/a b", "/\u{e9}"]
        {
            assert_eq!(relative(bad), None, "{bad}");
        }
    }
}

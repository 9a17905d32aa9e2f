//! Logging in and out.

use std::sync::Arc;

use axum::extract::{Request as HttpRequest, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use qvd_model::action::{Method, Status};
use serde_json::json;

use super::super::answer::{SessionCookie, keep, without_cookie};
use super::super::{body_of, cookie, origin};
use super::{problem, question, reply};
use crate::app::App;
use crate::envelope::Envelope;
use crate::refusal::{Doing, Refusal};
use crate::session;

/// Opens a session for login, tenant and password.
pub(super) async fn open(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    let outcome = async {
        let (parts, body) = request.into_parts();
        let body = body_of(body).await?;
        question::object_of(&parts.headers, &body)?;
        let envelope = Envelope::from_json(&body)?;
        for (name, given) in [("login", &envelope.login), ("password", &envelope.password)] {
            if given.is_none() {
                return Err(Refusal::about(Status::MissingArgument, name));
            }
        }
        let known =
            session::recognize(&app, &envelope, None, &origin(&parts.headers, &parts.extensions)).await?;
        let (sid, life) = known.session.ok_or_else(|| Refusal::new(Status::NotAuthenticated))?;
        let mut response = reply::json(StatusCode::CREATED, &json!({"sid": sid.as_str(), "life": life}));
        keep(&mut response, &SessionCookie { sid, life });
        Ok(response)
    };
    outcome.await.unwrap_or_else(|refusal: Refusal| problem::respond(&refusal.while_doing(Doing::Reading)))
}

/// Ends the session.
pub(super) async fn close(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    let outcome = match cookie(request.headers()) {
        Some(sid) => session::log_out(&app, &sid).await,
        None => Err(Refusal::new(Status::NotAuthenticated)),
    };
    match outcome {
        Ok(()) => {
            let mut response = reply::json(StatusCode::NO_CONTENT, &json!(null));
            *response.body_mut() = axum::body::Body::empty();
            response.headers_mut().remove(header::CONTENT_TYPE);
            without_cookie(response)
        }
        Err(refusal) => problem::respond(&refusal.while_doing(Doing::Deleting)),
    }
}

pub(super) async fn neither() -> Response {
    problem::wrong_method([Method::Post, Method::Delete].into_iter())
}

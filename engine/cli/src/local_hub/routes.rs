//! What is answered to which request.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use evaltasks_hub::hub::{ContentId, Pinned, Published, RepositoryFile, git_blob};
use serde_json::{Value, json};

use super::LocalHub;
use super::content::{Asked, asked, body};
use crate::http::{JSON, refuse};
use crate::report::visible;
use crate::round::reason;

const MAIN: &str = "main";
const COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");
const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
const ERROR_MESSAGE: HeaderName = HeaderName::from_static("x-error-message");

type Hub = State<Arc<LocalHub>>;

/// The hub's addresses as its users ask for them.
pub fn router(hub: Arc<LocalHub>) -> Router {
    let api = "/api/models/{organisation}/{name}";
    Router::new()
        .route(
            api,
            get(async |hub: Hub, Path((organisation, name)): Path<(String, String)>| {
                about(&hub, [&organisation, &name, MAIN], info)
            }),
        )
        .route(
            &format!("{api}/revision/{{revision}}"),
            get(async |hub: Hub, Path(at): Path<[String; 3]>| {
                about(&hub, at.each_ref().map(String::as_str), info)
            }),
        )
        .route(
            &format!("{api}/tree/{{revision}}"),
            get(async |hub: Hub, Path(at): Path<[String; 3]>| {
                about(&hub, at.each_ref().map(String::as_str), tree)
            }),
        )
        .route("/{organisation}/{name}/resolve/{revision}/{*path}", get(resolve))
        .with_state(hub)
}

/// What this hub has not.
#[derive(Clone, Copy)]
enum Missing {
    Repository,
    Revision,
    File,
}

impl IntoResponse for Missing {
    /// In the real hub's word for it.
    fn into_response(self) -> Response {
        let (code, message) = match self {
            Missing::Repository => ("RepoNotFound", "there is no such repository"),
            Missing::Revision => {
                ("RevisionNotFound", "the repository has one commit, which is main")
            }
            Missing::File => ("EntryNotFound", "the repository has no such file"),
        };
        let mut response = refuse(StatusCode::NOT_FOUND, message);
        let headers = response.headers_mut();
        headers.insert(ERROR_CODE, HeaderValue::from_static(code));
        headers.insert(ERROR_MESSAGE, HeaderValue::from_static(message));
        response
    }
}

/// The model of a repository at a revision.
fn find<'a>(
    hub: &'a LocalHub,
    [organisation, name, revision]: [&str; 3],
) -> Result<&'a Published, Missing> {
    let model = hub.model(&format!("{organisation}/{name}")).ok_or(Missing::Repository)?;
    let is_known = revision == MAIN || revision == model.pinned().commit();
    if is_known { Ok(model) } else { Err(Missing::Revision) }
}

/// Something of a model, as JSON.
fn about(hub: &LocalHub, at: [&str; 3], what: fn(&Published) -> Value) -> Response {
    let model = match find(hub, at) {
        Ok(model) => model,
        Err(missing) => return missing.into_response(),
    };
    let commit = commit_header(model.pinned());
    ([(header::CONTENT_TYPE, HeaderValue::from_static(JSON)), commit], what(model).to_string())
        .into_response()
}

fn commit_header(pinned: &Pinned) -> (HeaderName, HeaderValue) {
    (COMMIT, header_value(pinned.commit()))
}

/// Digests, numbers and names of our own making are values of headers.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

fn info(model: &Published) -> Value {
    let repository = model.pinned().repository();
    let files = model.listing().files().iter();
    let siblings: Vec<Value> = files.map(|file| json!({ "rfilename": file.path })).collect();
    json!({
        "_id": repository,
        "id": repository,
        "modelId": repository,
        "sha": model.pinned().commit(),
        "private": false,
        "gated": false,
        "disabled": false,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": siblings,
    })
}

fn tree(model: &Published) -> Value {
    model.listing().files().iter().map(entry).collect()
}

fn entry(file: &RepositoryFile) -> Value {
    let blob = git_blob(file);
    let mut entry =
        json!({ "type": "file", "path": file.path, "size": file.bytes, "oid": blob.oid });
    if let ContentId::Sha256(sha256) = &file.content {
        entry["lfs"] = json!({ "oid": sha256, "size": file.bytes, "pointerSize": blob.bytes });
    }
    entry
}

/// A file, or some of its bytes.
async fn resolve(
    State(hub): Hub,
    Path([organisation, name, revision, path]): Path<[String; 4]>,
    headers: HeaderMap,
) -> Response {
    let found = find(&hub, [&organisation, &name, &revision]).and_then(|model| {
        let file = model.listing().file(&path).ok_or(Missing::File)?;
        Ok((file.clone(), commit_header(model.pinned())))
    });
    let (file, commit) = match found {
        Ok(found) => found,
        Err(missing) => return missing.into_response(),
    };
    let etag = header_value(&format!("\"{}\"", file.content.digest()));
    let is_meant = headers.get(header::IF_RANGE).is_none_or(|known| *known == etag);
    let range = headers.get(header::RANGE).filter(|_| is_meant);
    let asked = asked(range.and_then(|range| range.to_str().ok()), file.bytes);
    let opened = tokio::task::spawn_blocking(move || {
        let model = hub.model(&format!("{organisation}/{name}"));
        model.map(|model| model.open(&path))
    });
    let opened = match opened.await {
        Ok(Some(Ok(opened))) => opened,
        Ok(Some(Err(error))) => return changed(&reason(&error)),
        Ok(None) | Err(_) => return changed("the file cannot be opened"),
    };
    let bytes = file.bytes;
    let (status, content_range, body) = match asked {
        Asked::Whole => (StatusCode::OK, None, body(opened, 0..bytes)),
        Asked::Part(range) => {
            let about = format!("bytes {}-{}/{bytes}", range.start, range.end - 1);
            (StatusCode::PARTIAL_CONTENT, Some(about), body(opened, range))
        }
        Asked::Beyond => {
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(format!("bytes */{bytes}")), Body::empty())
        }
    };
    let fixed = [
        commit,
        (header::ETAG, etag),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
    ];
    let content_range = content_range.map(|range| [(header::CONTENT_RANGE, header_value(&range))]);
    (status, fixed, content_range.into_iter().flatten().collect::<HeaderMap>(), body)
        .into_response()
}

/// A file that is not what was listed, which no answer could be right about.
fn changed(reason: &str) -> Response {
    tracing::warn!("failed to {}", visible(reason));
    refuse(StatusCode::CONFLICT, "the file is not as it was when the network began")
}

//! What is served of a validator, and where.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawPathParams, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clap::Args;

use super::api::{self, Refusal};
use super::limits::MAX_CONNECTION_TIME;
use super::site::{self, Site};
use super::{metrics, openapi, page};
use crate::http::{self, JSON, Listen, Listening, refuse};
use crate::validator::state::StateError;

const HTML: &str = "text/html; charset=utf-8";

/// Where to serve.
#[derive(Args, Clone, Debug)]
pub struct ListenArguments {
    /// Serve a web page, an API and metrics of what goes on; read only
    // A service names it; who adds another one to its arguments means that.
    #[arg(
        long,
        value_name = "ADDRESS",
        num_args = 0..=1,
        default_missing_value = "127.0.0.1:9944",
        overrides_with = "listen"
    )]
    pub listen: Option<SocketAddr>,
    /// Allow --listen on an address that other machines reach, without any password
    #[arg(long, requires = "listen")]
    pub listen_publicly: bool,
}

/// Why nothing is served. Reads after "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// There is no server.
    #[error(transparent)]
    Http(#[from] http::ServerError),
    /// There is nothing to show.
    #[error(transparent)]
    State(#[from] StateError),
}

impl ListenArguments {
    /// Serves until the server is dropped, if an address was asked for.
    ///
    /// # Errors
    /// When it cannot be listened on, the system gives no thread, or the state
    /// cannot be read.
    pub fn serve(
        &self,
        site: impl FnOnce() -> Result<Site, StateError>,
    ) -> Result<Option<http::Server>, ServerError> {
        let Some(address) = self.listen else { return Ok(None) };
        let publicly = self.listen_publicly;
        let listening = Listening::bind(Listen { address, publicly, option: "--listen-publicly" })?;
        let server = listening.serve(router(Arc::new(site()?)), MAX_CONNECTION_TIME)?;
        tracing::info!("serving the page at http://{}/", server.address());
        Ok(Some(server))
    }
}

fn router(site: Arc<Site>) -> Router {
    let mut router = Router::new();
    for endpoint in api::endpoints() {
        let path = endpoint.path;
        let endpoint = Arc::new(endpoint);
        let handle = async move |State(site): State<Arc<Site>>,
                                 params: RawPathParams,
                                 RawQuery(query): RawQuery| {
            let endpoint = Arc::clone(&endpoint);
            let given = given(&params, query.as_deref());
            let make = move || endpoint.answer(&site, &given);
            read(move || make().map(|body| (StatusCode::OK, JSON, body))).await
        };
        router = router.route(path, get(handle));
    }
    router
        .route("/api/v1/openapi.json", get(async || ([(header::CONTENT_TYPE, JSON)], openapi())))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics_text))
        .route("/", get(overview))
        .route("/competitions/{competition}", get(competition_page))
        .route("/events", get(events_page))
        .with_state(site)
}

/// Path and query parameters by name.
fn given(params: &RawPathParams, query: Option<&str>) -> Vec<(String, String)> {
    let path = params.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    path.chain(pairs(query.unwrap_or_default())).collect()
}

fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
    };
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

/// An answer that is read from the state, on a thread that may block.
async fn read(
    make: impl FnOnce() -> Result<(StatusCode, &'static str, Vec<u8>), Refusal> + Send + 'static,
) -> Response {
    match tokio::task::spawn_blocking(make).await {
        Ok(Ok((status, kind, body))) => {
            (status, [(header::CONTENT_TYPE, kind)], body).into_response()
        }
        Ok(Err(refusal)) => {
            let (status, answer) = refusal.answer();
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            refuse(status, &answer.error)
        }
        Err(error) => {
            tracing::error!(%error, "failed to make an answer");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be made")
        }
    }
}

async fn healthz(State(site): State<Arc<Site>>) -> Response {
    read(move || {
        let health = site::health(&site);
        let healthy = health.healthy;
        let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Ok((status, JSON, serde_json::to_vec(&health).map_err(Refusal::Json)?))
    })
    .await
}

async fn metrics_text(State(site): State<Arc<Site>>) -> Response {
    read(move || Ok((StatusCode::OK, metrics::CONTENT_TYPE, metrics::render(&site)?.into_bytes())))
        .await
}

async fn overview(State(site): State<Arc<Site>>, RawQuery(query): RawQuery) -> Response {
    html(move || page::overview(&site, refreshes(query.as_deref()))).await
}

async fn competition_page(
    State(site): State<Arc<Site>>,
    params: RawPathParams,
    RawQuery(query): RawQuery,
) -> Response {
    let key = params.iter().next().map(|(_, key)| key.to_owned()).unwrap_or_default();
    html(move || page::competition(&site, &key, refreshes(query.as_deref()))).await
}

async fn events_page(State(site): State<Arc<Site>>, RawQuery(query): RawQuery) -> Response {
    let given: Vec<_> = pairs(query.as_deref().unwrap_or_default()).collect();
    html(move || page::events(&site, &given)).await
}

async fn html(make: impl FnOnce() -> Result<String, Refusal> + Send + 'static) -> Response {
    read(move || make().map(|page| (StatusCode::OK, HTML, page.into_bytes()))).await
}

/// Whether a page is to load itself again; `?refresh=off` stops it.
fn refreshes(query: Option<&str>) -> bool {
    !pairs(query.unwrap_or_default()).any(|(name, value)| name == "refresh" && value == "off")
}

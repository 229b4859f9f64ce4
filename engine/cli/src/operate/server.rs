//! The server: read only, on this machine's own address, and bounded in
//! everything that a client can spend.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, RawPathParams, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clap::Args;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::api::{self, ErrorAnswer, Refusal};
use super::limits::{
    MAX_CONNECTION_TIME, MAX_CONNECTIONS, MAX_END_TIME, MAX_HEAD_BYTES, MAX_HEAD_TIME, MAX_HEADERS,
};
use super::site::{self, Site};
use super::{metrics, openapi, page};
use crate::report::visible;
use crate::validator::state::StateError;

/// Sent with every answer: nothing is loaded from elsewhere, run, framed or kept.
const SECURITY_HEADERS: [(header::HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CACHE_CONTROL, "no-store"),
    (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// Where to serve.
#[derive(Args, Clone, Debug)]
pub struct ListenArguments {
    /// Serve a web page, an API and metrics of what goes on; read only
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:9944")]
    pub listen: Option<SocketAddr>,
    /// Allow --listen on an address that other machines reach, without any password
    #[arg(long, requires = "listen")]
    pub listen_publicly: bool,
}

/// Why nothing is served. Reads after "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Others would see it.
    #[error(
        "listen on {0}: other machines reach this address, and there is no password; \
         --listen-publicly allows it"
    )]
    Public(SocketAddr),
    /// The system does not give the address.
    #[error("listen on {address}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system has no room for another thread.
    #[error("start the server")]
    Start(#[source] std::io::Error),
    /// There is nothing to show.
    #[error(transparent)]
    State(#[from] StateError),
}

impl ListenArguments {
    /// Takes the address, if there is one to take.
    async fn bind(&self) -> Result<Option<TcpListener>, ServerError> {
        let Some(address) = self.listen else { return Ok(None) };
        if !address.ip().is_loopback() {
            if !self.listen_publicly {
                return Err(ServerError::Public(address));
            }
            tracing::warn!(%address, "everybody who reaches this address sees what this validator does");
        }
        let bound = TcpListener::bind(address).await;
        bound.map(Some).map_err(|source| ServerError::Bind { address, source })
    }
}

/// A server with a thread of its own. It ends when it is dropped.
pub struct Server {
    address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves, if an address was asked for.
    ///
    /// # Errors
    /// When it cannot be listened on, or the system gives no thread.
    pub fn start(
        listen: &ListenArguments,
        site: impl FnOnce() -> Result<Site, StateError>,
    ) -> Result<Option<Server>, ServerError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(MAX_CONNECTIONS)
            .build()
            .map_err(ServerError::Start)?;
        let Some(listener) = runtime.block_on(listen.bind())? else { return Ok(None) };
        let address = listener.local_addr().map_err(ServerError::Start)?;
        let site = Arc::new(site()?);
        let (end, ended) = oneshot::channel();
        let work = move || {
            let ended = async {
                let _ = ended.await;
            };
            runtime.block_on(serve(listener, site, ended));
            // An answer that is still being made is of no use to anybody.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("serve".to_owned()).spawn(work);
        let thread = thread.map_err(ServerError::Start)?;
        tracing::info!("serving the page at http://{address}/");
        Ok(Some(Server { address, end: Some(end), thread: Some(thread) }))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Either is gone when the thread panicked.
        let _ = self.end.take().map(|end| end.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Serves until `ended` is ready, and answers what is under way.
async fn serve(listener: TcpListener, site: Arc<Site>, ended: impl Future<Output = ()>) {
    let router = router(site);
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (end, ending) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut ended = pin!(ended);
    loop {
        // A client beyond the limit waits in the system's queue.
        let accept = async {
            let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
            Some((permit, listener.accept().await))
        };
        let accepted = tokio::select! {
            () = &mut ended => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = accept => accepted,
        };
        match accepted {
            Some((permit, Ok((stream, peer)))) => {
                let (router, ending) = (router.clone(), ending.clone());
                connections.spawn(async move {
                    attend(stream, peer, router, ending).await;
                    drop(permit);
                });
            }
            // Too many files are open, most likely: others will be closed.
            Some((_, Err(error))) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(MAX_END_TIME).await;
            }
            None => break,
        }
    }
    drop(end);
    let rest = async { while connections.join_next().await.is_some() {} };
    // What is still under way then is cut.
    let _ = timeout(MAX_END_TIME, rest).await;
}

/// One connection, from its first byte to its last.
async fn attend(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    mut ending: watch::Receiver<()>,
) {
    let local = stream.local_addr().ok();
    let service = router.layer(middleware::from_fn(move |mut request: Request, next: Next| {
        request.extensions_mut().insert(ConnectInfo(local));
        next.run(request)
    }));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(MAX_HEAD_TIME)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = pin!(connection);
    let until_closed = async {
        tokio::select! {
            result = connection.as_mut() => return result,
            _ = ending.changed() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    };
    match timeout(MAX_CONNECTION_TIME, until_closed).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a client spoke no HTTP, or left"),
        Err(_) => tracing::debug!(%peer, "a client stayed too long"),
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
        .fallback(async |request: Request| {
            let path = visible(request.uri().path());
            refuse(StatusCode::NOT_FOUND, &format!("there is nothing at {path}"))
        })
        .method_not_allowed_fallback(async || {
            refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are understood here")
        })
        .with_state(site)
        .layer(middleware::from_fn(guard))
}

/// What holds for every request and every answer.
async fn guard(request: Request, next: Next) -> Response {
    let local = request.extensions().get::<ConnectInfo<Option<SocketAddr>>>();
    let local = local.and_then(|ConnectInfo(address)| *address);
    let mut response = if has_body(request.headers()) {
        refuse(StatusCode::PAYLOAD_TOO_LARGE, "requests have no body here")
    } else if local.is_none_or(|address| address.ip().is_loopback()) && !is_own(request.headers()) {
        // A page of somebody else whose name was made to lead here.
        refuse(StatusCode::MISDIRECTED_REQUEST, "the Host must be localhost or an IP address")
    } else {
        next.run(request).await
    };
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    length || headers.contains_key(header::TRANSFER_ENCODING)
}

/// Whether the host that was asked for is this machine as it calls itself.
fn is_own(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
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

fn refuse(status: StatusCode, error: &str) -> Response {
    let answer = ErrorAnswer { error: error.to_owned() };
    let body = serde_json::to_vec(&answer).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, JSON)], Body::from(body)).into_response()
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

//! Serving over HTTP: read only, on this machine's own address unless the operator
//! says otherwise, and bounded in everything that a client can spend.

#[cfg(test)]
pub mod client;
pub mod limits;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::report::visible;
use limits::{MAX_CONNECTIONS, MAX_END_TIME, MAX_HEAD_BYTES, MAX_HEAD_TIME, MAX_HEADERS};

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
/// Content type of JSON.
pub const JSON: &str = "application/json";

/// What is said in place of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorAnswer {
    /// What is wrong, in a sentence without a full stop.
    pub error: String,
}

/// Why nothing is served. Reads after "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Others would see it.
    #[error(
        "listen on {address}: other machines reach this address, and there is no password; \
         {option} allows it"
    )]
    Public {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the operator has to say.
        option: &'static str,
    },
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
}

/// Where to serve.
#[derive(Clone, Copy, Debug)]
pub struct Listen {
    /// Port 0 takes a free one.
    pub address: SocketAddr,
    /// Whether other machines may reach it.
    pub publicly: bool,
    /// The option by which the operator says so.
    pub option: &'static str,
}

/// An address that was taken, where nobody is answered yet.
pub struct Listening {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
}

impl Listening {
    /// Takes the address.
    ///
    /// # Errors
    /// When others reach it without the operator's word, or it cannot be had.
    pub fn bind(listen: Listen) -> Result<Listening, ServerError> {
        let Listen { address, publicly, option } = listen;
        if !address.ip().is_loopback() {
            if !publicly {
                return Err(ServerError::Public { address, option });
            }
            tracing::warn!(%address, "everybody who reaches this address sees what is served there");
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(MAX_CONNECTIONS)
            .build()
            .map_err(ServerError::Start)?;
        let listener = runtime.block_on(TcpListener::bind(address));
        let listener = listener.map_err(|source| ServerError::Bind { address, source })?;
        let address = listener.local_addr().map_err(ServerError::Start)?;
        Ok(Listening { runtime, listener, address })
    }

    /// Answers by `router` on a thread of its own, until the server is dropped.
    /// A connection may stay open for `connection_time`, whatever it does.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn serve(self, router: Router, connection_time: Duration) -> Result<Server, ServerError> {
        let Listening { runtime, listener, address } = self;
        let router = router.fallback(nothing_there).method_not_allowed_fallback(only_reads);
        let router = router.layer(middleware::from_fn(guard));
        let (end, ended) = oneshot::channel();
        let work = move || {
            let ended = async {
                let _ = ended.await;
            };
            runtime.block_on(serve(listener, router, connection_time, ended));
            // An answer that is still being made is of no use to anybody.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("serve".to_owned()).spawn(work);
        let thread = thread.map_err(ServerError::Start)?;
        Ok(Server { address, end: Some(end), thread: Some(thread) })
    }
}

/// A server with a thread of its own. It ends when it is dropped.
pub struct Server {
    address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
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
async fn serve(
    listener: TcpListener,
    router: Router,
    connection_time: Duration,
    ended: impl Future<Output = ()>,
) {
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
                    let attended = attend(stream, peer, router, ending);
                    if timeout(connection_time, attended).await.is_err() {
                        tracing::debug!(%peer, "a client stayed too long");
                    }
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
        // A clock before 1970 has no date that HTTP could write.
        .auto_date_header(false)
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
    if let Err(error) = until_closed.await {
        tracing::debug!(%peer, %error, "a client spoke no HTTP, or left");
    }
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

async fn nothing_there(request: Request) -> Response {
    let path = visible(request.uri().path());
    refuse(StatusCode::NOT_FOUND, &format!("there is nothing at {path}"))
}

async fn only_reads() -> Response {
    refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are understood here")
}

/// An answer that says why there is none.
pub fn refuse(status: StatusCode, error: &str) -> Response {
    let answer = ErrorAnswer { error: error.to_owned() };
    let body = serde_json::to_vec(&answer).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, JSON)], Body::from(body)).into_response()
}

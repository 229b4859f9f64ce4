//! The wire between the clients and the server, which can be cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jsonrpsee::server::{Methods, ServerConfig, StopHandle, TowerServiceBuilder, serve};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{MAX_CONNECTIONS, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, MAX_SUBSCRIPTIONS};

/// Bytes on their way in each direction.
const BUFFER_BYTES: usize = 64 << 10;

/// All connections.
#[derive(Debug)]
pub struct Connections {
    open: AtomicUsize,
    /// Rises whenever all are to be cut.
    cut: watch::Sender<u64>,
    /// Whether nothing gets through.
    stalled: watch::Sender<bool>,
}

impl Default for Connections {
    fn default() -> Connections {
        let (cut, stalled) = (watch::Sender::new(0), watch::Sender::new(false));
        Connections { open: AtomicUsize::new(0), cut, stalled }
    }
}

impl Connections {
    /// Cuts those that there are.
    pub fn cut(&self) {
        self.cut.send_modify(|count| *count += 1);
    }

    /// Lets nothing through, or everything again.
    pub fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    /// Serves whoever connects, for ever.
    pub async fn serve(
        self: Arc<Connections>,
        listener: TcpListener,
        methods: Methods,
        stop: StopHandle,
    ) {
        let config = ServerConfig::builder()
            .max_request_body_size(MAX_REQUEST_BYTES)
            .max_response_body_size(MAX_RESPONSE_BYTES)
            .max_connections(MAX_CONNECTIONS as u32)
            .max_subscriptions_per_connection(MAX_SUBSCRIPTIONS)
            .build();
        let builder: TowerServiceBuilder<_, _> =
            jsonrpsee::server::Server::builder().set_config(config).to_service_builder();
        loop {
            let Ok((client, _)) = listener.accept().await else { continue };
            if self.open.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
                continue;
            }
            let service = builder.clone().build(methods.clone(), stop.clone());
            let (near, far) = tokio::io::duplex(BUFFER_BYTES);
            tokio::spawn(serve(far, service));
            tokio::spawn(Arc::clone(&self).relay(client, near));
        }
    }

    async fn relay(self: Arc<Connections>, client: TcpStream, server: tokio::io::DuplexStream) {
        self.open.fetch_add(1, Ordering::Relaxed);
        let mut cut = self.cut.subscribe();
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = tokio::io::split(server);
        tokio::select! {
            () = self.carry(from_client, to_server) => {}
            () = self.carry(from_server, to_client) => {}
            _ = cut.changed() => {}
        }
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Carries bytes one way until either end closes.
    async fn carry(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut stalled = self.stalled.subscribe();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
            let Some(bytes) = buffer.get(..length) else { return };
            if stalled.wait_for(|stalled| !stalled).await.is_err() {
                return;
            }
            if to.write_all(bytes).await.is_err() {
                return;
            }
        }
    }
}

//! Clients that refuse to connect where they should not.

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, OnceLock};

use reqwest::blocking::{Client, ClientBuilder};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Url};

use super::address::{IsPublic, objection};
use super::{DownloadFault, NetLimits, fault};

/// How a server may be reached; see [`objection`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    is_https: bool,
    was_public: bool,
    is_public: IsPublic,
}

impl Way {
    /// The way to an address, which is refused here if it is a number: no name
    /// server is asked for those.
    pub fn to(url: &Url, was_public: bool, is_public: IsPublic) -> Result<Way, DownloadFault> {
        let refused = |reason| DownloadFault::Refused { url: fault::shown(url), reason };
        let is_https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(refused("is neither https nor http")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("holds a user's name or password"));
        }
        let way = Way { is_https, was_public, is_public };
        let host = url.host_str().unwrap_or_default();
        let number = host.trim_start_matches('[').trim_end_matches(']');
        match number.parse::<IpAddr>().ok().and_then(|address| way.objection(&[address])) {
            Some(reason) => Err(refused(reason)),
            None => Ok(way),
        }
    }

    fn objection(self, addresses: &[IpAddr]) -> Option<&'static str> {
        objection(self.is_https, addresses, self.was_public, self.is_public)
    }
}

/// Why a name server's answer is not used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Objection(pub &'static str);

/// Finds addresses, and refuses those that may not be reached this way.
struct CheckedResolver(Way);

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let way = self.0;
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::task::spawn_blocking(move || (host.as_str(), 0).to_socket_addrs());
            let found: Vec<_> = found.await??.collect();
            let addresses: Vec<IpAddr> = found.iter().map(std::net::SocketAddr::ip).collect();
            match way.objection(&addresses) {
                Some(reason) => Err(Box::from(Objection(reason))),
                None => Ok(Box::new(found.into_iter()) as Addrs),
            }
        })
    }
}

/// One client for each way, made when it is first needed: a connection that
/// is used again was looked at for the same way.
#[derive(Debug, Default)]
pub(super) struct Clients([OnceLock<Client>; 4]);

impl Clients {
    pub fn get(&self, way: Way, limits: &NetLimits) -> Result<&Client, DownloadFault> {
        let slot = &self.0[usize::from(way.is_https) * 2 + usize::from(way.was_public)];
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let client = builder(way, limits).build();
        let client = client.map_err(|error| DownloadFault::Net(Box::new(error)))?;
        Ok(slot.get_or_init(|| client))
    }
}

fn builder(way: Way, limits: &NetLimits) -> ClientBuilder {
    let builder = Client::builder()
        .user_agent(concat!("evaltasks/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .http1_only()
        .dns_resolver(Arc::new(CheckedResolver(way)))
        .connect_timeout(limits.connect)
        .timeout(limits.read.min(limits.total))
        .pool_max_idle_per_host(limits.idle_connections)
        .pool_idle_timeout(limits.read);
    // Certificates are of no use where nothing is encrypted, and take time.
    if way.is_https { builder } else { builder.tls_certs_only(std::iter::empty::<Certificate>()) }
}

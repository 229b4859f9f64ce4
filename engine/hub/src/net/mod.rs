//! The one way to the net: a client that looks at every address before it
//! connects, and bounds whatever a server may do.
//!
//! Who names an address is not to be trusted with more than the bytes that
//! come back. Redirects are followed here, each target looked at like the
//! first; the addresses that are looked at are those that are connected to;
//! no proxy stands between; a token goes to the server that it is meant for,
//! and to no other. Every time and every size has a limit.
//!
//! Nothing here may be called from within an asynchronous runtime.

mod address;
mod body;
mod clock;
mod fault;
mod guard;
mod retry;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use reqwest::blocking::Response;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_RANGE, HeaderMap, HeaderValue, LOCATION, RANGE,
};
use reqwest::{StatusCode, Url};

pub use body::Body;
pub use clock::{Clock, SystemClock};
pub use fault::DownloadFault;
pub use retry::RetryPolicy;

use crate::limits;
use address::IsPublic;
use guard::{Clients, Way};

/// Times and counts that every request keeps to.
#[derive(Clone, Copy, Debug)]
pub struct NetLimits {
    /// Time to find and reach a server.
    pub connect: Duration,
    /// Time without a byte from a server.
    pub read: Duration,
    /// Time for an answer and all of its body, redirects included. It is looked
    /// at between reads.
    pub total: Duration,
    /// Redirects of one request.
    pub redirects: u32,
    /// Bytes that a server must send in each [`NetLimits::window`] that is
    /// spent waiting for it.
    pub min_bytes: u64,
    /// See [`NetLimits::min_bytes`].
    pub window: Duration,
    /// Connections to one server that are kept for the next request.
    pub idle_connections: usize,
}

impl NetLimits {
    /// For small answers: lists, headers, pages of rows.
    pub const SMALL: NetLimits = NetLimits {
        connect: limits::DOWNLOAD_CONNECT_TIME,
        read: limits::DOWNLOAD_READ_TIME,
        total: limits::DOWNLOAD_TIME,
        redirects: limits::MAX_REDIRECTS,
        min_bytes: limits::MIN_WINDOW_BYTES,
        window: limits::PROGRESS_WINDOW,
        idle_connections: limits::MAX_IDLE_CONNECTIONS,
    };
    /// For files of any size.
    pub const LARGE: NetLimits =
        NetLimits { total: limits::LARGE_DOWNLOAD_TIME, ..NetLimits::SMALL };
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// An address: https, or http on this machine.
    pub url: &'a str,
    /// Headers of the request, sent to every server that it is redirected to.
    pub headers: &'a [(&'static str, &'a str)],
    /// Sent as `Authorization: Bearer`, to the server of `url` alone.
    pub token: Option<&'a str>,
    /// The bytes that are wanted, of which there are some.
    pub range: Option<Range<u64>>,
    /// Bytes that the body may have.
    pub max_bytes: u64,
}

/// What a server answers, whatever its status; redirects have been followed.
#[derive(Debug)]
pub struct Answer {
    /// The status, such as 200.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// What follows.
    pub body: Body,
    /// How long to leave the server alone, if it says so.
    pub retry_after: Option<Duration>,
}

impl Answer {
    /// A header's value as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body, if the status is one of these.
    ///
    /// # Errors
    /// [`DownloadFault::Status`] when it is another.
    pub fn expect(self, statuses: &[u16]) -> Result<Answer, DownloadFault> {
        if statuses.contains(&self.status) {
            return Ok(self);
        }
        let code = self.header("x-error-code").map(fault::shorten);
        Err(DownloadFault::Status { status: self.status, code, retry_after: self.retry_after })
    }

    /// Address of the next page of the list that `from` is a page of, by the
    /// header `Link`: `<address>; rel="next"`, among others.
    ///
    /// # Errors
    /// When it is on another server: a token would go along.
    pub fn next_page(&self, from: &Url) -> Result<Option<Url>, DownloadFault> {
        let address = || {
            let links = self.header("link")?.split(',');
            let next = links.map(str::trim).find(|link| link.contains("rel=\"next\""))?;
            Some(next.strip_prefix('<')?.split_once('>')?.0)
        };
        let Some(address) = address() else { return Ok(None) };
        let next = from.join(address).ok().filter(|next| next.origin() == from.origin());
        let reason = || "its next page is not on the hub".to_owned();
        next.map(Some).ok_or_else(|| DownloadFault::BadAnswer { reason: reason() })
    }

    /// Where a partial answer lies: its first byte, the byte after its last,
    /// and the size of the whole where that is known.
    pub fn content_range(&self) -> Option<(Range<u64>, Option<u64>)> {
        let value = self.headers.get(CONTENT_RANGE)?.to_str().ok()?;
        let (range, size) = value.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let range = first.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?;
        let size = if size == "*" { None } else { Some(size.parse().ok()?) };
        Some((range, size))
    }
}

/// A client. Cheap to share, made once for many requests.
#[derive(Debug)]
pub struct Net {
    limits: NetLimits,
    clock: Arc<dyn Clock>,
    clients: Clients,
    offline: bool,
    is_public: IsPublic,
}

impl Net {
    /// A client that keeps to these limits.
    pub fn new(limits: NetLimits) -> Net {
        Net::with_clock(limits, Arc::new(SystemClock::default()))
    }

    /// The same, with a clock that also waits between attempts.
    pub fn with_clock(limits: NetLimits, clock: Arc<dyn Clock>) -> Net {
        let clients = Clients::default();
        Net { limits, clock, clients, offline: false, is_public: address::is_public }
    }

    /// The same, which refuses every request when `offline` is true.
    pub fn left_alone(self, offline: bool) -> Net {
        Net { offline, ..self }
    }

    /// The clock that it waits by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Asks once.
    ///
    /// # Errors
    /// Those of [`Attempt::get`].
    pub fn get(&self, ask: &Ask) -> Result<Answer, DownloadFault> {
        Attempt { net: self, started: self.clock.now(), number: 1 }.get(ask)
    }

    fn answer(
        &self,
        response: Response,
        max_bytes: u64,
        started: Duration,
    ) -> Result<Answer, DownloadFault> {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        // The body of a refusal is of no interest, however long.
        let is_wanted = response.status().is_success();
        let too_large = response.content_length().is_some_and(|promised| promised > max_bytes);
        if is_wanted && too_large {
            return Err(DownloadFault::TooLarge { limit: max_bytes });
        }
        let retry_after = retry::retry_after(&headers, self.clock.date());
        let clock = Arc::clone(&self.clock);
        let body = Body::new(response, max_bytes, self.limits, clock, started);
        Ok(Answer { status, headers, body, retry_after })
    }

    fn elapsed(&self, started: Duration) -> Duration {
        self.clock.now().saturating_sub(started)
    }
}

/// One of several attempts, which share the total time.
#[derive(Debug)]
pub struct Attempt<'a> {
    net: &'a Net,
    started: Duration,
    /// Its number, from 1.
    pub number: u32,
}

impl Attempt<'_> {
    /// Asks once.
    ///
    /// # Errors
    /// When no server can be reached within the limits, when one may not be
    /// connected to, when it redirects too often, and when it announces more
    /// than `max_bytes`. An answer with another status than 200 is no error.
    pub fn get(&self, ask: &Ask) -> Result<Answer, DownloadFault> {
        if self.net.offline {
            return Err(DownloadFault::Offline);
        }
        let mut url = parse(ask.url)?;
        let own_origin = url.origin();
        let mut was_public = false;
        let redirects = self.net.limits.redirects;
        for _ in 0..=redirects {
            let way = Way::to(&url, was_public, self.net.is_public)?;
            let token = ask.token.filter(|_| url.origin() == own_origin);
            let response = self.send(&url, way, ask, token)?;
            let Some(target) = redirect_target(&url, &response)? else {
                return self.net.answer(response, ask.max_bytes, self.started);
            };
            // An address that is not known could be any.
            let known = response.remote_addr().map(|address| address.ip());
            was_public |= known.is_none_or(self.net.is_public);
            url = target;
        }
        Err(DownloadFault::Redirects { limit: redirects })
    }

    fn send(
        &self,
        url: &Url,
        way: Way,
        ask: &Ask,
        token: Option<&str>,
    ) -> Result<Response, DownloadFault> {
        let Net { limits, clients, .. } = self.net;
        fault::check_total(limits, self.net.elapsed(self.started))?;
        // What is compressed could be far larger than its bytes.
        let mut request =
            clients.get(way, limits)?.get(url.clone()).header(ACCEPT_ENCODING, "identity");
        for (name, value) in ask.headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = token {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let mut value = value.map_err(|_| DownloadFault::BadToken)?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(range) = &ask.range {
            let last = range.end.saturating_sub(1);
            request = request.header(RANGE, format!("bytes={}-{last}", range.start));
        }
        request
            .send()
            .map_err(|error| fault::of_client(error, url, limits, self.net.elapsed(self.started)))
    }
}

/// Where an answer leads, if elsewhere.
fn redirect_target(from: &Url, response: &Response) -> Result<Option<Url>, DownloadFault> {
    let leads = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let Some(location) = response.headers().get(LOCATION).filter(|_| leads) else {
        return Ok(None);
    };
    let target = location.to_str().ok().and_then(|location| from.join(location).ok());
    let target = target.ok_or_else(|| DownloadFault::Refused {
        url: fault::shown(from),
        reason: "redirects to something that is no address",
    })?;
    Ok(Some(target))
}

fn parse(url: &str) -> Result<Url, DownloadFault> {
    Url::parse(url)
        .map_err(|_| DownloadFault::Refused { url: fault::shorten(url), reason: "is no address" })
}

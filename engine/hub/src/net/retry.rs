//! When to ask again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::{Attempt, DownloadFault, Net};
use crate::limits;

/// How often and when something is attempted again.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Attempts, the first included.
    pub attempts: u32,
    /// Wait before the second attempt; before each further one twice as long.
    /// Up to half of it is left out, so that not everybody comes back at once.
    pub backoff: Duration,
    /// Longest wait of our own.
    pub max_backoff: Duration,
    /// Longest wait, where a server asks for more.
    pub max_wait: Duration,
}

impl RetryPolicy {
    /// The usual policy.
    pub const USUAL: RetryPolicy = RetryPolicy {
        attempts: limits::DOWNLOAD_ATTEMPTS,
        backoff: limits::DOWNLOAD_BACKOFF,
        max_backoff: limits::MAX_RETRY_WAIT,
        max_wait: limits::MAX_RETRY_WAIT,
    };

    /// How long to wait after attempt `number`, from 1. What is left out is
    /// the same for the same `what` in one process: those that ask for the same
    /// are other machines.
    fn wait(&self, fault: &DownloadFault, number: u32, what: &str) -> Duration {
        if let DownloadFault::Status { retry_after: Some(asked), .. } = fault {
            return (*asked).min(self.max_wait);
        }
        let doublings = 2_u32.saturating_pow(number.saturating_sub(1));
        let longest = self.backoff.saturating_mul(doublings).min(self.max_backoff);
        static OWN: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let share = (OWN.hash_one((number, what)) % 256) as f64 / 512.0;
        longest.mul_f64(1.0 - share)
    }
}

impl Net {
    /// Attempts something until it succeeds, until it fails for good, or
    /// until the policy or the total time says that it is enough. `what` is
    /// its name, such as an address.
    ///
    /// Worth another attempt are servers that cannot be reached, break off or
    /// are too slow, and the statuses 408, 429 and those from 500. A server's Retry-After is
    /// kept to.
    ///
    /// # Errors
    /// That of the last attempt.
    pub fn retrying<T>(
        &self,
        policy: &RetryPolicy,
        what: &str,
        mut attempt: impl FnMut(&Attempt) -> Result<T, DownloadFault>,
    ) -> Result<T, DownloadFault> {
        let started = self.clock.now();
        let mut number = 1;
        loop {
            let fault = match attempt(&Attempt { net: self, started, number }) {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            };
            let wait = policy.wait(&fault, number, what);
            let left = self.limits.total.saturating_sub(self.elapsed(started));
            if !fault.may_pass() || number >= policy.attempts || wait >= left {
                return Err(fault);
            }
            self.clock.wait(wait);
            number += 1;
        }
    }
}

/// What the headers say: seconds, or a date; or when the next quota begins, for
/// the hub says no more than that.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let Some(value) = headers.get(RETRY_AFTER) else { return quota_renewed(headers) };
    let value = value.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// Time until a quota that is used up is renewed, such as 40 s by
/// `RateLimit: "api";r=0;t=40`, as in
/// <https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/>.
fn quota_renewed(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("ratelimit")?.to_str().ok()?;
    // Of several policies, one that is used up.
    value.split(',').find_map(|policy| {
        let number = |name: &str| {
            let mut parts = policy.split(';').filter_map(|part| part.trim().split_once('='));
            parts.find(|(found, _)| *found == name)?.1.parse::<u64>().ok()
        };
        (number("r") == Some(0)).then(|| number("t"))?.map(Duration::from_secs)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn what_retry_after_says() {
        let now = httpdate::parse_http_date("Wed, 21 Oct 2015 07:28:00 GMT").unwrap();
        let rows = [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Wed, 21 Oct 2015 07:29:30 GMT", Some(90)),
            ("Wed, 21 Oct 2015 07:27:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ];
        for (value, expected) in rows {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            let expected = expected.map(Duration::from_secs);
            assert_eq!(retry_after(&headers, now), expected, "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
        let rows = [
            ("\"api\";r=0;t=40", Some(40)),
            ("\"api\"; r=0; t=40", Some(40)),
            ("\"api\";r=3;t=40", None),
            ("\"pages\";r=9;t=1, \"resolvers\";r=0;t=7", Some(7)),
            ("\"api\";r=0", None),
            ("\"api\";r=0;t=-1", None),
            ("", None),
        ];
        for (value, expected) in rows {
            let mut headers = HeaderMap::new();
            headers.insert("ratelimit", HeaderValue::from_static(value));
            let expected = expected.map(Duration::from_secs);
            assert_eq!(retry_after(&headers, now), expected, "{value}");
            headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
            assert_eq!(retry_after(&headers, now), Some(Duration::from_secs(2)), "{value}");
        }
    }

    #[test]
    fn waits_double_and_stay_within_bounds() {
        let policy = RetryPolicy {
            attempts: 9,
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(10),
            max_wait: Duration::from_secs(20),
        };
        let longest = [1, 2, 4, 8, 10, 10];
        for (number, longest) in (1..).zip(longest) {
            let wait = policy.wait(&DownloadFault::Truncated, number, "file");
            let longest = Duration::from_secs(longest);
            assert!(wait > longest / 2 && wait <= longest, "{number}: {wait:?}");
            assert_eq!(policy.wait(&DownloadFault::Truncated, number, "file"), wait);
        }
        for (asked, expected) in [(0, 0), (3, 3), (11, 11), (21, 20)] {
            let retry_after = Some(Duration::from_secs(asked));
            let fault = DownloadFault::Status { status: 429, code: None, retry_after };
            assert_eq!(policy.wait(&fault, 1, "file"), Duration::from_secs(expected));
        }
    }
}

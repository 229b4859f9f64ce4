//! Signatures of requests to Amazon S3.
//!
//! Source: "Signature Version 4 signing process" of Amazon Web Services.

use std::time::{Duration, SystemTime};

use reqwest::Url;
use sha2::{Digest, Sha256};

use super::AwsKeys;

/// SHA-256 of nothing, which is what a GET request holds.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const DEFAULT_REGION: &str = "us-east-1";
const SERVICE: &str = "s3";
const BLOCK_BYTES: usize = 64;

/// Headers that a request is sent with; those with a name that ends a request
/// for somebody else are signed.
pub(super) type Headers = Vec<(&'static str, String)>;

/// Whether a server is one that takes such signatures.
pub(super) fn is_s3(url: &Url) -> bool {
    url.scheme() == "https" && url.host_str().is_some_and(|host| host.ends_with(".amazonaws.com"))
}

/// The headers that make a GET request of `url` one of the keys' owner.
pub(super) fn sign(url: &Url, keys: &AwsKeys, now: SystemTime) -> Headers {
    let host = url.host_str().unwrap_or_default();
    let region = region(host).or(keys.region.as_deref()).unwrap_or(DEFAULT_REGION);
    let time = timestamp(now);
    let mut headers: Headers =
        vec![("x-amz-content-sha256", EMPTY_SHA256.to_owned()), ("x-amz-date", time.clone())];
    headers.extend(keys.session.clone().map(|session| ("x-amz-security-token", session)));
    let signed: Vec<(&str, &str)> = std::iter::once(("host", host))
        .chain(headers.iter().map(|(name, value)| (*name, value.as_str())))
        .collect();
    let authorization = authorization(url.path(), &signed, keys, &time, region);
    headers.push(("authorization", authorization));
    headers
}

/// `signed` are sorted by name.
fn authorization(
    path: &str,
    signed: &[(&str, &str)],
    keys: &AwsKeys,
    time: &str,
    region: &str,
) -> String {
    let lines: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let payload = signed.iter().find(|(name, _)| *name == "x-amz-content-sha256");
    let payload = payload.map_or(EMPTY_SHA256, |(_, digest)| digest);
    let canonical = format!("GET\n{path}\n\n{lines}\n{names}\n{payload}");
    let date = time.get(..8).unwrap_or_default();
    let scope = format!("{date}/{region}/{SERVICE}/aws4_request");
    let digest = hex::encode(Sha256::digest(canonical));
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
    let first = format!("AWS4{}", keys.secret);
    let key = [date, region, SERVICE, "aws4_request"]
        .iter()
        .fold(first.into_bytes(), |key, part| hmac(&key, part.as_bytes()).to_vec());
    let signature = hex::encode(hmac(&key, text.as_bytes()));
    format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}",
        keys.id
    )
}

/// The region that a bucket's address names: `bucket.s3.eu-west-1.amazonaws.com`.
fn region(host: &str) -> Option<&str> {
    let (before, region) = host.strip_suffix(".amazonaws.com")?.rsplit_once('.')?;
    (before == "s3" || before.ends_with(".s3")).then_some(region)
}

/// Source: RFC 2104.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; BLOCK_BYTES];
    let short: &[u8] = match key.len() {
        0..=BLOCK_BYTES => key,
        _ => &Sha256::digest(key),
    };
    for (byte, of_key) in block.iter_mut().zip(short) {
        *byte = *of_key;
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message);
    let outer = Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c));
    outer.chain_update(inner.finalize()).finalize().into()
}

/// `20130524T000000Z`.
fn timestamp(now: SystemTime) -> String {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = since.as_secs();
    let day = crate::parquet_rows::date(seconds.cast_signed() / 86_400);
    let of_day = seconds % 86_400;
    let clock = format!("{:02}{:02}{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{}T{clock}Z", day.replace('-', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of "Authenticating Requests: Using the Authorization Header".
    fn example_keys() -> AwsKeys {
        AwsKeys {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            session: None,
            region: None,
        }
    }

    #[test]
    fn signatures_are_those_of_the_documentation() {
        let signed = [
            ("host", "examplebucket.s3.amazonaws.com"),
            ("range", "bytes=0-9"),
            ("x-amz-content-sha256", EMPTY_SHA256),
            ("x-amz-date", "20130524T000000Z"),
        ];
        let time = "20130524T000000Z";
        let found = authorization("/test.txt", &signed, &example_keys(), time, "us-east-1");
        let expected = "AWS4-HMAC-SHA256 \
            Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
            SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
            Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        assert_eq!(found, expected);
    }

    #[test]
    fn hashes_are_those_of_the_rfc() {
        // RFC 4231, cases 2 and 6.
        let rows: [(&[u8], &[u8], &str); 2] = [
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ];
        for (key, message, expected) in rows {
            assert_eq!(hex::encode(hmac(key, message)), expected);
        }
    }

    #[test]
    fn requests_are_signed_for_their_server() {
        let url: Url = "https://b.s3.eu-west-1.amazonaws.com/content/ab".parse().unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        let session = Some("token".to_owned());
        let headers = sign(&url, &AwsKeys { session, ..example_keys() }, now);
        let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        let all = ["x-amz-content-sha256", "x-amz-date", "x-amz-security-token", "authorization"];
        assert_eq!(names, all);
        assert_eq!(headers[1].1, "20130524T000000Z");
        assert!(headers[3].1.contains("/20130524/eu-west-1/s3/aws4_request"));
        let rows = [
            ("https://b.s3.amazonaws.com/x", true),
            ("http://b.s3.amazonaws.com/x", false),
            ("https://amazonaws.com.example.org/x", false),
            ("https://example.org/x", false),
        ];
        for (url, expected) in rows {
            assert_eq!(is_s3(&url.parse().unwrap()), expected, "{url}");
        }
    }
}

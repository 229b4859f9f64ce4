use std::collections::BTreeMap;
use std::sync::Mutex as SyncMutex;
use std::sync::atomic::{AtomicBool, Ordering};

use subxt::rpcs::UserError;
use subxt::rpcs::client::{RawRpcFuture, RawRpcSubscription, RawValue, RpcClientT};

use super::*;

/// What a dialled endpoint is.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Nobody listens.
    Absent,
    /// A node of the chain whose first block has this byte in its hash.
    Node(u8),
}

/// Endpoints by URL; what was dialled, and how long was waited.
#[derive(Clone, Default)]
struct Fake {
    kinds: BTreeMap<&'static str, Kind>,
    dialled: Arc<SyncMutex<Vec<String>>>,
    paused_ms: Arc<SyncMutex<Vec<u128>>>,
    /// What the clock shows, in seconds.
    seconds: Arc<SyncMutex<u64>>,
    start: Option<Instant>,
    /// Of the last node that was dialled.
    is_connected: Arc<SyncMutex<Arc<AtomicBool>>>,
}

struct Node(u8);

impl RpcClientT for Node {
    fn request_raw<'a>(
        &'a self,
        method: &'a str,
        _: Option<Box<RawValue>>,
    ) -> RawRpcFuture<'a, Box<RawValue>> {
        let answer = match method {
            "chain_getBlockHash" => {
                let hash = format!("\"0x{}\"", hex::encode([self.0; 32]));
                Ok(RawValue::from_string(hash).unwrap())
            }
            _ => Err(subxt::rpcs::Error::User(UserError::method_not_found())),
        };
        Box::pin(async move { answer })
    }

    fn subscribe_raw<'a>(
        &'a self,
        _: &'a str,
        _: Option<Box<RawValue>>,
        _: &'a str,
    ) -> RawRpcFuture<'a, RawRpcSubscription> {
        Box::pin(async { Err(subxt::rpcs::Error::User(UserError::method_not_found())) })
    }
}

impl World for Fake {
    fn dial<'a>(&'a self, endpoint: &'a Endpoint) -> Later<'a, Result<Dialed, Cause>> {
        self.dialled.lock().unwrap().push(endpoint.to_string());
        let dialed = match self.kinds[endpoint.url()] {
            Kind::Absent => Err("nobody listens".into()),
            Kind::Node(first) => {
                let connected = Arc::new(AtomicBool::new(true));
                *self.is_connected.lock().unwrap() = Arc::clone(&connected);
                let is_connected = move || connected.load(Ordering::Relaxed);
                Ok(Dialed {
                    rpc: RpcClient::new(Node(first)),
                    is_connected: Box::new(is_connected),
                })
            }
        };
        Box::pin(async move { dialed })
    }

    fn pause(&self, time: Duration) -> Later<'_, ()> {
        self.paused_ms.lock().unwrap().push(time.as_millis());
        Box::pin(async {})
    }

    fn now(&self) -> Instant {
        self.start.unwrap() + Duration::from_secs(*self.seconds.lock().unwrap())
    }

    fn random(&self) -> u32 {
        0
    }
}

const A: &str = "wss://a";
const B: &str = "wss://b";

/// What a reading does at an endpoint.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    Answers,
    /// The connection breaks while it reads.
    Breaks,
    /// The node says something of no use.
    SaysNo,
    /// The node says what every node would say.
    IsCertain,
}

/// One reading of two endpoints: whether there is an answer, who was dialled,
/// and the pauses.
fn check(
    kinds: [Kind; 2],
    does: [Does; 2],
    answer: Result<&str, &str>,
    dialled: &str,
    paused: &[u128],
) {
    let world = Fake { kinds: [(A, kinds[0]), (B, kinds[1])].into(), ..Fake::default() };
    let endpoints = [A, B].map(|url| url.parse().unwrap()).to_vec();
    let connection = Connection::new(endpoints, Box::new(world.clone())).unwrap();
    let reading = |link: Arc<Link>| {
        let world = world.clone();
        async move {
            let url = link.endpoint.to_string();
            match does[usize::from(url == B)] {
                Does::Answers => Ok(url),
                Does::Breaks => {
                    world.is_connected.lock().unwrap().store(false, Ordering::Relaxed);
                    Err(SubtensorError::read("it", "broken"))
                }
                Does::SaysNo => Err(SubtensorError::read("it", "no")),
                Does::IsCertain => Err(SubtensorError::NotFinal { block: 2, last: 1 }),
            }
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let found = runtime.block_on(connection.read("it", reading));
    let found = found.map_err(|error| error.to_string());
    assert_eq!(found.as_deref().map_err(String::as_str), answer);
    let letters: String =
        world.dialled.lock().unwrap().iter().map(|url| &url[url.len() - 1..]).collect();
    assert_eq!(letters, dialled);
    assert_eq!(*world.paused_ms.lock().unwrap(), paused);
}

#[test]
fn the_next_endpoint_is_asked_when_one_fails() {
    use Does::*;
    use Kind::{Absent, Node};
    let node = Node(1);
    check([node, node], [Answers, Answers], Ok(A), "a", &[]);
    check([Absent, node], [Answers, Answers], Ok(B), "ab", &[]);
    check([node, node], [Breaks, Answers], Ok(B), "ab", &[]);
    check([node, node], [SaysNo, Answers], Ok(B), "ab", &[]);
    check([node, Absent], [Breaks, Answers], Err(UNREACHABLE), "ababababab", &PAUSES);
    check([Absent, Absent], [Answers, Answers], Err(UNREACHABLE), "ababababab", &PAUSES);
    // Both are there and of no use: asking again would not help.
    check([node, node], [SaysNo, SaysNo], Err("read it of the chain"), "ab", &[]);
    let not_final = "read block 2: the last block that is final is 1";
    check([node, node], [IsCertain, Answers], Err(not_final), "a", &[]);
    // The second is another chain, and never asked.
    check([node, Node(2)], [Breaks, Answers], Err(UNREACHABLE), "ababababab", &PAUSES);
}

const UNREACHABLE: &str = "reach the chain: no endpoint is of use, and each was tried 5 times";
const PAUSES: [u128; 4] = [500, 1000, 2000, 4000];

#[test]
fn a_node_is_kept_while_it_answers() {
    let world = Fake { kinds: [(A, Kind::Node(1))].into(), ..Fake::default() };
    let endpoints = vec![A.parse().unwrap()];
    let connection = Connection::new(endpoints, Box::new(world.clone())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for _ in 0..3 {
        runtime.block_on(connection.link()).map(|_| ()).unwrap();
    }
    assert_eq!(world.dialled.lock().unwrap().len(), 1);
    world.is_connected.lock().unwrap().store(false, Ordering::Relaxed);
    runtime.block_on(connection.link()).map(|_| ()).unwrap();
    assert_eq!(world.dialled.lock().unwrap().len(), 2);
}

/// Last blocks that the connected node shows, at these seconds, and the endpoint
/// after each.
#[track_caller]
fn check_heads(endpoints: &[&'static str], heads: &[(u64, u64, &str)]) {
    let kinds = endpoints.iter().map(|url| (*url, Kind::Node(1))).collect();
    let world = Fake { kinds, start: Some(Instant::now()), ..Fake::default() };
    let endpoints = endpoints.iter().map(|url| url.parse().unwrap()).collect();
    let connection = Connection::new(endpoints, Box::new(world.clone())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for (seconds, block, expected) in heads {
        *world.seconds.lock().unwrap() = *seconds;
        let link = runtime.block_on(connection.link()).ok().unwrap();
        runtime.block_on(connection.note_head(&link, *block));
        let next = runtime.block_on(connection.link()).ok().unwrap();
        assert_eq!(next.endpoint.url(), *expected, "{seconds} s, block {block}");
        assert_eq!(connection.endpoint(), Some(next.endpoint.clone()));
    }
}

#[test]
fn a_node_that_stands_still_or_lags_is_left() {
    check_heads(&[A, B], &[(0, 5, A), (119, 5, A), (120, 5, B), (130, 111, B), (240, 112, B)]);
    check_heads(&[A, B], &[(0, 5, A), (119, 6, A), (238, 6, A), (239, 6, B)]);
    // Far behind what was shown before, and behind by no more than may be.
    check_heads(&[A, B], &[(0, 100, A), (6, 89, B), (7, 90, B), (8, 101, B)]);
    // What was shown before was wrong: no other node comes that far.
    check_heads(&[A, B], &[(0, 9999, A), (6, 50, B), (119, 51, A), (120, 51, B), (121, 52, B)]);
    check_heads(&[A], &[(0, 5, A), (500, 5, A)]);
}

#[test]
fn an_endpoint_that_is_lost_is_not_shown() {
    let world = Fake { kinds: [(A, Kind::Node(1))].into(), ..Fake::default() };
    let connection = Connection::new(vec![A.parse().unwrap()], Box::new(world.clone())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    assert_eq!(connection.endpoint(), None);
    runtime.block_on(connection.link()).map(|_| ()).unwrap();
    assert_eq!(connection.endpoint(), Some(A.parse().unwrap()));
    world.is_connected.lock().unwrap().store(false, Ordering::Relaxed);
    assert_eq!(connection.endpoint(), None);
}

#[test]
fn there_are_endpoints_but_not_any_number() {
    for count in [0, MAX_ENDPOINTS + 1] {
        let endpoints = vec![A.parse().unwrap(); count];
        assert!(Connection::new(endpoints, Box::new(Fake::default())).is_err());
    }
}

#[test]
fn pauses_grow_and_differ() {
    let rows = [
        (1, 0, 500),
        (2, 0, 1000),
        (3, 0, 2000),
        (7, 0, 30_000),
        (u32::MAX, 0, 30_000),
        (1, u32::MAX, 250),
        (3, u32::MAX / 2, 1500),
    ];
    for (round, random, expected_ms) in rows {
        assert_eq!(pause_before(round, random).as_millis().div_ceil(10) * 10, expected_ms);
    }
}

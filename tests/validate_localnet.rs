//! From models in a folder to weights on a chain, by processes alone: a network
//! with a hub, miners, and a validator that is killed in between.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use evaltasks_chain::{Chain, Subtensor, SubtensorOptions, open_hotkey};
use evaltasks_core::commitment::ModelId;
use serde_json::Value;

use crate::hub::hub_at;
use crate::localnet::{DEMO_HUB, Network};
use crate::support::rpc::call;
use crate::support::{Ended, evaltasks, quick_competition, root, write};

/// From block to block while somebody is at work.
const PACE: Duration = Duration::from_millis(40);
/// Block at which a validator that found no end gives up.
const LAST_BLOCK: &str = "3000";
const TEMPO_BLOCKS: u32 = 20;

/// A network where a block is made when it is asked for, and whoever is in it.
struct World {
    folder: tempfile::TempDir,
    url: String,
    hub: String,
    /// Repositories at their commits by name.
    models: BTreeMap<String, String>,
    /// Hotkeys by name.
    hotkeys: BTreeMap<String, String>,
    competitions: String,
    _network: Network,
}

impl World {
    fn new(more: &[&str]) -> World {
        let folder = tempfile::tempdir().unwrap();
        let wallets = folder.path().join("wallets").display().to_string();
        let tempo = TEMPO_BLOCKS.to_string();
        let fixed = ["--block-time", "0", "--tempo", &tempo, "--wallets", &wallets];
        let mut network = Network::start(&[&fixed[..], &DEMO_HUB, more].concat());
        let about = network.line();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let models = about["hub"]["models"].as_array().unwrap().iter().map(text);
        let name = |model: &String| model["local/".len()..model.find('@').unwrap()].to_owned();
        let people = about["participants"].as_array().unwrap().iter();
        let rules = quick_competition("")
            .replace("version: 1", "version: 1\nsubnet: {netuid: 1, block_cadence: 10}")
            .replace("max_batches: 6", "max_batches: 2")
            .replace("    tasks:", "    evaluation: {delay_blocks: 2}\n    tasks:");
        World {
            url: text(&about["url"]),
            hub: text(&about["hub"]["endpoint"]),
            models: models.map(|model| (name(&model), model)).collect(),
            hotkeys: people.map(|one| (text(&one["name"]), text(&one["hotkey"]))).collect(),
            competitions: write(folder.path(), "competition.yaml", rules),
            folder,
            _network: network,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes blocks.
    fn produce(&self, blocks: u32) {
        let address = self.url.strip_prefix("ws://").unwrap();
        let answer = call(address, "localnet_produceBlocks", &serde_json::json!([blocks]));
        assert!(answer.get("error").is_none(), "{answer}");
    }

    /// Does something while blocks are made, one whenever it has not ended for a
    /// while.
    fn with_blocks<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let (sender, receiver) = channel();
            let worker = scope.spawn(move || {
                // Dropped when the work ends in whatever way.
                let _sender = sender;
                work()
            });
            while receiver.recv_timeout(PACE) == Err::<(), _>(RecvTimeoutError::Timeout) {
                self.produce(1);
            }
            worker.join().unwrap()
        })
    }

    /// A command about this network, by somebody's wallet.
    fn arguments(&self, who: &str) -> [String; 8] {
        let wallets = self.path("wallets").display().to_string();
        ["--network", &self.url, "--netuid", "1", "--wallet-path", &wallets, "--wallet-name", who]
            .map(str::to_owned)
    }

    fn submit(&self, miner: &str, model: &str) -> Ended {
        let fixed = ["--competitions", &self.competitions, "--competition", "quick", "--json"];
        let own = self.arguments(miner);
        let own = own.iter().map(String::as_str);
        let arguments: Vec<&str> =
            ["submit", &self.models[model]].into_iter().chain(fixed).chain(own).collect();
        let mut command = evaltasks(&arguments);
        command.envs(hub_at(&self.hub, &self.path(miner)));
        self.with_blocks(|| Ended::from(command.output().unwrap()))
    }

    /// The client that a command has, with somebody's key.
    fn client(&self, who: &str) -> Subtensor {
        let opened = open_hotkey(&self.path("wallets"), who, "default", |_| None).unwrap();
        Subtensor::new(SubtensorOptions {
            endpoints: vec![self.url.parse().unwrap()],
            netuid: 1,
            mechanism: 0,
            version_key: None,
            hotkey: Some(opened.hotkey),
        })
        .unwrap()
    }

    /// Commits a model without looking at it.
    fn commit_unchecked(&self, miner: &str, model: &str) {
        let (repository, commit) = self.models[model].split_once('@').unwrap();
        let (namespace, name) = repository.split_once('/').unwrap();
        let id = ModelId {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            commit: Some(commit.to_owned()),
            hash: None,
            secure_hash: Some("of nothing".to_owned()),
            competition_id: 1,
        };
        let client = self.client(miner);
        self.with_blocks(|| client.commit(id.to_string().as_bytes())).unwrap();
    }

    /// What the first validator gives others, by the newest block that is final.
    fn weights(&self) -> BTreeMap<u16, u16> {
        let client = self.client("validator-0");
        let block = client.block().unwrap();
        client.weights(block).unwrap()[0].iter().copied().collect()
    }
}

/// A validator at work, with all that it has said so far.
struct Validator {
    process: Child,
    log: Lines<BufReader<ChildStderr>>,
    events: Vec<Event>,
}

/// A decision, as it is in the log and in the state.
#[derive(Clone, Debug, PartialEq)]
struct Event {
    id: i64,
    kind: String,
    subject: String,
    reason: String,
    details: Value,
}

impl Validator {
    fn start(world: &World) -> Validator {
        let state = world.path("state").display().to_string();
        let fixed = ["--poll-interval", "40ms", "--threads", "1", "--log-format", "json"];
        let mut process = Command::new(env!("CARGO_BIN_EXE_evaltasks"))
            .current_dir(root())
            .args(["validate", &world.competitions, "--state", &state])
            .args(["--until-block", LAST_BLOCK])
            .args(fixed)
            .args(world.arguments("validator-0"))
            .envs(hub_at(&world.hub, &world.path("validator")))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(process.stderr.take().unwrap()).lines();
        Validator { process, log, events: Vec::new() }
    }

    /// Until it has decided something.
    fn until(&mut self, is_meant: impl Fn(&[Event]) -> bool) {
        while !is_meant(&self.events) {
            let line = self.log.next();
            let line = line.unwrap_or_else(|| panic!("it ended after {:#?}", self.events)).unwrap();
            let line: Value = serde_json::from_str(&line).unwrap();
            self.events.extend(event(&line));
        }
    }
}

impl Drop for Validator {
    /// By a signal that nothing can catch.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The decision that a line of the log is, if it is one.
fn event(line: &Value) -> Option<Event> {
    let id = line.get("id")?.as_i64()?;
    let (kind, reason) = line["message"].as_str()?.split_once(": ")?;
    let details = line["details"].as_str()?;
    Some(Event {
        id,
        kind: kind.to_owned(),
        subject: line["subject"].as_str()?.to_owned(),
        reason: reason.to_owned(),
        details: serde_json::from_str(details).unwrap_or(Value::Null),
    })
}

/// All decisions in the state.
fn kept(folder: &Path) -> Vec<Event> {
    let connection = rusqlite::Connection::open(folder.join("validator.sqlite")).unwrap();
    let select = "SELECT id, kind, subject, reason, details FROM events ORDER BY id";
    let mut select = connection.prepare(select).unwrap();
    let rows = select.query_map([], |row| {
        let details: Option<String> = row.get(4)?;
        Ok(Event {
            id: row.get(0)?,
            kind: row.get(1)?,
            subject: row.get(2)?,
            reason: row.get(3)?,
            details: details.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap()),
        })
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn of_kind<'a>(events: &'a [Event], kind: &str) -> Vec<&'a Event> {
    events.iter().filter(|event| event.kind == kind).collect()
}

/// Whether weights are final that give a miner more than all others together.
fn has_rewarded(events: &[Event], uid: u64) -> bool {
    let planned = of_kind(events, "weights_planned").into_iter().filter(|event| {
        let weights = event.details["weights"].as_array().unwrap();
        let own = weights.iter().find(|one| one["uid"] == uid);
        own.is_some_and(|one| one["weight"].as_f64().unwrap() > 0.5)
    });
    let planned: BTreeSet<&str> = planned.map(|event| event.subject.as_str()).collect();
    of_kind(events, "weights_final").iter().any(|event| planned.contains(event.subject.as_str()))
}

/// Kills a validator while a round is on, and gives the decisions so far. A round
/// may be over before the signal comes; then it is the next one.
fn kill_in_a_round(world: &World) -> Vec<Event> {
    for _ in 0..10 {
        let mut validator = Validator::start(world);
        world.with_blocks(|| {
            validator.until(|events| !of_kind(events, "round_planned").is_empty());
        });
        drop(validator);
        let events = kept(&world.path("state"));
        if of_kind(&events, "round_planned").len() > of_kind(&events, "round_finished").len() {
            return events;
        }
    }
    panic!("every round was over before the validator was killed");
}

/// The whole way, with weights as the network takes them. Two validators and three
/// miners: the uids of the miners begin at 2.
fn play(options: &[&str], is_revealed_later: bool) {
    let world = World::new(options);
    for (miner, model) in [("miner-0", "small"), ("miner-1", "careful")] {
        let submitted = world.submit(miner, model);
        assert_eq!(submitted.code, 0, "{submitted:?}");
        assert!(submitted.json()["committed"]["block"].is_u64(), "{submitted:?}");
    }
    let refused = world.submit("miner-2", "oversized");
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    assert!(refused.stderr.contains("parameters"), "{refused:?}");
    assert!(refused.stderr.contains("nothing was committed: quick would reject"), "{refused:?}");
    world.commit_unchecked("miner-2", "oversized");

    let before = kill_in_a_round(&world);
    let mut validator = Validator::start(&world);
    world.with_blocks(|| {
        validator.until(|events| {
            let all = [&before[..], events].concat();
            has_rewarded(&all, 3) && !of_kind(&all, "submission_rejected").is_empty()
        });
    });
    drop(validator);

    let hotkey = |name: &str| world.hotkeys[name].as_str();
    let events = kept(&world.path("state"));
    assert_eq!(events[..before.len()], before);
    let ids: Vec<i64> = events.iter().map(|event| event.id).collect();
    assert_eq!(ids, (1..=ids.len() as i64).collect::<Vec<_>>());
    // Nothing is done twice, and the round that was killed comes to its end.
    let subjects = |kind: &str| -> Vec<&str> {
        of_kind(&events, kind).iter().map(|event| event.subject.as_str()).collect()
    };
    let mut accepted = subjects("submission_accepted");
    accepted.sort_unstable();
    let mut expected = [hotkey("miner-0"), hotkey("miner-1")];
    expected.sort_unstable();
    assert_eq!(accepted, expected);
    assert_eq!(subjects("submission_queued").len(), 3);
    let killed = of_kind(&before, "round_planned").last().unwrap().subject.as_str();
    for kind in ["round_planned", "round_finished"] {
        let times = subjects(kind).into_iter().filter(|round| *round == killed).count();
        assert_eq!(times, 1, "{kind} {killed}");
    }
    let rejected = of_kind(&events, "submission_rejected");
    let [rejected] = rejected[..] else { panic!("{rejected:#?}") };
    assert_eq!(rejected.subject, hotkey("miner-2"));
    assert!(rejected.reason.contains("parameters"), "{}", rejected.reason);
    let won = of_kind(&events, "round_finished").last().unwrap().reason.clone();
    assert!(won.starts_with(&format!("{} won quick", hotkey("miner-1"))), "{won}");

    // And so it is on the chain: at once, or once the beacon has come so far.
    let set = of_kind(&events, "weights_final");
    let has_round = set.iter().any(|set| set.details["reveal_round"].is_u64());
    assert_eq!(has_round, is_revealed_later, "{set:#?}");
    for _ in 0..3 {
        if is_revealed_later && world.weights().get(&3) != Some(&u16::MAX) {
            world.produce(TEMPO_BLOCKS);
        }
    }
    let weights = world.weights();
    assert_eq!(weights.get(&3), Some(&u16::MAX), "{weights:?}");
    assert_eq!(weights.get(&4), None, "{weights:?}");
}

#[test]
fn models_become_weights() {
    play(&[], false);
}

#[test]
fn models_become_weights_that_are_revealed_later() {
    play(&["--commit-reveal"], true);
}

//! Metrics in Prometheus' text format. Numbers are read when they are asked for;
//! sums begin with the program.

use std::collections::BTreeMap;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

use super::api::Refusal;
use super::health::CauseName;
use super::site::{self, Site};
use crate::validator::state::{EventKind, StateError, SubmissionState};

pub use prometheus_text::CONTENT_TYPE;

/// Everything that is measured, in text.
pub fn render(site: &Site) -> Result<String, Refusal> {
    let health = site::health(site);
    let mut registry = Registry::with_prefix("evaltasks");
    let registry = &mut registry;
    let causes = CauseName::ALL.map(|name| {
        let wrong = health.causes.iter().any(|cause| cause.name == name);
        (name.name(), u64::from(!wrong))
    });
    registry.register_collector(Box::new(Labelled {
        name: "healthy",
        help: "1 where nothing is wrong",
        label: "cause",
        kind: MetricType::Gauge,
        values: causes.to_vec(),
    }));
    build(registry, site);
    chain(registry, site);
    disk(registry, site);
    // What cannot be read is missing, and `healthy` says so.
    if let Ok(decided) = Decided::read(site) {
        decided.register(registry);
    }
    rounds(registry, site);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = prometheus_text::encode(&mut text, registry);
    Ok(text)
}

fn build(registry: &mut Registry, site: &Site) {
    let labels = vec![
        ("version", site.versions.engine.clone()),
        ("backend", site.versions.backend.clone()),
        ("network", site.validator.network.clone()),
        ("netuid", site.validator.netuid.to_string()),
    ];
    let build = Family::<Vec<(&str, String)>, Gauge>::default();
    build.get_or_create(&labels).set(1);
    registry.register("build_info", "What runs, and where", build);
}

fn chain(registry: &mut Registry, site: &Site) {
    let chain = site.live.chain();
    gauge(registry, "head_block", "The newest block that was seen", None, chain.head_block);
    let age = chain.head_age_seconds;
    gauge(registry, "head_age", "Time since a new block was seen", Some(Unit::Seconds), age);
    let help = "Blocks that the chain has made since, about";
    gauge(registry, "behind_blocks", help, None, chain.behind_blocks);
    let help = "The block at which the epoch ends";
    gauge(registry, "next_epoch_block", help, None, chain.next_epoch_block);
    let silence = Some(site.live.silence().as_secs());
    let help = "Time since the loop's last sign of life";
    gauge(registry, "loop_silence", help, Some(Unit::Seconds), silence);
}

fn disk(registry: &mut Registry, site: &Site) {
    let disk = site.disk();
    let mut bytes = |name, help, value| gauge(registry, name, help, Some(Unit::Bytes), value);
    bytes("state_free", "Room for the state", disk.state_free_bytes);
    bytes("state", "Size of the state", disk.state_bytes);
    bytes("models_free", "Room for models", disk.models_free_bytes);
    bytes("models", "Size of the models that are kept", disk.models_bytes);
    bytes("models_quota", "Size that they may have", disk.models_quota_bytes);
}

/// What the state says.
struct Decided {
    submissions: BTreeMap<SubmissionState, u64>,
    events: BTreeMap<EventKind, u64>,
    last_weights_block: Option<u64>,
    last_round_block: Option<u64>,
}

impl Decided {
    fn read(site: &Site) -> Result<Decided, StateError> {
        let events = site.events_by_kind()?;
        site.ask(|state| {
            let weights = state.final_weights()?.and_then(|weights| weights.receipt);
            let last_rounds = state.rounds(None, None, 1)?;
            Ok(Decided {
                submissions: site::submissions_by_state(&state)?,
                events,
                last_weights_block: weights.map(|receipt| receipt.block),
                last_round_block: last_rounds.first().map(|round| round.block),
            })
        })
    }

    fn register(&self, registry: &mut Registry) {
        let help = "The block of the last weights that are final";
        gauge(registry, "last_weights_block", help, None, self.last_weights_block);
        let help = "The block of the last round that began";
        gauge(registry, "last_round_block", help, None, self.last_round_block);
        registry.register_collector(Box::new(Labelled {
            name: "submissions",
            help: "Submissions by how far they are",
            label: "state",
            kind: MetricType::Gauge,
            values: self.submissions.iter().map(|(state, count)| (state.word(), *count)).collect(),
        }));
        registry.register_collector(Box::new(Labelled {
            name: "events",
            help: "Decisions by kind, since the program began",
            label: "kind",
            kind: MetricType::Counter,
            values: self.events.iter().map(|(kind, count)| (kind.word(), *count)).collect(),
        }));
    }
}

fn rounds(registry: &mut Registry, site: &Site) {
    let progress = site.live.progress();
    let running = Some(u64::from(progress.is_some()));
    gauge(registry, "round_running", "1 while a round runs", None, running);
    registry.register_with_unit(
        "round_duration",
        "How long rounds took, since the program began",
        Unit::Seconds,
        site.live.round_seconds(),
    );
}

/// One number, where it is known.
fn gauge(registry: &mut Registry, name: &str, help: &str, unit: Option<Unit>, value: Option<u64>) {
    let Some(value) = value else { return };
    let gauge: Gauge = Gauge::default();
    gauge.set(signed(value));
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, gauge),
        None => registry.register(name, help, gauge),
    }
}

/// A number for each value of a label, in their order.
#[derive(Debug)]
struct Labelled {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    kind: MetricType,
    values: Vec<(&'static str, u64)>,
}

impl Collector for Labelled {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let mut family = encoder.encode_descriptor(self.name, self.help, None, self.kind)?;
        for (value, number) in &self.values {
            let labels = [(self.label, *value)];
            let one = family.encode_family(&labels)?;
            match self.kind {
                MetricType::Counter => ConstCounter::new(*number).encode(one)?,
                _ => ConstGauge::new(signed(*number)).encode(one)?,
            }
        }
        Ok(())
    }
}

/// As the text format has it.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

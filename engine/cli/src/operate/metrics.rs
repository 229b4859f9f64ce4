//! Metrics in Prometheus' text format. All but the histogram are read from the
//! state when they are asked for, so they survive a restart.

use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::api::Refusal;
use super::health::CauseName;
use super::records::{SubmissionState, Totals};
use super::site::{self, Site};

pub use prometheus_text::CONTENT_TYPE;

/// One label and its value.
type Label = [(&'static str, String); 1];

/// Everything that is measured, in text.
pub fn render(site: &Site) -> Result<String, Refusal> {
    let health = site::health(site);
    let totals = site.records.totals().unwrap_or_default();
    let mut registry = Registry::with_prefix("evaltasks");
    let registry = &mut registry;
    let causes = CauseName::ALL.map(|name| {
        let wrong = health.causes.iter().any(|cause| cause.name == name);
        (name.name().to_owned(), u64::from(!wrong))
    });
    gauges(registry, "healthy", "1 where nothing is wrong", "cause", causes);
    identity(registry, site);
    chain(registry, site, &totals);
    disk(registry, site);
    work(registry, site, &totals);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = prometheus_text::encode(&mut text, registry);
    Ok(text)
}

fn identity(registry: &mut Registry, site: &Site) {
    let labels = vec![
        ("version", site.versions.engine.clone()),
        ("backend", site.versions.backend.clone()),
        ("network", site.identity.network.clone()),
        ("netuid", site.identity.netuid.to_string()),
    ];
    let build = Family::<Vec<(&str, String)>, Gauge>::default();
    build.get_or_create(&labels).set(1);
    registry.register("build_info", "What runs, and where", build);
}

fn chain(registry: &mut Registry, site: &Site, totals: &Totals) {
    let chain = site.live.chain();
    gauge(registry, "head_block", "The newest block that was seen", None, chain.head_block);
    let age = chain.head_age_seconds;
    gauge(registry, "head_age", "Time since a new block was seen", Some(Unit::Seconds), age);
    let help = "Blocks that the chain has made since, about";
    gauge(registry, "behind_blocks", help, None, chain.behind_blocks);
    let help = "The block at which weights are due next";
    gauge(registry, "next_weights_block", help, None, chain.next_weights_block);
    let help = "The block of the last weights that are final";
    gauge(registry, "last_weights_block", help, None, totals.last_weights_block);
    let silence = Some(site.live.silence().as_secs());
    let help = "Time since the loop's last sign of life";
    gauge(registry, "loop_silence", help, Some(Unit::Seconds), silence);
}

fn disk(registry: &mut Registry, site: &Site) {
    let disk = site.live.disks();
    let mut bytes = |name, help, value| gauge(registry, name, help, Some(Unit::Bytes), value);
    bytes("state_free", "Room for the state", disk.state_free_bytes);
    bytes("state", "Size of the state", disk.state_bytes);
    bytes("models_free", "Room for models", disk.models_free_bytes);
    bytes("models", "Size of the models that are kept", disk.models_bytes);
    bytes("models_quota", "Size that they may have", disk.models_quota_bytes);
}

fn work(registry: &mut Registry, site: &Site, totals: &Totals) {
    let queued = SubmissionState::QUEUED
        .iter()
        .filter_map(|state| totals.submissions.get(state.name()))
        .sum();
    let help = "Submissions that wait for their block or their turn";
    gauge(registry, "queue_length", help, None, Some(queued));
    let submissions = SubmissionState::ALL.map(|state| {
        let name = state.name();
        (name.to_owned(), totals.submissions.get(name).copied().unwrap_or(0))
    });
    gauges(registry, "submissions", "Submissions by where they stand", "state", submissions);
    counters(registry, "rounds", "Rounds by how they ended", "result", &totals.rounds);
    let help = "Settings of weights by how far they came";
    counters(registry, "weights_set", help, "result", &totals.weights);
    if let Some(round) = totals.last_round {
        let help = "The block of the last round that ended";
        gauge(registry, "last_round_block", help, None, Some(round.block));
    }
    let progress = site.live.progress();
    let running = Some(u64::from(progress.is_some()));
    gauge(registry, "round_running", "1 while a round runs", None, running);
    registry.register_with_unit(
        "round_duration",
        "How long rounds took since the program began",
        Unit::Seconds,
        site.live.round_seconds(),
    );
}

/// One number, where it is known.
fn gauge(registry: &mut Registry, name: &str, help: &str, unit: Option<Unit>, value: Option<u64>) {
    let Some(value) = value else { return };
    let gauge: Gauge = Gauge::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, gauge),
        None => registry.register(name, help, gauge),
    }
}

/// A number for each value of a label.
fn gauges(
    registry: &mut Registry,
    name: &str,
    help: &str,
    label: &'static str,
    values: impl IntoIterator<Item = (String, u64)>,
) {
    let family = Family::<Label, Gauge>::default();
    for (key, value) in values {
        family.get_or_create(&[(label, key)]).set(i64::try_from(value).unwrap_or(i64::MAX));
    }
    registry.register(name, help, family);
}

/// A sum for each value of a label.
fn counters<'a>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    label: &'static str,
    values: impl IntoIterator<Item = (&'a String, &'a u64)>,
) {
    let family = Family::<Label, Counter>::default();
    for (key, &value) in values {
        family.get_or_create(&[(label, key.clone())]).inc_by(value);
    }
    registry.register(name, help, family);
}

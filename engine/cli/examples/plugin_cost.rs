//! What a plugin costs: the same task natively and as a plugin, end to end
//! over 2,000 rows, with answers that cost nothing; and its share of a real run,
//! the demo.
//!
//! ```text
//! cargo run --release -p evaltasks --example plugin_cost
//! ```

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use evaltasks::commands::run;
use evaltasks_core::backend::Tokenizer;
use evaltasks_core::host::Ragged;
use evaltasks_core::random::Seed;
use evaltasks_core::results::RunTiming;
use evaltasks_core::round_host::{RoundHost, RoundInputs};
use evaltasks_core::source::Row;
use evaltasks_core::task::{
    Answer, AnsweredRow, Metric, Operation, ROWS_PER_SHARD, Response, Span, Step, Task,
};
use evaltasks_plugin::{CompileCache, LoadOptions, PluginRuntime};
use evaltasks_tasks::text_loss::TextLoss;

const ROWS: u32 = 2_000;
const SEQUENCE_LENGTH: u32 = 256;
const REPEATS: usize = 5;

/// One token per byte.
struct Bytes;

impl Tokenizer for Bytes {
    fn digest(&self) -> &str {
        ""
    }
    fn vocabulary_size(&self) -> u32 {
        256
    }
    fn encode(&self, texts: &[String], _special: bool) -> Result<Ragged, String> {
        let mut ids = Ragged::default();
        for text in texts {
            ids.push(&text.bytes().map(u32::from).collect::<Vec<_>>());
        }
        Ok(ids)
    }
    fn decode(&self, ids: &Ragged) -> Result<Vec<String>, String> {
        Ok(ids.iter().map(|_| String::new()).collect())
    }
    fn byte_count(&self, ids: &[u32]) -> Result<u64, String> {
        Ok(ids.len() as u64)
    }
    fn beginning_of_sequence(&self) -> Option<u32> {
        None
    }
    fn end_of_sequence(&self) -> Option<u32> {
        Some(0)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let text = "the quick brown fox jumps over the lazy dog; ".repeat(6);
    let row = Row { origin: String::new(), json: format!("{{\"text\":\"{text}\"}}") };
    let rows: Arc<[Row]> = vec![row; ROWS as usize].into();
    let host = RoundHost::new(RoundInputs {
        task: "cost".to_owned(),
        seed: Seed::from(1),
        sources: vec![rows],
        tokenizer: Arc::new(Bytes),
        sequence_length: SEQUENCE_LENGTH,
        log: Box::new(|_, _| {}),
    });
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = root.join("plugins/examples/text_loss/text_loss.wasm");
    let folder = tempfile::tempdir()?;

    let start = |label: &str| -> Result<_, Box<dyn Error>> {
        let begin = Instant::now();
        let cache = CompileCache::open(&folder.path().join("code"))?;
        let runtime = PluginRuntime::new(Some(cache))?;
        let plugin = runtime.load(&file, LoadOptions::default(), None)?;
        println!("{label} start: {:.2} ms", ms(begin.elapsed()));
        Ok((runtime, plugin))
    };
    start("cold")?;
    let (_runtime, plugin) = start("warm")?;

    let native = measure("native", &TextLoss, &host)?;
    let as_plugin = measure("plugin", &plugin, &host)?;
    assert_eq!(native.1, as_plugin.1, "the metrics are the same to the bit");
    let extra = as_plugin.0.saturating_sub(native.0).as_secs_f64() * 1e6 / f64::from(ROWS);
    println!("a plugin adds {extra:.2} us per row");
    demo(&root, folder.path())
}

/// The command line of a run.
#[derive(Parser)]
struct Demo {
    #[command(flatten)]
    run: run::Arguments,
}

/// Plugins' share of the demo's time, by its own record.
fn demo(root: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let results = out.join("results");
    let file = root.join("competitions/demo.yaml");
    let arguments = ["demo", "--quiet", "--out"].map(AsRef::as_ref);
    let arguments = arguments.into_iter().chain([results.as_os_str(), file.as_os_str()]);
    run::run(&Demo::parse_from(arguments).run)?;
    let round = std::fs::read_dir(&results)?.next().ok_or("the demo wrote no results")??;
    let timing: RunTiming =
        serde_json::from_slice(&std::fs::read(round.path().join("timing.json"))?)?;
    for plugin in &timing.plugins {
        println!(
            "{} in the demo: {} calls, {:.1} ms of {:.0} ms, {:.2} %",
            plugin.plugin,
            plugin.calls,
            plugin.seconds * 1e3,
            timing.total_seconds * 1e3,
            plugin.seconds / timing.total_seconds * 100.0
        );
    }
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The fastest of some runs, by part.
fn measure(
    label: &str,
    task: &dyn Task,
    host: &RoundHost,
) -> Result<(Duration, Vec<Metric>), Box<dyn Error>> {
    let mut best = [Duration::MAX; 3];
    let mut metrics = Vec::new();
    for _ in 0..REPEATS {
        let (times, found) = once(task, host)?;
        best = [0, 1, 2].map(|part| best[part].min(times[part]));
        metrics = found;
    }
    let total: Duration = best.iter().sum();
    let per_row = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(ROWS);
    println!(
        "{label}: {:.0} rows/s, {:.2} us per row (build {:.2}, score {:.2}, aggregate {:.2})",
        f64::from(ROWS) / total.as_secs_f64(),
        per_row(total),
        per_row(best[0]),
        per_row(best[1]),
        per_row(best[2]),
    );
    Ok((total, metrics))
}

/// One run of all rows, as a round makes it.
fn once(task: &dyn Task, host: &RoundHost) -> Result<([Duration; 3], Vec<Metric>), Box<dyn Error>> {
    let config = format!("{{\"max_batches\":{ROWS},\"sanity_gate\":false}}");
    let begin = Instant::now();
    let mut rows = Vec::new();
    for start in (0_u32..).step_by(ROWS_PER_SHARD as usize) {
        let steps = task.build(host, &config, start, ROWS_PER_SHARD)?;
        let full = steps.len() == ROWS_PER_SHARD as usize;
        rows.extend(steps);
        if !full {
            break;
        }
    }
    let built = begin.elapsed();
    assert_eq!(rows.len(), ROWS as usize);

    let mut answered = Vec::new();
    for step in rows {
        let Step::Ask(ask) = step else { return Err("a row asks nothing".into()) };
        let responses = ask.requests.iter().map(|request| {
            let Operation::TokenLoss(tokens) = &request.operation else { unreachable!() };
            let tokens = tokens.len() as u32 - 1;
            let logprob = -f64::from(tokens) * 2.5;
            let span = Span { logprob, tokens, bytes: tokens, greedy: false, per_token: vec![] };
            Response { key: request.key, answer: Answer::Spans(vec![span]) }
        });
        let responses: Vec<Response> = responses.collect();
        answered.push((ask.state, responses));
    }
    let begin = Instant::now();
    let mut samples = Vec::new();
    for shard in answered.chunks(ROWS_PER_SHARD as usize) {
        let shard: Vec<AnsweredRow> =
            shard.iter().map(|(state, responses)| AnsweredRow { state, responses }).collect();
        for step in task.score_rows(host, &config, &shard) {
            let Step::Done(measures) = step? else { return Err("a row is not done".into()) };
            samples.push(measures);
        }
    }
    let scored = begin.elapsed();
    let begin = Instant::now();
    let metrics = task.aggregate(&config, &samples)?;
    Ok(([built, scored, begin.elapsed()], metrics))
}

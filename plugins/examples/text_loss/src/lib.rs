//! The engine's `text_loss`, written once more as a plugin. It exists to show
//! that a task can move from one to the other without a change in its result:
//! a test compares the scores bit by bit.

use evaltasks_sdk::schemars::JsonSchema;
use evaltasks_sdk::serde::{Deserialize, Serialize};
use evaltasks_sdk::{
    Error, Generate, Host, Measure, Metric, Operation, Part, Prompt, Request, Response, Row, Step,
    Task, metrics, rows, span, text,
};

mod gate;

struct TextLoss;

#[derive(Deserialize, JsonSchema)]
#[serde(crate = "evaltasks_sdk::serde", deny_unknown_fields, default)]
#[schemars(crate = "evaltasks_sdk::schemars", title = "text_loss")]
struct Config {
    /// Member of a row that holds its text; when not set, `text`, or else
    /// `content`.
    text_field: Option<String>,
    /// Sequences that a model is scored on at most, after the shuffle.
    max_batches: u32,
    /// Whether a model that generates repetitive text is out.
    sanity_gate: bool,
    /// Token after each text; the tokenizer's own when not set.
    end_of_sequence: Option<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Config { text_field: None, max_batches: 50, sanity_gate: true, end_of_sequence: None }
    }
}

/// What a row is.
#[derive(Serialize, Deserialize)]
#[serde(crate = "evaltasks_sdk::serde")]
enum State {
    /// A packed sequence of so many tokens.
    Batch { tokens: u32 },
    /// The sanity gate.
    Gate,
}

impl Task for TextLoss {
    const ID: &'static str = "text_loss_plugin";
    const VERSION: &'static str = "1.0.0";
    const SUMMARY: &'static str = "cross-entropy on packed sequences of text";
    const OPERATIONS: &'static [&'static str] = &["token_loss", "generate_until"];
    type Config = Config;
    type State = State;

    fn build(
        host: &dyn Host,
        config: &Config,
        start: u32,
        count: u32,
    ) -> Result<Vec<Step<State>>, Error> {
        let sequences = sequences(host, config)?;
        let batches = sequences.iter().take(config.max_batches as usize).map(|sequence| {
            let state = State::Batch { tokens: sequence.len() as u32 };
            Step::ask(
                state,
                [Request { key: 0, operation: Operation::TokenLoss(sequence.clone()) }],
            )
        });
        let gate = if config.sanity_gate { Some(gate::ask(&sequences)?) } else { None };
        Ok(batches.chain(gate).skip(start as usize).take(count as usize).collect())
    }

    fn score(
        _: &dyn Host,
        _: &Config,
        state: State,
        responses: &[Response],
    ) -> Result<Step<State>, Error> {
        Ok(Step::Done(match state {
            State::Batch { tokens } => measures(responses, tokens)?,
            State::Gate => gate::measures(responses)?,
        }))
    }

    fn aggregate(config: &Config, samples: &[Vec<Measure>]) -> Result<Vec<Metric>, Error> {
        if config.sanity_gate {
            gate::check(samples)?;
        }
        let loss = metrics::mean("loss", false, samples)?;
        let perplexity = Metric {
            name: "perplexity".to_owned(),
            value: libm::exp(loss.value),
            stderr: loss.stderr.map(|stderr| libm::exp(loss.value) * stderr),
            ..loss.clone()
        };
        let mut all = vec![loss, perplexity, metrics::bits_per_byte(samples)?];
        all.retain(|metric| metric.value.is_finite());
        Ok(all)
    }
}

fn measures(responses: &[Response], sequence_length: u32) -> Result<Vec<Measure>, Error> {
    let span = span(responses, 0)?;
    let tokens = sequence_length.saturating_sub(1);
    if span.tokens != tokens || tokens == 0 {
        return Err(Error::Internal(format!("{} tokens were scored of {tokens}", span.tokens)));
    }
    let (tokens, bytes) = (f64::from(tokens), f64::from(span.bytes));
    let mut measures = vec![Measure::weighted("loss", -span.logprob / tokens, tokens)];
    measures.extend(metrics::logprob_and_bytes(span));
    if span.bytes > 0 {
        let bits = -span.logprob / (bytes * std::f64::consts::LN_2);
        measures.push(Measure::weighted("bits_per_byte", bits, bytes));
    }
    Ok(measures)
}

/// All texts joined, each followed by the end of sequence, cut into sequences
/// of the competition's length and shuffled by the round's seed.
fn sequences(host: &dyn Host, config: &Config) -> Result<Vec<Vec<u32>>, Error> {
    const ROWS: u32 = 64;
    let settings = host.text_settings();
    let end = config
        .end_of_sequence
        .or(settings.end_of_sequence)
        .ok_or_else(|| Error::Config("the tokenizer names no end-of-sequence token".to_owned()))?;
    let mut joined = Vec::new();
    for start in (0..).step_by(ROWS as usize) {
        let rows = rows(host, 0, start, ROWS)?;
        let texts: Vec<String> =
            rows.iter().map(|row| text_of(config, row)).collect::<Result<_, _>>()?;
        let ids = host.encode(&texts, true).map_err(Error::Data)?;
        let mut from = 0;
        for to in ids.ends {
            joined.extend_from_slice(&ids.data[from..to as usize]);
            joined.push(end);
            from = to as usize;
        }
        if rows.len() < ROWS as usize {
            break;
        }
    }
    let length = settings.sequence_length as usize;
    let sequences: Vec<&[u32]> = joined.chunks_exact(length.max(2)).collect();
    if sequences.is_empty() {
        return Err(Error::Data("the texts do not fill one sequence".to_owned()));
    }
    let order = host.permutation(sequences.len() as u32);
    Ok(order.into_iter().map(|from| sequences[from as usize].to_vec()).collect())
}

fn text_of(config: &Config, row: &Row) -> Result<String, Error> {
    let field = match &config.text_field {
        Some(field) => field,
        None if row.members.contains_key("text") => "text",
        None => "content",
    };
    Ok(row.text(field)?.to_owned())
}

evaltasks_sdk::export!(TextLoss);

//! The engine's `text_loss`, written once more as a plugin. It exists to show
//! that a task can move from one to the other without a change in its result:
//! a test compares the scores bit by bit.

use evaltasks_sdk::schemars::JsonSchema;
use evaltasks_sdk::serde::{Deserialize, Serialize};
use evaltasks_sdk::serde_json::{self, Value};
use evaltasks_sdk::{
    Answer, Error, Generate, Host, Measure, Metric, Operation, Part, Prompt, Request, Response,
    Step, Task, in_order, metrics,
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
        let answers = in_order(responses);
        if let Some(Answer::Failed(reason)) =
            answers.iter().find(|answer| matches!(answer, Answer::Failed(_)))
        {
            let reason = format!("the model left a request unanswered: {reason}");
            return Err(Error::Disqualified(reason));
        }
        Ok(Step::Done(match state {
            State::Batch { tokens } => measures(&answers, tokens)?,
            State::Gate => gate::measures(&answers)?,
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

fn measures(answers: &[&Answer], sequence_length: u32) -> Result<Vec<Measure>, Error> {
    let span = match answers {
        [Answer::Spans(spans)] if spans.len() == 1 => &spans[0],
        _ => return Err(Error::Internal("a token loss was answered otherwise".to_owned())),
    };
    let tokens = sequence_length.saturating_sub(1);
    if span.tokens != tokens || tokens == 0 {
        return Err(Error::Internal(format!("{} tokens were scored of {tokens}", span.tokens)));
    }
    let (tokens, bytes) = (f64::from(tokens), f64::from(span.bytes));
    let mut measures = vec![
        Measure::weighted("loss", -span.logprob / tokens, tokens),
        Measure::new("logprob", span.logprob),
        Measure::new("bytes", bytes),
    ];
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
        let rows = host.rows(0, start, ROWS).map_err(Error::Data)?;
        let texts: Vec<String> = (start..)
            .zip(&rows)
            .map(|(index, row)| text(config, index, row))
            .collect::<Result<_, _>>()?;
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

fn text(config: &Config, index: u32, row: &str) -> Result<String, Error> {
    let bad = |problem: &str| Error::Data(format!("row {index} {problem}"));
    let row: Value = serde_json::from_str(row).map_err(|_| bad("is not JSON"))?;
    let fields = match &config.text_field {
        Some(field) => vec![field.as_str()],
        None => vec!["text", "content"],
    };
    let value = fields.iter().find_map(|&field| row.get(field));
    let text = value.and_then(Value::as_str).ok_or_else(|| bad("has no text"))?;
    Ok(text.to_owned())
}

evaltasks_sdk::export!(TextLoss);

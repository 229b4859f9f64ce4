//! A host for tests of a task, without an engine.

use std::cell::RefCell;

use crate::guest::parse;
use crate::{
    Answer, Blob, Error, Host, Measure, Metric, Operation, Part, Prompt, Ragged, Request, Response,
    Span, Step, Task, TextSettings,
};

/// Answers from what a test gives it. Its tokens are bytes, its random words a
/// simple sequence.
#[derive(Debug, Default)]
pub struct TestHost {
    /// The rows of source 0, each a JSON object.
    pub rows: Vec<String>,
    blobs: RefCell<Vec<Vec<u8>>>,
    /// What was logged, with its level.
    pub messages: RefCell<Vec<(u8, String)>>,
}

impl TestHost {
    /// A host with rows of source 0.
    pub fn with_rows<'a>(rows: impl IntoIterator<Item = &'a str>) -> TestHost {
        TestHost { rows: rows.into_iter().map(str::to_owned).collect(), ..TestHost::default() }
    }
}

impl Host for TestHost {
    fn rows(&self, source: u32, start: u32, count: u32) -> Result<Vec<String>, String> {
        match source {
            0 => {
                let rows = self.rows.iter().skip(start as usize).take(count as usize);
                Ok(rows.cloned().collect())
            }
            _ => Err(format!("there is no source {source}")),
        }
    }

    fn blob_read(&self, id: u32, offset: u32, length: u32) -> Result<Vec<u8>, String> {
        let blobs = self.blobs.borrow();
        let blob = blobs.get(id as usize).ok_or_else(|| format!("there is no blob {id}"))?;
        Ok(blob.iter().skip(offset as usize).take(length as usize).copied().collect())
    }

    fn blob_put(&self, media: &str, bytes: &[u8]) -> Result<Blob, String> {
        let mut blobs = self.blobs.borrow_mut();
        let id = blobs.len() as u32;
        blobs.push(bytes.to_vec());
        Ok(Blob { id, length: bytes.len() as u32, media: media.to_owned() })
    }

    fn encode(&self, texts: &[String], _special: bool) -> Result<Ragged, String> {
        let mut ids = Ragged { data: Vec::new(), ends: Vec::new() };
        for text in texts {
            ids.data.extend(text.bytes().map(u32::from));
            ids.ends.push(ids.data.len() as u32);
        }
        Ok(ids)
    }

    fn decode(&self, ids: &Ragged) -> Result<Vec<String>, String> {
        let starts = std::iter::once(&0).chain(&ids.ends);
        let texts = starts.zip(&ids.ends).map(|(&start, &end)| {
            let ids = ids.data.get(start as usize..end as usize).unwrap_or_default();
            let bytes: Vec<u8> = ids.iter().map(|&id| id as u8).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Ok(texts.collect())
    }

    fn text_settings(&self) -> TextSettings {
        TextSettings { sequence_length: 256, end_of_sequence: Some(0) }
    }

    fn random(&self, key: &str, count: u32) -> Vec<u32> {
        // FNV-1a over the key, then Knuth's multiplicative steps.
        let seed = key
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let next = |word: &u32| Some(word.wrapping_mul(2_654_435_761).wrapping_add(seed | 1));
        std::iter::successors(Some(seed), next).skip(1).take(count as usize).collect()
    }

    fn permutation(&self, count: u32) -> Vec<u32> {
        (0..count).rev().collect()
    }

    fn log(&self, level: u8, message: &str) {
        self.messages.borrow_mut().push((level, message.to_owned()));
    }
}

/// A model that spends `nats(context, text)` on each text that it is asked to
/// score; the context of a whole text is empty. Each byte is a token. What it
/// cannot do stays unanswered.
pub fn priced(request: &Request, nats: impl Fn(&str, &str) -> f64) -> Answer {
    let span = |context: &str, text: &str| Span {
        logprob: -nats(context, text),
        tokens: text.len() as u32,
        bytes: text.len() as u32,
        greedy: false,
        per_token: Vec::new(),
    };
    match &request.operation {
        Operation::LoglikelihoodRolling(Part::Text(text)) => Answer::Spans(vec![span("", text)]),
        Operation::Loglikelihood(asked) => {
            let context = match &asked.context {
                Prompt::Raw(parts) => parts.iter().filter_map(text).collect::<String>(),
                Prompt::Chat(_) => String::new(),
            };
            let texts = asked.continuations.iter().filter_map(text);
            Answer::Spans(texts.map(|text| span(&context, text)).collect())
        }
        _ => Answer::Failed("only texts can be scored".to_owned()),
    }
}

fn text(part: &Part) -> Option<&str> {
    match part {
        Part::Text(text) => Some(text),
        Part::Tokens(_) | Part::Blob(_) => None,
    }
}

/// Runs a task over all rows, with `answer` as the model. States go through
/// their JSON on the way, as they do in the engine.
///
/// # Errors
/// The first error of the task.
pub fn run<T: Task>(
    host: &dyn Host,
    config: &str,
    answer: impl Fn(&Request) -> Answer,
) -> Result<Vec<Metric>, Error> {
    const ROWS: u32 = 256;
    let config: T::Config = parse(config)?;
    let mut samples: Vec<Vec<Measure>> = Vec::new();
    for start in (0..).step_by(ROWS as usize) {
        let steps = T::build(host, &config, start, ROWS)?;
        let last = steps.len() < ROWS as usize;
        for mut step in steps {
            let mut rounds = 0;
            while let Step::Ask(state, requests) = step {
                rounds += 1;
                if rounds > T::MAX_ROUNDS {
                    return Err(Error::Internal(format!("more than {} rounds", T::MAX_ROUNDS)));
                }
                let responses: Vec<Response> = requests
                    .iter()
                    .map(|request| Response { key: request.key, answer: answer(request) })
                    .collect();
                let json = serde_json::to_string(&state);
                let state = json.and_then(|json| serde_json::from_str(&json));
                let state = state.map_err(|error| Error::Internal(error.to_string()))?;
                step = T::score(host, &config, state, &responses)?;
            }
            if let Step::Done(measures) = step {
                samples.push(measures);
            }
        }
        if last {
            break;
        }
    }
    T::aggregate(&config, &samples)
}

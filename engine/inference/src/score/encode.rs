//! Operations as token sequences.
//!
//! Where context and continuation meet, and how long documents are cut into
//! windows, follows lm-evaluation-harness 0.4 (`api/model.py`, `utils.py`):
//! see `docs/architecture.md`.

use evaltasks_core::backend::Tokenizer;
use evaltasks_core::limits;
use evaltasks_core::task::{Loglikelihood, Message, Part, Prompt};
use evaltasks_core::template::python::is_space;

/// A run of tokens whose last ones are scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What the model reads.
    pub inputs: Vec<u32>,
    /// What should follow the last `targets.len()` inputs, one each.
    pub targets: Vec<u32>,
    /// Tokens of the sequence, which decide its rotary angles: `inputs` where
    /// the last target was never meant to be read, else one more.
    pub length: usize,
}

/// The items whose log-probabilities add up to one answered span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanPlan {
    /// In order.
    pub items: Vec<Item>,
    /// UTF-8 bytes of what is scored.
    pub bytes: u64,
}

/// What encoding needs to know of the model.
pub struct Encoder<'a> {
    /// The competition's tokenizer.
    pub tokenizer: &'a dyn Tokenizer,
    /// Stands for an empty context: beginning of sequence, else end of
    /// sequence.
    pub prefix: Option<u32>,
    /// Longest input.
    pub max_length: usize,
    /// Ids below this can be read.
    pub vocabulary_size: usize,
}

impl Item {
    /// A sequence whose last target the model does not read.
    pub fn new(inputs: Vec<u32>, targets: Vec<u32>) -> Self {
        let length = inputs.len();
        Self { inputs, targets, length }
    }
}

impl Encoder<'_> {
    /// One plan per continuation.
    pub fn loglikelihood(&self, request: &Loglikelihood) -> Result<Vec<SpanPlan>, String> {
        let context = self.prompt(&request.context)?;
        request.continuations.iter().map(|part| self.continuation(&context, part)).collect()
    }

    /// The windows of a document: the first one reads the prefix token, later
    /// ones as much context as fits beside the tokens that are new.
    pub fn rolling(&self, document: &Part) -> Result<SpanPlan, String> {
        let (tokens, bytes) = match document {
            Part::Text(text) => (self.encode_whole(text)?, text.len() as u64),
            Part::Tokens(tokens) => (self.checked(tokens)?, self.tokenizer.byte_count(tokens)?),
            Part::Blob(_) => return Err("a blob has no tokens".to_owned()),
        };
        let prefix = self.prefix.ok_or("the tokenizer has no token for an empty context")?;
        let length = self.max_length.max(1);
        let mut items = Vec::new();
        let mut done = 0;
        while done < tokens.len() {
            let end = (done + length).min(tokens.len());
            let targets = tokens[done..end].to_vec();
            let inputs = if done == 0 {
                std::iter::once(prefix).chain(tokens[..end - 1].iter().copied()).collect()
            } else {
                tokens[end.saturating_sub(length + 1)..end - 1].to_vec()
            };
            items.push(Item::new(inputs, targets));
            done = end;
        }
        Ok(SpanPlan { items, bytes })
    }

    /// All tokens but the first of a packed sequence. It is rotated as a whole:
    /// a training step reads the last token too, though nothing follows it.
    pub fn token_loss(&self, tokens: &[u32]) -> Result<SpanPlan, String> {
        let tokens = self.checked(tokens)?;
        if tokens.len() < 2 {
            return Err("a sequence of fewer than two tokens has no loss".to_owned());
        }
        if tokens.len() > self.max_length {
            return Err(format!(
                "a sequence of {} tokens is longer than the {} that the model reads",
                tokens.len(),
                self.max_length
            ));
        }
        let targets = tokens[1..].to_vec();
        let bytes = self.tokenizer.byte_count(&targets)?;
        Ok(SpanPlan {
            items: vec![Item {
                inputs: tokens[..targets.len()].to_vec(),
                targets,
                length: tokens.len(),
            }],
            bytes,
        })
    }

    /// The tokens of a prompt for generation, cut on the left so that
    /// `max_tokens` more fit.
    pub fn generation_prompt(
        &self,
        prompt: &Prompt,
        max_tokens: usize,
    ) -> Result<Vec<u32>, String> {
        let mut tokens = match self.prompt(prompt)? {
            Context::Text(text) => self.encode_whole(&text)?,
            Context::Tokens(tokens) => tokens,
        };
        if tokens.is_empty() {
            tokens.extend(self.prefix);
        }
        if tokens.is_empty() {
            return Err("the prompt is empty and the tokenizer has no token to stand for it".into());
        }
        let room = self.max_length.saturating_sub(max_tokens);
        if room == 0 {
            return Err(format!(
                "{max_tokens} tokens are asked for, and the model reads {} with the prompt",
                self.max_length
            ));
        }
        Ok(tokens.split_off(tokens.len().saturating_sub(room)))
    }

    fn prompt(&self, prompt: &Prompt) -> Result<Context, String> {
        let parts = match prompt {
            Prompt::Raw(parts) => parts,
            Prompt::Chat(messages) => {
                let turns: Vec<_> = messages.iter().map(turn).collect::<Result<_, _>>()?;
                return self.tokenizer.chat(&turns).map(Context::Text);
            }
        };
        if parts.iter().all(|part| matches!(part, Part::Text(_))) {
            let mut text = String::new();
            for part in parts {
                if let Part::Text(piece) = part {
                    text.push_str(piece);
                }
            }
            return Ok(Context::Text(text));
        }
        let mut tokens = Vec::new();
        for part in parts {
            match part {
                Part::Text(text) => tokens.extend(self.encode(text, false)?),
                Part::Tokens(ids) => tokens.extend(self.checked(ids)?),
                Part::Blob(_) => return Err("a blob has no tokens".to_owned()),
            }
        }
        Ok(Context::Tokens(tokens))
    }

    fn continuation(&self, context: &Context, part: &Part) -> Result<SpanPlan, String> {
        let (context, targets, bytes) = match (context, part) {
            (_, Part::Blob(_)) => return Err("a blob has no tokens".to_owned()),
            (Context::Text(context), Part::Text(text)) => {
                let (context, targets) = self.pair(context, text)?;
                (context, targets, text.len() as u64)
            }
            (Context::Text(context), Part::Tokens(tokens)) => {
                let context = self.or_prefix(self.encode_whole(context)?)?;
                (context, self.checked(tokens)?, self.tokenizer.byte_count(tokens)?)
            }
            (Context::Tokens(context), Part::Text(text)) => {
                (self.or_prefix(context.clone())?, self.encode(text, false)?, text.len() as u64)
            }
            (Context::Tokens(context), Part::Tokens(tokens)) => {
                let bytes = self.tokenizer.byte_count(tokens)?;
                (self.or_prefix(context.clone())?, self.checked(tokens)?, bytes)
            }
        };
        if targets.is_empty() {
            return Err("the continuation has no tokens".to_owned());
        }
        if targets.len() > self.max_length {
            return Err(format!(
                "a continuation of {} tokens is longer than the {} that the model reads",
                targets.len(),
                self.max_length
            ));
        }
        let mut inputs = context;
        inputs.extend_from_slice(&targets[..targets.len() - 1]);
        let inputs = inputs.split_off(inputs.len().saturating_sub(self.max_length));
        Ok(SpanPlan { items: vec![Item::new(inputs, targets)], bytes })
    }

    /// Context and continuation of two texts. Whitespace at the context's end
    /// belongs to the continuation, and the continuation's tokens are those
    /// that the whole text has beyond the context's number of tokens.
    fn pair(&self, context: &str, continuation: &str) -> Result<(Vec<u32>, Vec<u32>), String> {
        if context.is_empty() {
            let mut targets = self.encode(continuation, false)?;
            let prefix = self.prefix.ok_or("the tokenizer has no token for an empty context")?;
            if targets.first() == Some(&prefix) {
                targets.remove(0);
            }
            return Ok((vec![prefix], targets));
        }
        let kept = context.trim_end_matches(is_space);
        let whole = format!("{kept}{}{continuation}", &context[kept.len()..]);
        let context = self.encode_whole(kept)?;
        let whole = self.encode_whole(&whole)?;
        let targets = whole.get(context.len()..).unwrap_or_default().to_vec();
        Ok((self.or_prefix(context)?, targets))
    }

    fn or_prefix(&self, context: Vec<u32>) -> Result<Vec<u32>, String> {
        if !context.is_empty() {
            return Ok(context);
        }
        let prefix = self.prefix.ok_or("the tokenizer has no token for an empty context")?;
        Ok(vec![prefix])
    }

    /// With the special tokens that the tokenizer adds by itself, unless the
    /// text begins with the prefix token's text already.
    fn encode_whole(&self, text: &str) -> Result<Vec<u32>, String> {
        let mut tokens = self.encode(text, true)?;
        if let Some(prefix) = self.prefix
            && tokens.len() > 1
            && tokens[0] == prefix
            && tokens[1] == prefix
        {
            tokens.remove(0);
        }
        Ok(tokens)
    }

    fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, String> {
        if text.len() > limits::MAX_TEXT_BYTES_PER_REQUEST {
            return Err(format!(
                "a text of {} bytes is over the limit of {}",
                text.len(),
                limits::MAX_TEXT_BYTES_PER_REQUEST
            ));
        }
        let ragged = self.tokenizer.encode(&[text.to_owned()], special)?;
        self.checked(&ragged.data)
    }

    fn checked(&self, tokens: &[u32]) -> Result<Vec<u32>, String> {
        if tokens.len() > limits::MAX_TOKENS_PER_REQUEST {
            return Err(format!(
                "{} tokens are over the limit of {}",
                tokens.len(),
                limits::MAX_TOKENS_PER_REQUEST
            ));
        }
        match tokens.iter().find(|&&token| token as usize >= self.vocabulary_size) {
            Some(token) => Err(format!(
                "token {token} is outside the model's vocabulary of {}",
                self.vocabulary_size
            )),
            None => Ok(tokens.to_vec()),
        }
    }
}

/// Who says what.
fn turn(message: &Message) -> Result<(String, String), String> {
    let text = |part: &Part| match part {
        Part::Text(text) => Ok(text.clone()),
        Part::Tokens(_) | Part::Blob(_) => Err("a turn of a conversation must be text".to_owned()),
    };
    Ok((message.role.clone(), message.parts.iter().map(text).collect::<Result<_, _>>()?))
}

enum Context {
    Text(String),
    Tokens(Vec<u32>),
}

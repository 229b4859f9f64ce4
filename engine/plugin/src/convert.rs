//! Between the ABI's types and the engine's, which mirror each other.

use evaltasks_core::task;

use crate::bindings::evaltasks::task::types as wit;

/// Converts each element.
pub fn all<A: Into<B>, B>(values: Vec<A>) -> Vec<B> {
    values.into_iter().map(Into::into).collect()
}

/// Converts a struct whose fields have the same names on both sides; a field
/// in parentheses is converted by the expression.
macro_rules! same_fields {
    ($from:ty => $to:ty { $($field:ident $(: $value:expr)?),* } as $name:ident) => {
        impl From<$from> for $to {
            fn from($name: $from) -> Self {
                Self { $($field: same_fields!(@ $name $field $($value)?)),* }
            }
        }
    };
    (@ $name:ident $field:ident) => { $name.$field };
    (@ $name:ident $field:ident $value:expr) => { $value };
}

same_fields!(wit::Info => task::Info {
    id, version, summary, config_schema, operations, max_rounds
} as info);
same_fields!(wit::Plan => task::Plan { sources: all(plan.sources), rows } as plan);
same_fields!(wit::Source => task::Source { dataset, revision, split, columns } as source);
same_fields!(wit::Ask => task::Ask { state, requests: all(ask.requests) } as ask);
same_fields!(wit::Request => task::Request {
    key, operation: request.operation.into()
} as request);
same_fields!(wit::Blob => task::Blob {
    id, length, media, content: task_content()
} as blob);
same_fields!(task::Blob => wit::Blob { id, length, media } as blob);
same_fields!(wit::Message => task::Message { role, parts: all(message.parts) } as message);
same_fields!(wit::Loglikelihood => task::Loglikelihood {
    context: asked.context.into(), continuations: all(asked.continuations), per_token
} as asked);
same_fields!(wit::Generate => task::Generate {
    prompt: asked.prompt.into(), min_tokens, max_tokens, stop, temperature, top_p, samples, extra
} as asked);
same_fields!(wit::Classify => task::Classify { input: asked.input.into(), labels, top_k } as asked);
same_fields!(wit::Custom => task::Custom { kind, json, blobs: all(custom.blobs) } as custom);
same_fields!(task::Custom => wit::Custom { kind, json, blobs: all(custom.blobs) } as custom);
same_fields!(wit::Measure => task::Measure { name, value, weight } as measure);
same_fields!(task::Measure => wit::Measure { name, value, weight } as measure);
same_fields!(wit::Metric => task::Metric {
    name, value, stderr, higher_is_better, samples
} as metric);
same_fields!(task::Span => wit::Span { logprob, tokens, bytes, greedy, per_token } as span);
same_fields!(task::Text => wit::Text { text, finish, tokens } as text);
same_fields!(task::Label => wit::Label { index, score } as label);
same_fields!(task::Response => wit::Response {
    key, answer: response.answer.into()
} as response);

/// A plugin has handles only; the engine gives them their bytes.
fn task_content() -> evaltasks_core::content::Content {
    Default::default()
}

impl From<wit::Step> for task::Step {
    fn from(step: wit::Step) -> Self {
        match step {
            wit::Step::Ask(ask) => task::Step::Ask(ask.into()),
            wit::Step::Done(measures) => task::Step::Done(all(measures)),
            wit::Step::Skip(reason) => task::Step::Skip(reason),
        }
    }
}

impl From<wit::Operation> for task::Operation {
    fn from(operation: wit::Operation) -> Self {
        match operation {
            wit::Operation::Loglikelihood(asked) => Self::Loglikelihood(asked.into()),
            wit::Operation::LoglikelihoodRolling(part) => Self::LoglikelihoodRolling(part.into()),
            wit::Operation::TokenLoss(tokens) => Self::TokenLoss(tokens),
            wit::Operation::GenerateUntil(asked) => Self::GenerateUntil(asked.into()),
            wit::Operation::Classify(asked) => Self::Classify(asked.into()),
            wit::Operation::Custom(asked) => Self::Custom(asked.into()),
        }
    }
}

impl From<wit::Part> for task::Part {
    fn from(part: wit::Part) -> Self {
        match part {
            wit::Part::Text(text) => Self::Text(text),
            wit::Part::Tokens(tokens) => Self::Tokens(tokens),
            wit::Part::Blob(blob) => Self::Blob(blob.into()),
        }
    }
}

impl From<wit::Prompt> for task::Prompt {
    fn from(prompt: wit::Prompt) -> Self {
        match prompt {
            wit::Prompt::Raw(parts) => Self::Raw(all(parts)),
            wit::Prompt::Chat(messages) => Self::Chat(all(messages)),
        }
    }
}

impl From<task::Answer> for wit::Answer {
    fn from(answer: task::Answer) -> Self {
        match answer {
            task::Answer::Spans(spans) => Self::Spans(all(spans)),
            task::Answer::Texts(texts) => Self::Texts(all(texts)),
            task::Answer::Labels(labels) => Self::Labels(all(labels)),
            task::Answer::Custom(custom) => Self::Custom(custom.into()),
            task::Answer::Failed(reason) => Self::Failed(reason),
        }
    }
}

impl From<wit::Error> for task::TaskError {
    fn from(error: wit::Error) -> Self {
        match error {
            wit::Error::Config(text) => Self::Config(text),
            wit::Error::Data(text) => Self::Data(text),
            wit::Error::Disqualified(text) => Self::Disqualified(text),
            wit::Error::Internal(text) => Self::Internal(text),
        }
    }
}

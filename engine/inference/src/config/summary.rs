//! What a `config.json` says about itself, supported or not.

use serde_json::Value;

use super::architecture;
use super::error::ConfigError;
use super::reader::{Reader, show};

/// Facts that inspection reports, whether or not the model can be run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigSummary {
    /// First entry of `architectures`.
    pub architecture: Option<String>,
    /// `model_type`.
    pub model_type: Option<String>,
    /// Rows of the embedding.
    pub vocabulary_size: Option<usize>,
    /// Longest sequence that the model declares.
    pub max_positions: Option<usize>,
    /// Type that the document says the weights have.
    pub dtype: Option<String>,
    /// Whether the architecture is in the table.
    pub supported: bool,
}

/// Keys of the longest sequence, over all architectures.
const POSITION_KEYS: [&str; 5] =
    ["max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "n_ctx"];

/// What can be said of any `config.json`; what is absent or nonsense is `None`.
///
/// # Errors
/// When the document is no JSON object.
pub fn config_summary(config: &Value) -> Result<ConfigSummary, ConfigError> {
    let reader = Reader::new(config)?;
    let text = |value: &Value| value.is_string().then(|| show(value).trim_matches('"').to_owned());
    let text_at = |key: &str| reader.given(key).and_then(|field| text(field.value));
    let count_at = |key: &str| reader.given(key)?.count(1..=usize::MAX).ok();
    let architectures = reader.given("architectures").and_then(|field| field.list().ok());
    let architecture = architectures.and_then(|names| names.first()).and_then(text);
    let spec = architecture.as_deref().and_then(architecture::find);
    let default = |size: &architecture::Size| match size.absent {
        architecture::Fallback::Value(value) => Some(value),
        _ => None,
    };
    Ok(ConfigSummary {
        model_type: text_at("model_type"),
        vocabulary_size: count_at("vocab_size").or_else(|| default(&spec?.sizes.vocabulary)),
        max_positions: POSITION_KEYS
            .iter()
            .find_map(|key| count_at(key))
            .or_else(|| default(&spec?.sizes.positions)),
        dtype: text_at("dtype").or_else(|| text_at("torch_dtype")),
        supported: spec.is_some(),
        architecture,
    })
}

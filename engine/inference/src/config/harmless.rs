//! Keys of `config.json` that never change what a supported architecture
//! computes. Sorted within each group.

/// Whether `key` is one of them.
pub(crate) fn is_harmless(key: &str) -> bool {
    keys().any(|harmless| harmless == key)
}

/// All of them.
pub(crate) fn keys() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().copied().flatten().copied()
}

const GROUPS: &[&[&str]] = &[TRAINING, GENERATION, OTHER_HEADS, TOKENS, OUTPUTS, PROVENANCE];

/// Act while training only.
const TRAINING: &[&str] = &[
    "activation_dropout",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "classif_dropout",
    "classifier_dropout",
    "decoder_layerdrop",
    "dropout",
    "embd_pdrop",
    "encoder_layerdrop",
    "gradient_checkpointing",
    "hidden_dropout",
    "hidden_dropout_prob",
    "init_std",
    "initializer_range",
    "resid_pdrop",
];

/// Choose among predicted tokens, or only say how to cache keys and values.
const GENERATION: &[&str] = &[
    "bad_words_ids",
    "begin_suppress_tokens",
    "cache_implementation",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "force_bos_token_to_be_generated",
    "forced_bos_token_id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "prefix",
    "remove_invalid_values",
    "repetition_penalty",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    "use_cache",
];

/// Belong to classification, which has other heads.
const OTHER_HEADS: &[&str] = &[
    "finetuning_task",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
];

/// Tokens that text is wrapped in, which the tokenizer decides.
const TOKENS: &[&str] =
    &["decoder_start_token_id", "pad_token_id", "sep_token_id", "tokenizer_class"];

/// Which values a Python call returns, and by which implementation.
const OUTPUTS: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "attn_implementation",
    "chunk_size_feed_forward",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "return_dict",
    "return_dict_in_generate",
    "tf_legacy_loss",
    "torchscript",
    "use_bfloat16",
];

/// Where the model comes from. `auto_map` names Python code that stands in for
/// an architecture; the table decides by the architecture's own name.
const PROVENANCE: &[&str] = &[
    "_commit_hash",
    "_name_or_path",
    "auto_map",
    "model_name",
    "name_or_path",
    "transformers.js_config",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
];

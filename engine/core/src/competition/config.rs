//! A task's configuration against the task's own schema.
//!
//! A plugin's schema was made by somebody else: it may be small and take for
//! ever. So what validation may cost is bounded before it begins, and text of
//! the schema is made fit to be shown.

use std::collections::BTreeMap;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use super::KnownTask;
use super::resolve::Context;
use crate::document::{Place, did_you_mean, quote, shown};
use crate::limits::{MAX_CONFIG_CHECKS, MAX_PROBLEMS, MAX_SCHEMA_DEPTH};

/// The metric that does not depend on the tokenizer.
const BYTE_METRIC: &str = "bits_per_byte";
/// Bytes that one regular expression of a schema may be compiled to.
const MAX_PATTERN_BYTES: usize = 1 << 20;
/// A regular expression is worth so many other checks.
const PATTERN_CHECKS: u64 = 1000;
/// Characters of a message that a schema has a part in.
const MAX_MESSAGE_CHARACTERS: usize = 300;

/// Checks a task's configuration against the task's own schema.
pub(super) fn check_config(
    context: &Context<'_>,
    task: &KnownTask,
    config: &Value,
    at: Place,
    any_tokenizer: bool,
) {
    let problems = context.problems;
    let (schema, validator) = match validator(&task.config_schema, config) {
        Ok(validator) => validator,
        Err(error) => {
            let error = shown(&error, MAX_MESSAGE_CHARACTERS);
            let message = format!("the task {} has no usable schema: {error}", quote(&task.id));
            problems.error(at.key, message, Some("this is a fault of the task".to_owned()));
            return;
        }
    };
    for error in validator.iter_errors(config).take(MAX_PROBLEMS) {
        let path = error.instance_path().as_str();
        let place = place_in_config(context, at, path);
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                let known = known_properties(&schema, error.schema_path().as_str());
                for key in unexpected.iter().take(MAX_PROBLEMS) {
                    let at = place_in_config(context, at, &format!("{path}/{}", escaped(key))).key;
                    let message = format!("unknown key {} for {}", quote(key), quote(&task.id));
                    problems.error(at, message, did_you_mean(key, known.iter().copied()));
                }
            }
            ValidationErrorKind::Required { property } => {
                let key = quote(property.as_str().unwrap_or_default());
                problems.error(place.key, format!("the key {key} is missing"), None);
            }
            kind => {
                let instance = error.instance();
                let found = instance.as_str().map_or_else(|| instance.to_string(), str::to_owned);
                let allowed = allowed_words(kind);
                let (message, hint) = if allowed.is_empty() {
                    let message = error.masked_with(quote(&found)).to_string();
                    (shown(&message, MAX_MESSAGE_CHARACTERS), None)
                } else {
                    (format!("{} is not known here", quote(&found)), did_you_mean(&found, allowed))
                };
                problems.error(place.value, message, hint);
            }
        }
    }
    if any_tokenizer {
        check_byte_metric(context, task, (&schema, &validator), config, at);
    }
}

/// A schema that a configuration can be checked against at a bounded cost.
fn validator(schema: &str, config: &Value) -> Result<(Value, Validator), String> {
    let schema: Value = serde_json::from_str(schema).map_err(|error| error.to_string())?;
    let mut walk = Walk { root: &schema, known: BTreeMap::new(), open: Vec::new() };
    let cost = walk.cost(&schema, 0)?;
    if cost.checks.saturating_mul(values(config)) > MAX_CONFIG_CHECKS {
        return Err(format!("it takes over {MAX_CONFIG_CHECKS} checks of values"));
    }
    // An engine without backtracking, so that no pattern takes for ever.
    let patterns = PatternOptions::regex();
    let patterns = patterns.size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES);
    let options = jsonschema::options().offline().with_pattern_options(patterns);
    let validator = options.build(&schema).map_err(|error| error.to_string())?;
    Ok((schema, validator))
}

/// Values in a value, itself included.
fn values(value: &Value) -> u64 {
    1 + match value {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(members) => members.values().map(values).sum(),
        _ => 0,
    }
}

/// What a schema may ask of one value.
#[derive(Clone, Copy)]
struct Cost {
    /// Keywords and values that may be looked at.
    checks: u64,
    /// How deep they are nested.
    depth: usize,
}

/// Adds up what a schema may cost.
struct Walk<'a> {
    root: &'a Value,
    /// Cost of what a reference leads to.
    known: BTreeMap<&'a str, Cost>,
    /// References that are being followed.
    open: Vec<&'a str>,
}

impl<'a> Walk<'a> {
    /// An upper bound: what may not apply is counted as well. A schema that
    /// refers to itself, or to what is not in it, has none.
    fn cost(&mut self, schema: &'a Value, above: usize) -> Result<Cost, String> {
        let mut cost = Cost { checks: 1, depth: 1 };
        let mut add = |part: Cost| {
            cost.checks = cost.checks.saturating_add(part.checks);
            cost.depth = cost.depth.max(part.depth + 1);
            if above + cost.depth > MAX_SCHEMA_DEPTH {
                return Err(format!("it is nested over {MAX_SCHEMA_DEPTH} deep"));
            }
            Ok(())
        };
        match schema {
            Value::Array(items) => {
                for item in items {
                    add(self.cost(item, above + 1)?)?;
                }
            }
            Value::Object(members) => {
                for (key, member) in members {
                    add(self.member(key, member, above + 1)?)?;
                }
            }
            _ => {}
        }
        Ok(cost)
    }

    fn member(&mut self, key: &str, member: &'a Value, above: usize) -> Result<Cost, String> {
        match (key, member) {
            ("$ref", Value::String(target)) => self.target(target, above),
            ("$dynamicRef" | "$recursiveRef", Value::String(target)) => Err(leads_outside(target)),
            // What `#` means would change.
            ("$id", Value::String(id)) if above > 1 => {
                Err(format!("its part {} has a name of its own", quote(id)))
            }
            ("$schema", Value::String(dialect)) if dialect.contains("draft-04") => {
                Err(format!("the dialect {} is too old", quote(dialect)))
            }
            ("pattern", Value::String(_)) => Ok(Cost { checks: PATTERN_CHECKS, depth: 1 }),
            ("patternProperties", Value::Object(patterns)) => {
                let mut cost = self.cost(member, above)?;
                let patterns = PATTERN_CHECKS.saturating_mul(patterns.len() as u64);
                cost.checks = cost.checks.saturating_add(patterns);
                Ok(cost)
            }
            _ => self.cost(member, above),
        }
    }

    fn target(&mut self, target: &'a str, above: usize) -> Result<Cost, String> {
        if let Some(cost) = self.known.get(target) {
            return Ok(*cost);
        }
        if self.open.contains(&target) {
            return Err(format!("its part {} contains itself", quote(target)));
        }
        let root = self.root;
        let pointer = target.strip_prefix('#').ok_or_else(|| leads_outside(target))?;
        let schema = root.pointer(pointer).ok_or_else(|| leads_outside(target))?;
        self.open.push(target);
        let cost = self.cost(schema, above)?;
        self.open.pop();
        self.known.insert(target, cost);
        Ok(cost)
    }
}

fn leads_outside(target: &str) -> String {
    format!("its reference {} does not lead to a part of it by `#/...`", quote(target))
}

/// Losses per token cannot be compared between models that each bring a
/// tokenizer: longer tokens make fewer, each harder, predictions. A task that
/// offers a metric per byte must use it then.
fn check_byte_metric(
    context: &Context<'_>,
    task: &KnownTask,
    (schema, validator): (&Value, &Validator),
    config: &Value,
    at: Place,
) {
    let metric = &schema["properties"]["metric"];
    if metric.is_null() || config.get("metric").unwrap_or(&metric["default"]) == BYTE_METRIC {
        return;
    }
    let mut better = config.clone();
    better["metric"] = BYTE_METRIC.into();
    if !validator.iter_errors(&better).any(|error| error.instance_path().as_str() == "/metric") {
        let message = format!(
            "{} needs the metric `{BYTE_METRIC}` where any tokenizer is allowed",
            quote(&task.id)
        );
        let hint = format!("write `config: {{metric: {BYTE_METRIC}}}`, or fix the tokenizer");
        let at = place_in_config(context, at, "/metric");
        context.problems.error(at.value, message, Some(hint));
    }
}

/// The words that a value may be, where a schema lists them.
fn allowed_words(kind: &ValidationErrorKind) -> Vec<&str> {
    match kind {
        ValidationErrorKind::Constant { expected_value } => {
            expected_value.as_str().into_iter().collect()
        }
        ValidationErrorKind::Enum { options } => {
            options.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
        }
        ValidationErrorKind::OneOfNotValid { context } | ValidationErrorKind::AnyOf { context } => {
            context.iter().flatten().flat_map(|error| allowed_words(error.kind())).collect()
        }
        _ => Vec::new(),
    }
}

/// Keys that a schema knows where one of its keywords was violated.
fn known_properties<'a>(schema: &'a Value, keyword_path: &str) -> Vec<&'a str> {
    let parent = keyword_path.rsplit_once('/').map_or("", |(parent, _)| parent);
    let properties = schema.pointer(&format!("{parent}/properties")).and_then(Value::as_object);
    properties.into_iter().flat_map(|known| known.keys().map(String::as_str)).collect()
}

/// Where a JSON pointer into `config` leads; the nearest place when it leads
/// to something that is not there.
pub(super) fn place_in_config(context: &Context<'_>, config: Place, pointer: &str) -> Place {
    let parts = pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~"));
    match context.tree.find(config.value) {
        Some(node) => node.descend(config, parts),
        None => Place { key: config.key, value: config.key },
    }
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_has_a_bounded_cost() {
        // Each of them refers twice to the one before: 2^40 checks.
        let mut doubling = json!({"p0": {"type": "object"}});
        // Each refers to the one before, so following them goes deep.
        let mut chain = json!({"p000": true});
        for index in 1..=40 {
            let before = format!("#/$defs/p{}", index - 1);
            doubling[format!("p{index}")] = json!({"allOf": [{"$ref": before}, {"$ref": before}]});
        }
        for index in 1..=200 {
            chain[format!("p{index:03}")] = json!({"$ref": format!("#/$defs/p{:03}", index - 1)});
        }
        let pattern = |pattern: &str| json!({"properties": {"a": {"pattern": pattern}}});
        let many: Vec<Value> = (0..1000).map(|_| pattern("a")).collect();
        let rows = [
            (json!({"$ref": "#/$defs/p40", "$defs": doubling}), "it takes over 1000000 checks"),
            (json!({"$ref": "#/$defs/p200", "$defs": chain}), "it is nested over 128 deep"),
            (json!({"$ref": "#"}), "its part `#` contains itself"),
            (json!({"allOf": [{"$ref": "#/allOf"}]}), "its part `#/allOf` contains itself"),
            (json!({"$ref": "https://example.org/s"}), "its reference `https://example.org/s`"),
            (json!({"$ref": "#name"}), "its reference `#name` does not lead"),
            (json!({"$ref": "#/$defs/none"}), "its reference `#/$defs/none` does not lead"),
            (json!({"$dynamicRef": "#x"}), "its reference `#x` does not lead"),
            (json!({"allOf": [{"$id": "x"}]}), "its part `x` has a name of its own"),
            (json!({"$schema": "http://json-schema.org/draft-04/schema#"}), "the dialect"),
            (json!({"allOf": many}), "it takes over 1000000 checks"),
            (pattern("("), ""),
            (pattern(r"(a{1000}){1000}"), ""),
            (json!({"type": 7}), ""),
            (json!([]), ""),
        ];
        for (schema, expected) in rows {
            let error = validator(&schema.to_string(), &json!({"a": "b"})).err();
            let error = error.unwrap_or_else(|| panic!("{schema} is accepted"));
            assert!(error.starts_with(expected), "{schema}: {error}");
        }
        assert!(validator("{", &json!({})).is_err());
    }

    #[test]
    fn usual_schemas_are_usable() {
        let rows = [
            json!(true),
            json!({}),
            json!({"$id": "https://example.org/s", "$schema": "https://json-schema.org/draft/2020-12/schema",
                "properties": {"$ref": {"type": "string"}, "$id": {"$ref": "#/$defs/A"}},
                "$defs": {"A": {"type": "string", "default": "#"}}}),
            // Backtracking takes 2^30 steps to find that this does not match.
            json!({"properties": {"a": {"pattern": "^(b|b|b)*c$"}}}),
        ];
        for schema in rows {
            let (_, validator) = validator(&schema.to_string(), &json!({})).unwrap();
            let long = json!({"a": "b".repeat(30)});
            assert_eq!(validator.is_valid(&long), !schema.to_string().contains("pattern"));
        }
    }
}

//! The description of the API, made from its table and its types.

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::api::{Endpoint, Parameter, endpoints};
use super::health::Health;
use crate::http::ErrorAnswer;

/// The API as OpenAPI 3.1, which ends in a newline.
pub fn openapi() -> String {
    format!("{:#}\n", description())
}

fn description() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let settings = settings.for_serialize();
    let generator = &mut settings.into_generator();
    let health = generator.subschema_for::<Health>();
    let mut paths = serde_json::Map::new();
    for endpoint in endpoints() {
        paths.insert(endpoint.path.to_owned(), json!({"get": operation(&endpoint, generator)}));
    }
    let plain = |summary: &str, name: &str, answers: Value| json!({"get": {"operationId": name, "summary": summary, "responses": answers}});
    paths.insert(
        "/healthz".to_owned(),
        plain(
            "Whether the validator needs its operator",
            "health",
            json!({
                "200": answer("It does not", &health),
                "503": answer("It does, for these causes", &health),
            }),
        ),
    );
    paths.insert(
        "/metrics".to_owned(),
        plain(
            "Metrics for Prometheus",
            "metrics",
            json!({"200": {
                "description": "Text exposition format 0.0.4",
                "content": {"text/plain": {"schema": {"type": "string"}}},
            }}),
        ),
    );
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "EvalTasks validator",
            "version": "1.0.0",
            "summary": "What a running validator has decided, and what it is doing",
            "description": "Read only. Lists give the latest first; `before` and `next_before` \
                lead from one part to the next.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This validator"}],
        "security": [],
        "paths": paths,
        "components": {"schemas": generator.take_definitions(true)},
    })
}

fn operation(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Value {
    let schema = (endpoint.schema)(generator);
    let failure = generator.subschema_for::<ErrorAnswer>();
    let parameters: Vec<Value> =
        endpoint.parameters.iter().map(|&one| parameter(endpoint.path, one, generator)).collect();
    let mut answers = json!({
        "200": answer("As asked", &schema),
        "400": answer("The request makes no sense", &failure),
        "503": answer("The state cannot be read", &failure),
    });
    let names = [Parameter::Competition, Parameter::Round, Parameter::Submission];
    if endpoint.parameters.iter().any(|parameter| names.contains(parameter)) {
        answers["404"] = answer("What it names is not there", &failure);
    }
    json!({
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "parameters": parameters,
        "responses": answers,
    })
}

fn parameter(path: &str, parameter: Parameter, generator: &mut SchemaGenerator) -> Value {
    let in_path = path.contains(&format!("{{{}}}", parameter.name()));
    json!({
        "name": parameter.name(),
        "in": if in_path { "path" } else { "query" },
        "required": in_path,
        "description": parameter.description(),
        "schema": parameter.schema(generator),
    })
}

fn answer(description: &str, schema: &Schema) -> Value {
    json!({"description": description, "content": {"application/json": {"schema": schema}}})
}

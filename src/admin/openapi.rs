//! The API in OpenAPI 3.1, from the table of routes and the types that the handlers take and answer.
//!
//! `GET /api/v1/openapi.json` serves it; `schemas/openapi.json` is the same as a file, printed by `tidegate man --openapi`. What
//! each route is stands in `operations`; a test finds a route without one. Answers are described once each, below
//! `components`; what a request takes is described where it is taken, since a type may be written otherwise than it is read.

mod operation;
mod operations;

use crate::admin::{problem::HttpProblem, rule::Rule};
use actix_web::{
    HttpResponse,
    http::{Method, header::ContentType},
};
use operation::{Answer, Operation, Taken};
use schemars::{Schema, SchemaGenerator, generate::SchemaSettings, transform::RecursiveTransform};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// Where the schemas of answers stand.
const SCHEMAS: &str = "/components/schemas";

/// The headers of a conditional request (RFC 9110 section 13.1).
const CONDITIONS: [(&str, &str); 2] = [
    ("If-Match", "Only if this is what there is (ETag, or the version in double quotes); else 412"),
    ("If-None-Match", "Only if this is not what there is, * being anything; else 304 for GET and 412"),
];
/// What may stand in them.
const TAGS: &str = "^(\\*|(W/)?\"[!#-~]*\"(, ?(W/)?\"[!#-~]*\"){0,7})$";

/// The document as text.
static TEXT: LazyLock<String> = LazyLock::new(|| {
    let mut text = serde_json::to_string_pretty(&document()).unwrap_or_default();
    text.push('\n');
    text
});

/// The answer to `GET /api/v1/openapi.json`.
pub(super) async fn show() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::json()).body(TEXT.as_str())
}

/// `schemas/openapi.json`.
#[must_use]
pub fn text() -> &'static str {
    &TEXT
}

fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(plain));
    let mut answers = settings.clone().with(|s| s.definitions_path = SCHEMAS.into()).for_serialize().into_generator();
    let mut taken = settings.with(|s| s.inline_subschemas = true).into_generator();
    let problem = answers.subschema_for::<HttpProblem>();
    let rules = super::routes();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations::all() {
        let rule = rules.iter().find(|line| line.method == operation.method && line.path == operation.path);
        let described = described(&operation, rule.map(|line| &line.rule), &mut answers, &mut taken);
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Value::Object(path) = path {
            path.insert(operation.method.as_str().to_ascii_lowercase(), described);
        }
    }
    let schemas: Map<String, Value> = answers.take_definitions(true).into_iter().collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tidegate's admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What operators and the command line see and change while the gateway runs. Metadata alone: never a \
                            body of a message, never an onion address. docs/admin-api.md tells it at length.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "http://127.0.0.1:8088 unless the config says otherwise" }],
        "security": [{ "token": [] }],
        "tags": operations::TAGS.map(|(name, description)| json!({ "name": name, "description": description })),
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "admin.token of the gateway's state folder, or one of `tidegate token add`. Scopes: read, operate, \
                                    admin; each has those before it.",
                },
            },
            "responses": {
                "Problem": {
                    "description": "It was refused, or could not be done",
                    "content": { "application/problem+json": { "schema": problem } },
                },
            },
            "schemas": schemas,
        },
    })
}

fn described(
    operation: &Operation,
    rule: Option<&Rule>,
    answers: &mut SchemaGenerator,
    taken: &mut SchemaGenerator,
) -> Value {
    let mut described = Map::new();
    described.insert("operationId".into(), operation.id.into());
    described.insert("tags".into(), json!([operation.tag]));
    described.insert("summary".into(), operation.summary.into());
    let conditions = CONDITIONS.iter().filter(|_| operation.conditional).map(|(name, about)| {
        json!({ "name": name, "in": "header", "required": false, "description": about, "schema": { "type": "string", "pattern": TAGS } })
    });
    let parameters: Vec<Value> =
        parts(operation.path).chain(parameters(operation.query, taken)).chain(conditions).collect();
    if !parameters.is_empty() {
        described.insert("parameters".into(), parameters.into());
    }
    if let Some(body) = operation.body {
        let content = json!({ "application/json": { "schema": body(taken) } });
        described.insert("requestBody".into(), json!({ "required": true, "content": content }));
    }
    let (media_type, schema) = match operation.answer {
        Answer::Text(media_type) => (media_type, json!({ "type": "string" })),
        Answer::Json(schema) => ("application/json", schema(answers).to_value()),
        Answer::Lines(schema) => ("application/x-ndjson", schema(answers).to_value()),
    };
    let answered = json!({ "description": operation.answered(), "content": { media_type: { "schema": schema } } });
    let refused = json!({ "$ref": "#/components/responses/Problem" });
    let mut responses = json!({ "200": answered, "default": refused });
    if operation.conditional && operation.method == Method::GET {
        responses["304"] = json!({ "description": "It is what If-None-Match names" });
    }
    described.insert("responses".into(), responses);
    if super::is_public(operation.path) {
        described.insert("security".into(), json!([]));
    } else if let Some(rule) = rule {
        described.insert("description".into(), format!("Needs a token of scope {}.", rule.scope).into());
    }
    Value::Object(described)
}

/// Documentation without links into the code, and each whole number with the limits of its type.
fn plain(schema: &mut Schema) {
    if let Some(text) = schema.get("description").and_then(Value::as_str) {
        let text = text.replace("[`", "`").replace("`]", "`");
        schema.insert("description".into(), text.into());
    }
    let most = match schema.get("format").and_then(Value::as_str) {
        Some("uint32") => Some(u64::from(u32::MAX)),
        Some("uint" | "uint64") => Some(u64::MAX),
        _ => None,
    };
    if let Some(most) = most.filter(|_| schema.get("maximum").is_none()) {
        schema.insert("maximum".into(), most.into());
    }
}

/// The named parts of a path.
fn parts(path: &'static str) -> impl Iterator<Item = Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names.map(|name| {
        let (schema, description) = match name {
            "destination" => (json!({ "type": "string", "pattern": "^[a-z0-9-]{1,64}$" }), "Alias of a destination"),
            "seq" => (json!({ "type": "integer", "minimum": 0 }), "Number of a message within its destination"),
            "act" => (json!({ "enum": ["hold", "release", "retry", "purge"] }), "What to do with it"),
            _ => {
                (json!({ "type": "string", "format": "uuid" }), "Id of a message, as the receiver and the room see it")
            }
        };
        json!({ "name": name, "in": "path", "required": true, "description": description, "schema": schema })
    })
}

/// The fields of a query.
fn parameters(query: Option<Taken>, generator: &mut SchemaGenerator) -> Vec<Value> {
    let Some(query) = query else { return Vec::new() };
    let schema = query(generator).to_value();
    let fields = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let parameter = |(name, mut schema): (String, Value)| {
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        let schema = without_null(schema);
        json!({ "name": name, "in": "query", "description": description, "schema": schema })
    };
    fields.into_iter().map(parameter).collect()
}

/// A parameter is absent or has a value; there is no null in a query.
fn without_null(mut schema: Value) -> Value {
    if let Some(kinds) = schema.get("type").and_then(Value::as_array) {
        let kinds: Vec<Value> = kinds.iter().filter(|kind| **kind != "null").cloned().collect();
        if let [kind] = kinds.as_slice() {
            let kind = kind.clone();
            schema.as_object_mut().and_then(|schema| schema.insert("type".into(), kind));
        }
    }
    match schema.get("anyOf").and_then(Value::as_array) {
        Some(among) => {
            among.iter().find(|one| one.get("type").is_none_or(|kind| kind != "null")).cloned().unwrap_or_default()
        }
        None => schema,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let routes: BTreeSet<String> =
            admin::route_list().iter().map(|(method, path)| format!("{method} {path}")).collect();
        let described = operations::all().into_iter().map(|it| format!("{} {}", it.method, it.path));
        assert_eq!(described.collect::<BTreeSet<_>>(), routes);
        let ids: BTreeSet<&str> = operations::all().iter().map(|it| it.id).collect();
        assert_eq!(ids.len(), operations::all().len(), "each has an id of its own");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        let references: BTreeSet<&str> =
            text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(references.len() > 30, "{references:?}");
        for reference in references {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
    }

    #[test]
    fn the_file_is_what_is_served() {
        let file = include_str!("../../schemas/openapi.json");
        assert!(
            file == text(),
            "schemas/openapi.json is out of date: cargo run -p tidegate -- man --openapi > schemas/openapi.json"
        );
    }
}

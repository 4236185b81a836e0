//! Validation of messages against the document.

use std::collections::BTreeMap;

use boon::{Compiler, Draft, SchemaIndex, Schemas};
use serde_json::{Map, Value, json};

const DOCUMENT: &str = "https://soramode.invalid/openrpc.json";

/// Errors that every method may answer.
const OF_EVERY_METHOD: [&str; 3] = ["InvalidRequest", "InvalidParams", "Internal"];

/// Schemas of an OpenRPC document, ready to validate messages.
pub struct Validator {
    schemas: Schemas,
    /// Compiled schemas by the kind and the name of the message.
    indices: BTreeMap<String, SchemaIndex>,
    /// References to the errors of each method.
    errors: BTreeMap<String, Vec<Value>>,
}

impl Validator {
    /// Compiles all schemas of a document of the daemon.
    pub fn new(mut document: Value) -> Self {
        let mut places = vec![place_of("Error"), place_of("WebhookBody")];
        let mut requests = Map::new();
        for (number, method) in array(&document["methods"]).iter().enumerate() {
            let name = text(&method["name"]);
            requests.insert(name.to_owned(), request_schema(method));
            places.push((format!("params of {name}"), format!("/x-requests/{name}")));
            let result = format!("/methods/{number}/result/schema");
            places.push((format!("result of {name}"), result));
        }
        for (number, it) in array(&document["x-notifications"]).iter().enumerate() {
            let name = format!("notification {}", text(&it["name"]));
            places.push((name, format!("/x-notifications/{number}/params")));
        }
        document["x-requests"] = requests.into();
        let errors = array(&document["methods"]).iter().map(|method| {
            let name = text(&method["name"]).to_owned();
            (name, array(&method["errors"]).to_vec())
        });
        let errors = errors.collect();
        Self::compile(document, places, errors)
    }

    fn compile(
        document: Value,
        places: Vec<(String, String)>,
        errors: BTreeMap<String, Vec<Value>>,
    ) -> Self {
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V7);
        compiler
            .add_resource(DOCUMENT, document)
            .unwrap_or_else(|error| panic!("{error}"));
        let mut schemas = Schemas::new();
        let mut compile = |(name, place): (String, String)| {
            let index = compiler
                .compile(&format!("{DOCUMENT}#{place}"), &mut schemas)
                .unwrap_or_else(|error| panic!("{place}: {error:#}"));
            (name, index)
        };
        let indices = places.into_iter().map(&mut compile).collect();
        Self {
            schemas,
            indices,
            errors,
        }
    }

    /// Validates the params of a request.
    pub fn params(&self, method: &str, params: &Value) -> Result<(), String> {
        self.validate(&format!("params of {method}"), params)
    }

    /// Validates a result.
    pub fn result(&self, method: &str, result: &Value) -> Result<(), String> {
        self.validate(&format!("result of {method}"), result)
    }

    /// Validates the params of a notification.
    pub fn notification(&self, method: &str, params: &Value) -> Result<(), String> {
        self.validate(&format!("notification {method}"), params)
    }

    /// Validates an error.
    pub fn error(&self, error: &Value) -> Result<(), String> {
        self.validate("Error", error)
    }

    /// Validates an error, and that the method may answer it.
    pub fn error_of(&self, method: &str, error: &Value) -> Result<(), String> {
        self.error(error)?;
        let error_type = text(&error["data"]["error_type"]);
        let reference = json!({"$ref": format!("#/components/errors/{error_type}")});
        let is_listed = self
            .errors
            .get(method)
            .is_some_and(|it| it.contains(&reference));
        if is_listed || OF_EVERY_METHOD.contains(&error_type) {
            Ok(())
        } else {
            Err(format!("{method} does not list {error_type}\n{error}"))
        }
    }

    /// Validates the body of a webhook.
    pub fn webhook(&self, body: &Value) -> Result<(), String> {
        self.validate("WebhookBody", body)
    }

    fn validate(&self, name: &str, value: &Value) -> Result<(), String> {
        let Some(index) = self.indices.get(name) else {
            return Err(format!("the document has no {name}"));
        };
        self.schemas
            .validate(value, *index)
            .map_err(|error| format!("{name}: {error:#}\n{value}"))
    }
}

/// Schema of all params of a method. A param that the method does not have is an error.
fn request_schema(method: &Value) -> Value {
    let params = array(&method["params"]);
    let properties: Map<String, Value> = params
        .iter()
        .map(|param| (text(&param["name"]).to_owned(), param["schema"].clone()))
        .collect();
    let required: Vec<&Value> = params
        .iter()
        .filter(|param| param["required"] == true)
        .map(|param| &param["name"])
        .collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// Returns the name of a schema, and its place.
fn place_of(schema: &str) -> (String, String) {
    (schema.to_owned(), format!("/components/schemas/{schema}"))
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

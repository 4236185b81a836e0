//! The OpenRPC document of the control socket, generated from the types and the golden lines.
//!
//! `man/openrpc.json` is its committed copy, which the daemon answers to `rpc.discover`.

#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "only tests have it, and a document that cannot be made fails them"
)]

mod handwritten;
mod layout;
mod methods;
mod normal;
mod validator;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::announce::AnnounceSession;
use crate::cluster::Fence;
use crate::end::EndSession;
use crate::error::{Error, ErrorType};
use crate::event::Event;
use crate::request::Method;
use crate::subscribe::Gap;
use crate::version::{PROTOCOL, VERSION};
use crate::wait::Progress;

pub(crate) use handwritten::{NO_NUL, request_steps};
pub use layout::to_text;
pub use validator::Validator;

/// Version of the OpenRPC specification.
const OPENRPC: &str = "1.3.2";

const DESCRIPTION: &str = "Maintenance mode for WebRTC SFUs: the control socket of soramoded. JSON-RPC 2.0 over a Unix stream socket, one \
    message per line. Params are an object, and an unknown param is an error. Results, events and errors may get further members: ignore those \
    that you do not know. A member that is absent is never null. Besides the errors of its own, each method may answer `InvalidRequest`, \
    `InvalidParams` and `Internal`; a method with the access `operate` may answer `PermissionDenied`.";

/// Generators of schemas: a type is one thing in a request, and may be another in an answer.
struct Generators {
    params: SchemaGenerator,
    results: SchemaGenerator,
}

impl Generators {
    fn new() -> Self {
        let settings = || {
            SchemaSettings::draft07().with(|settings| {
                settings.meta_schema = None;
                settings.definitions_path = "/components/schemas".into();
            })
        };
        Self {
            params: settings().for_deserialize().into_generator(),
            results: settings().for_serialize().into_generator(),
        }
    }

    /// Returns the schemas of all types that were referred to.
    fn take_schemas(&mut self) -> Map<String, Value> {
        let mut schemas = Map::new();
        for generator in [&mut self.results, &mut self.params] {
            for (name, mut schema) in generator.take_definitions(true) {
                normal::normalize(&mut schema);
                let other = schemas.insert(name.clone(), schema.clone());
                assert!(
                    other.is_none_or(|other| other == schema),
                    "{name} is one thing in requests, and another in answers"
                );
            }
        }
        schemas
    }
}

/// Brings a schema that nothing refers to into its form.
fn finish(generator: &mut SchemaGenerator, mut schema: Schema) -> Value {
    for transform in generator.transforms_mut() {
        transform.transform(&mut schema);
    }
    let mut schema = schema.to_value();
    normal::normalize(&mut schema);
    schema
}

/// Returns the document.
pub fn document() -> Value {
    let mut generators = Generators::new();
    let methods: Vec<Value> = Method::ALL
        .iter()
        .map(|method| methods::method(*method, &mut generators))
        .collect();
    let notifications = notifications(&mut generators.results);
    let webhook = handwritten::webhook(&mut generators.results);
    generators.results.subschema_for::<Error>();
    let mut schemas = generators.take_schemas();
    schemas.insert("WebhookBody".to_owned(), webhook);
    for (name, schema) in &mut schemas {
        normal::add_titles(name, schema);
    }
    json!({
        "openrpc": OPENRPC,
        "info": {
            "title": "soramoded",
            "description": DESCRIPTION,
            "version": VERSION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
            "x-protocol": PROTOCOL,
        },
        "methods": methods,
        "x-notifications": notifications,
        "components": {"schemas": schemas, "errors": errors()},
    })
}

/// Notifications of the daemon, for which OpenRPC has no place of its own.
fn notifications(generator: &mut SchemaGenerator) -> Vec<Value> {
    let notification = |method: &str, params: Value| {
        let example = golden("notifications")
            .into_iter()
            .find(|line| line.get("method") == Some(&method.into()));
        let example = example.unwrap_or_else(|| panic!("{method} has no golden line"));
        json!({"name": method, "params": params, "examples": [example["params"]]})
    };
    let reference = Schema::to_value;
    vec![
        notification("Event", reference(generator.subschema_for::<Event>())),
        notification("Gap", reference(generator.subschema_for::<Gap>())),
        notification("Progress", reference(generator.subschema_for::<Progress>())),
        notification("End", reference(generator.subschema_for::<EndSession>())),
        notification("Fence", reference(generator.subschema_for::<Fence>())),
        notification(
            "Announce",
            reference(generator.subschema_for::<AnnounceSession>()),
        ),
    ]
}

/// Errors by their types.
fn errors() -> Map<String, Value> {
    let mut schema = ErrorType::json_schema(&mut Generators::new().results).to_value();
    normal::join_descriptions(&mut schema);
    let described = |error_type: ErrorType| {
        let name = format!("{error_type:?}");
        let variants = schema["oneOf"].as_array().into_iter().flatten();
        let mut of_type = variants.filter(|variant| variant["const"] == name.as_str());
        of_type.next().map(|variant| variant["description"].clone())
    };
    ErrorType::ALL
        .into_iter()
        .map(|error_type| {
            let name = format!("{error_type:?}");
            let error = json!({
                "code": error_type.code(),
                "message": described(error_type),
                "data": {"error_type": name},
            });
            (name, error)
        })
        .collect()
}

/// Returns the golden lines of a file.
fn golden(file: &str) -> Vec<Value> {
    let path = format!("{}/tests/wire/v1/{file}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let lines = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let read = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{path}: {error}"));
    lines.lines().map(read).collect()
}

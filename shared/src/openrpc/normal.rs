//! One form for the schemas that are derived: descriptions without links to the code, no `null` for
//! what is absent, enums as lists.

use serde_json::{Map, Value, json};

use crate::{announce, cluster, id, mode, plan, request, reservation, session, subscribe, wait};

/// Brings a schema into its form.
pub(super) fn normalize(schema: &mut Value) {
    join_descriptions(schema);
    visit(schema, &mut |schema| {
        remove_null(schema);
        remove_number_format(schema);
        list_constants(schema);
        unwrap_reference(schema);
    });
}

/// Replaces a wrapped reference by the reference, with its description beside it: readers of draft 7
/// ignore that, and generators of code show it.
fn unwrap_reference(schema: &mut Map<String, Value>) {
    let is_bare = schema.keys().all(|it| it == "allOf" || it == "description");
    let parts = schema.get("allOf").and_then(Value::as_array);
    let reference = parts.and_then(|parts| match parts.as_slice() {
        [one] => one.get("$ref").cloned(),
        _ => None,
    });
    if let (true, Some(reference)) = (is_bare, reference) {
        schema.remove("allOf");
        schema.insert("$ref".to_owned(), reference);
    }
}

/// Adds the titles by which generators of code name the types: that of the schema, and those of its
/// variants.
pub(super) fn add_titles(name: &str, schema: &mut Value) {
    schema["title"] = name.into();
    let variants = schema.get_mut("oneOf").and_then(Value::as_array_mut);
    for variant in variants.into_iter().flatten() {
        let properties = &variant["properties"];
        let tag = ["type", "do"]
            .iter()
            .find_map(|tag| properties[tag]["const"].as_str());
        if let Some(title) = tag.map(|tag| format!("{name}{}", pascal_case(tag))) {
            variant["title"] = title.into();
        }
    }
}

fn pascal_case(words: &str) -> String {
    let capitalized = words.split(['.', '_']).map(|word| {
        let (first, rest) = word.split_at_checked(1).unwrap_or_default();
        first.to_uppercase() + rest
    });
    capitalized.collect()
}

/// Brings each description on one line, and replaces links to constants by their values.
pub(super) fn join_descriptions(schema: &mut Value) {
    visit(schema, &mut |schema| {
        if let Some(Value::String(description)) = schema.get_mut("description") {
            let paragraphs = description.split("\n\n").map(|it| it.replace('\n', " "));
            let joined: Vec<String> = paragraphs.collect();
            *description = without_links(&joined.join(" "));
        }
    });
}

/// Calls the function for each object in the value, the inner ones first. Members that are called
/// as a keyword are visited as well: no field of the protocol has the name and the type of one.
fn visit(value: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(|it| visit(it, change));
            change(members);
        }
        Value::Array(items) => items.iter_mut().for_each(|it| visit(it, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn remove_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|it| it != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            schema.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(parts)) = schema.get_mut("anyOf") {
        parts.retain(|it| *it != json!({"type": "null"}));
        if let [one] = parts.as_slice() {
            let one = one.clone();
            schema.remove("anyOf");
            match one {
                Value::Object(one) if schema.is_empty() || !one.contains_key("$ref") => {
                    for (name, value) in one {
                        schema.entry(name).or_insert(value);
                    }
                }
                reference => {
                    schema.insert("allOf".to_owned(), json!([reference]));
                }
            }
        }
    }
    if schema.get("default") == Some(&Value::Null) {
        schema.remove("default");
    }
}

/// Removes the names of Rust's types of numbers, which other validators do not know.
fn remove_number_format(schema: &mut Map<String, Value>) {
    if schema.get("format").is_some_and(|it| it != "date-time") {
        schema.remove("format");
    }
}

/// Turns alternatives that are each one text into a list of texts, with their descriptions.
fn list_constants(schema: &mut Map<String, Value>) {
    let Some(Value::Array(alternatives)) = schema.get("oneOf") else {
        return;
    };
    let names: Option<Vec<Value>> = alternatives
        .iter()
        .map(|it| it.get("const").filter(|it| it.is_string()).cloned())
        .collect();
    let Some(names) = names else { return };
    let described = alternatives.iter().map(|alternative| {
        let text = |name| alternative.get(name).and_then(Value::as_str);
        let name = text("const").unwrap_or_default();
        format!("\n- `{name}`: {}", text("description").unwrap_or_default())
    });
    let described: String = described.collect();
    let about = schema.get("description").and_then(Value::as_str);
    let description = format!("{}{described}", about.unwrap_or_default());
    schema.remove("oneOf");
    schema.insert("type".to_owned(), "string".into());
    schema.insert("enum".to_owned(), names.into());
    schema.insert("description".to_owned(), description.trim().into());
}

/// Replaces each link to a constant by its value.
fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once("[`") {
        let (name, after) = link.split_once("`]").unwrap_or((link, ""));
        let target = after.strip_prefix('(').and_then(|it| it.split_once(')'));
        plain.push_str(before);
        plain.push_str(&constant(name));
        rest = target.map_or(after, |(_, after)| after);
    }
    plain + rest
}

fn constant(name: &str) -> String {
    match name {
        "ANNOUNCE_PROBLEMS_MAX" => announce::ANNOUNCE_PROBLEMS_MAX.to_string(),
        "END_PER_MINUTE_DEFAULT" => plan::END_PER_MINUTE_DEFAULT.to_string(),
        "EVENT_PATTERNS_MAX" => subscribe::EVENT_PATTERNS_MAX.to_string(),
        "EXPIRES_IN_SECONDS_MAX" => mode::EXPIRES_IN_SECONDS_MAX.to_string(),
        "ID_BYTES_MAX" => id::ID_BYTES_MAX.to_string(),
        "LIST_LIMIT_DEFAULT" => session::LIST_LIMIT_DEFAULT.to_string(),
        "LIST_LIMIT_MAX" => session::LIST_LIMIT_MAX.to_string(),
        "MAX_DELAY_SECONDS_DEFAULT" => plan::MAX_DELAY_SECONDS_DEFAULT.to_string(),
        "NOTICE_DATA_BYTES_MAX" => announce::NOTICE_DATA_BYTES_MAX.to_string(),
        "NOTICE_TEXT_BYTES_MAX" => announce::NOTICE_TEXT_BYTES_MAX.to_string(),
        "OLDEST_SESSIONS_MAX" => wait::OLDEST_SESSIONS_MAX.to_string(),
        "ON_BEHALF_OF_BYTES_MAX" => mode::ON_BEHALF_OF_BYTES_MAX.to_string(),
        "PLAN_STEPS_MAX" => plan::PLAN_STEPS_MAX.to_string(),
        "REASON_BYTES_MAX" => mode::REASON_BYTES_MAX.to_string(),
        "REQUEST_ID_BYTES_MAX" => request::REQUEST_ID_BYTES_MAX.to_string(),
        "RESERVE_SECONDS_MAX" => reservation::RESERVE_SECONDS_MAX.to_string(),
        "RESERVE_SECONDS_MIN" => reservation::RESERVE_SECONDS_MIN.to_string(),
        "ROLL_BYTES_MAX" => reservation::ROLL_BYTES_MAX.to_string(),
        "RISK_OF_END" => format!("`{}`", plan::RISK_OF_END),
        "RISK_OF_INIT" => format!("`{}`", cluster::RISK_OF_INIT),
        "RISK_OF_PURGE" => format!("`{}`", cluster::RISK_OF_PURGE),
        _ => format!("`{name}`"),
    }
}

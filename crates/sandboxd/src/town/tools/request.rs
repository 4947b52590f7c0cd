//! From what a model gives a tool to the call that it means.

use super::Work;
use super::table::Input;
use super::table::Kind;
use super::table::Tool;
use super::table::Verb;
use crate::town::home::Place;
use protocol::id::BeadId;
use protocol::id::TownId;
use reqwest::Method;
use serde_json::Map;
use serde_json::Value;

/// One call of the town's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    /// Below `/api/`.
    pub path: String,
    /// Of a `GET`.
    pub query: Vec<(&'static str, String)>,
    /// Of every other.
    pub body: Option<Value>,
}

/// The call that `tool` makes for the agent at `place` and its `work`; or, for the model, what is wrong with `arguments`.
pub fn request(
    tool: &Tool,
    town: &TownId,
    place: &Place,
    work: &Work,
    arguments: &Map<String, Value>,
) -> Result<Request, String> {
    if let Some(unknown) = arguments.keys().find(|name| tool.inputs.iter().all(|input| input.name != name.as_str())) {
        let known: Vec<&str> = tool.inputs.iter().map(|input| input.name).collect();
        return Err(format!("{unknown} is no input of this tool; its inputs are: {}", known.join(", ")));
    }
    let mut path = tool.path.replace("{town}", town.as_str());
    path = path.replace("{rig}", place.rig.as_str()).replace("{agent}", place.agent.as_str());
    let (mut query, mut fields) = (Vec::new(), Map::new());
    for input in tool.inputs {
        let value = match arguments.get(input.name) {
            None | Some(Value::Null) if input.required => return Err(format!("{} is missing", input.name)),
            None | Some(Value::Null) => continue,
            Some(value) => value,
        };
        let braces = format!("{{{}}}", input.name);
        if path.contains(&braces) {
            path = path.replace(&braces, id(input, value)?.as_str());
            continue;
        }
        let value = read(input, value)?;
        if tool.verb == Verb::Get {
            query.push((input.field, value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
        } else {
            fields.insert(input.field.to_owned(), value);
        }
    }
    if let Some(signature) = tool.signature {
        fields.insert(signature.to_owned(), place.agent.as_str().into());
    }
    if let (Some(field), Some(bead)) = (tool.of_bead, &work.bead) {
        fields.insert(field.to_owned(), bead.as_str().into());
    }
    let body = (tool.verb != Verb::Get).then_some(Value::Object(fields));
    Ok(Request { method: tool.verb.into(), path, query, body })
}

/// An input that becomes a part of the path. All ids of a town have the same form, which no part of a path climbs with.
fn id(input: &Input, value: &Value) -> Result<BeadId, String> {
    let text = value.as_str().unwrap_or_default();
    BeadId::parse(text).map_err(|_| format!("{} must be an id: letters, digits, '-', '_' or '.'", input.name))
}

fn read(input: &Input, value: &Value) -> Result<Value, String> {
    let wrong = |what: &str| Err(format!("{} must be {what}", input.name));
    let fits = match input.kind {
        Kind::Flag => (value.is_boolean(), "true or false"),
        Kind::Json => return written(input, value),
        Kind::Object => (value.is_object(), "an object"),
        Kind::OneOf(words) if value.as_str().is_some_and(|word| words.contains(&word)) => (true, ""),
        Kind::OneOf(words) => return wrong(&format!("one of {}", words.join(", "))),
        Kind::Tasks => (is_list_of(value, Value::is_object), "a list of tasks"),
        Kind::Branch | Kind::Text => (value.is_string(), "a string"),
        Kind::Texts => (is_list_of(value, Value::is_string), "a list of strings"),
        Kind::Whole => (value.is_u64(), "a whole number"),
    };
    match fits {
        (true, _) => Ok(value.clone()),
        (false, what) => wrong(what),
    }
}

/// JSON in a string. A model that gives the JSON itself means the same.
fn written(input: &Input, value: &Value) -> Result<Value, String> {
    match value.as_str() {
        None => Ok(value.clone()),
        Some(text) => serde_json::from_str(text).map_err(|error| format!("{} is not JSON: {error}", input.name)),
    }
}

fn is_list_of(value: &Value, is_one: impl Fn(&Value) -> bool) -> bool {
    value.as_array().is_some_and(|list| list.iter().all(is_one))
}

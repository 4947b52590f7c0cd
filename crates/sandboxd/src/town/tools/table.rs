//! What a tool is: data, from which its schema and its calls are made.

use reqwest::Method;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// One tool: one call of the town's API.
#[derive(Debug)]
pub struct Tool {
    /// Without the name of the server, which the agent server puts before it: `done` is the agent's `gt_done`.
    pub name: &'static str,
    /// For the model.
    pub about: &'static str,
    /// Of the call.
    pub verb: Verb,
    /// Below `/api/`. `{town}`, `{rig}` and `{agent}` are the caller's; any other name in braces is that input.
    pub path: &'static str,
    /// What is not in the path goes into the body, or into the query of a `GET`.
    pub inputs: &'static [Input],
    /// The field of the body that names the caller.
    pub signature: Option<&'static str>,
    /// The field of the body that names the bead that the caller was started for.
    pub of_bead: Option<&'static str>,
    /// What a 404 means, if that is an answer and no error.
    pub absent: Option<&'static str>,
}

/// The method of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Patch,
    Post,
}

impl From<Verb> for Method {
    fn from(verb: Verb) -> Self {
        match verb {
            Verb::Get => Method::GET,
            Verb::Patch => Method::PATCH,
            Verb::Post => Method::POST,
        }
    }
}

/// One input of a tool.
#[derive(Debug)]
pub struct Input {
    /// As the model calls it.
    pub name: &'static str,
    /// As the town calls it.
    pub field: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// Whether it must be given.
    pub required: bool,
    /// For the model.
    pub about: &'static str,
}

/// What an input may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A branch; left out, the one that the caller was given.
    Branch,
    /// True or false.
    Flag,
    /// Any JSON, written into a string.
    Json,
    /// Any JSON object.
    Object,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// The tasks of a convoy.
    Tasks,
    /// Text.
    Text,
    /// A list of texts.
    Texts,
    /// A number without fraction, not negative.
    Whole,
}

impl Input {
    /// One that must be given.
    pub const fn new(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self { name, field: name, kind, required: true, about }
    }

    /// The same, which may be left out.
    pub const fn optional(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self { name, field: name, kind, required: false, about }
    }

    /// The same, under another name for the town.
    pub const fn sent_as(self, field: &'static str) -> Self {
        Self { field, ..self }
    }
}

impl Tool {
    /// One that reads.
    pub const fn get(path: &'static str) -> Self {
        Self::new(Verb::Get, path)
    }

    /// One that changes what is there.
    pub const fn patch(path: &'static str) -> Self {
        Self::new(Verb::Patch, path)
    }

    /// One that does something.
    pub const fn post(path: &'static str) -> Self {
        Self::new(Verb::Post, path)
    }

    const fn new(verb: Verb, path: &'static str) -> Self {
        Self { name: "", about: "", verb, path, inputs: &[], signature: None, of_bead: None, absent: None }
    }

    /// As `tools/list` tells it.
    pub fn listed(&self) -> Value {
        let properties: Map<String, Value> =
            self.inputs.iter().map(|input| (input.name.to_owned(), schema(input))).collect();
        let required: Vec<&str> = self.inputs.iter().filter(|input| input.required).map(|input| input.name).collect();
        json!({
            "name": self.name,
            "description": self.about,
            "inputSchema": {
                "type": "object", "properties": properties, "required": required, "additionalProperties": false
            },
        })
    }
}

fn schema(input: &Input) -> Value {
    let mut schema = match input.kind {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Branch | Kind::Json | Kind::Text => json!({ "type": "string" }),
        Kind::Object => json!({ "type": "object" }),
        Kind::OneOf(words) => json!({ "type": "string", "enum": words }),
        Kind::Tasks => json!({ "type": "array", "minItems": 1, "items": {
            "type": "object",
            "properties": {
                "title": { "type": "string", "description": "What is to be done, in one line" },
                "body": { "type": "string", "description": "Everything that the agent must know for it" },
                "depends_on": {
                    "type": "array",
                    "items": { "type": "integer", "minimum": 0 },
                    "description": "Positions in this list, from 0, of the tasks that must be finished before",
                },
            },
            "required": ["title"],
        } }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Whole => json!({ "type": "integer", "minimum": 0 }),
    };
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("description".to_owned(), input.about.into());
    }
    schema
}

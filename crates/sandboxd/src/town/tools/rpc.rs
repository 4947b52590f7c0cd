//! The protocol between an agent server and its tools: JSON-RPC as the Model Context Protocol uses it (the revisions of
//! [`REVISIONS`], which differ in nothing that is used here).

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// The revisions that are spoken, the newest first.
const REVISIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;

/// What an agent server sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// It wants no answer.
    Notification,
    /// It wants one.
    Request { id: Value, ask: Ask },
    /// It cannot be understood; this is the answer.
    Wrong(Value),
}

/// What it wants to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Who this is, in this revision of the protocol.
    Initialize { revision: &'static str },
    /// Whether anybody is there.
    Ping,
    /// Which tools there are.
    List,
    /// What a tool does.
    Call { name: String, arguments: Map<String, Value> },
}

/// Reads one message.
pub fn read(body: &[u8]) -> Message {
    let Ok(message) = serde_json::from_slice::<Value>(body) else {
        return Message::Wrong(error(&Value::Null, PARSE_ERROR, "not JSON"));
    };
    let Some(method) = message.get("method").and_then(Value::as_str) else {
        return Message::Wrong(error(&Value::Null, INVALID_REQUEST, "one message with a method is expected"));
    };
    let Some(id) = message.get("id").filter(|id| id.is_string() || id.is_number()) else {
        return Message::Notification;
    };
    let none = Value::Null;
    let parameters = message.get("params").unwrap_or(&none);
    let ask = match method {
        "initialize" => Ask::Initialize { revision: revision(parameters) },
        "ping" => Ask::Ping,
        "tools/list" => Ask::List,
        "tools/call" => {
            let Some(name) = parameters.get("name").and_then(Value::as_str) else {
                return Message::Wrong(error(id, INVALID_PARAMS, "params.name must be the name of a tool"));
            };
            let arguments = parameters.get("arguments").and_then(Value::as_object).cloned();
            Ask::Call { name: name.to_owned(), arguments: arguments.unwrap_or_default() }
        }
        _ => return Message::Wrong(error(id, METHOD_NOT_FOUND, &format!("there is no method {method}"))),
    };
    Message::Request { id: id.clone(), ask }
}

/// The answer to [`Ask::Initialize`].
pub fn introduction(revision: &str) -> Value {
    json!({
        "protocolVersion": revision,
        "capabilities": { "tools": {} },
        "serverInfo": { "name": "sandboxd", "version": env!("CARGO_PKG_VERSION") },
    })
}

/// An answer.
pub fn result(id: &Value, result: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

/// An answer that a tool does not exist.
pub fn unknown_tool(id: &Value, name: &str) -> Value {
    error(id, INVALID_PARAMS, &format!("there is no tool {name}"))
}

/// The one that was asked for if it is spoken here, else the newest.
fn revision(parameters: &Value) -> &'static str {
    let asked = parameters.get("protocolVersion").and_then(Value::as_str);
    let [newest, ..] = REVISIONS;
    REVISIONS.into_iter().find(|known| Some(*known) == asked).unwrap_or(newest)
}

fn error(id: &Value, code: i64, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(message: Value) -> Message {
        read(message.to_string().as_bytes())
    }

    fn code(message: Message) -> i64 {
        let Message::Wrong(answer) = message else { panic!("{message:?}") };
        answer["error"]["code"].as_i64().unwrap()
    }

    #[test]
    fn what_an_agent_server_asks_is_understood() {
        let request = |ask| Message::Request { id: json!(1), ask };
        let hello = json!({ "id": 1, "method": "initialize", "params": { "protocolVersion": "2025-03-26" } });
        assert_eq!(asked(hello), request(Ask::Initialize { revision: "2025-03-26" }));
        let later = json!({ "id": 1, "method": "initialize", "params": { "protocolVersion": "2031-01-01" } });
        assert_eq!(asked(later), request(Ask::Initialize { revision: "2025-11-25" }));
        assert_eq!(asked(json!({ "id": 1, "method": "ping" })), request(Ask::Ping));
        assert_eq!(asked(json!({ "id": 1, "method": "tools/list" })), request(Ask::List));
        let call = json!({ "id": 1, "method": "tools/call", "params": { "name": "prime" } });
        assert_eq!(asked(call), request(Ask::Call { name: "prime".into(), arguments: Map::new() }));
        assert_eq!(asked(json!({ "method": "notifications/initialized" })), Message::Notification);
    }

    #[test]
    fn what_is_not_understood_is_told() {
        assert_eq!(code(read(b"{")), PARSE_ERROR);
        for wrong in [json!([]), json!({ "id": 1 }), json!({ "id": 1, "method": 7 }), json!(null)] {
            assert_eq!(code(asked(wrong)), INVALID_REQUEST);
        }
        assert_eq!(code(asked(json!({ "id": 1, "method": "resources/list" }))), METHOD_NOT_FOUND);
        assert_eq!(code(asked(json!({ "id": 1, "method": "tools/call" }))), INVALID_PARAMS);
    }
}

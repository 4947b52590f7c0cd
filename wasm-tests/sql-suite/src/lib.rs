//! The shared SQL suite inside workerd: each case in an object of its own.
//!
//! It takes the adapter by path and not from `holdfast`: a Worker has one `fetch`, and that crate exports its own.

#[path = "../../../src/sql.rs"]
mod sql;

use database::suite;
use serde_json::json;
use sql::WorkerdDatabase;
use worker::Context;
use worker::DurableObject;
use worker::Env;
use worker::Request;
use worker::Response;
use worker::Result;
use worker::State;
use worker::durable_object;
use worker::event;

/// One database.
#[durable_object(fetch)]
pub struct SqlSuite {
    database: WorkerdDatabase,
}

impl DurableObject for SqlSuite {
    fn new(state: State, _env: Env) -> Self {
        Self { database: WorkerdDatabase::new(&state.storage()) }
    }

    /// `/leave`, `/find`, or `/{case}`: the index of a case. Answers what was found wrong, or null, and what it cost.
    async fn fetch(&self, request: Request) -> Result<Response> {
        let result = match request.path().as_str() {
            "/leave" => suite::leave(&self.database),
            "/find" => suite::find(&self.database),
            path => {
                let index: Option<usize> = path.trim_start_matches('/').parse().ok();
                let case = index.and_then(|index| suite::CASES.get(index));
                case.map_or_else(|| Err(format!("no case {path}")), |case| case.run(&self.database))
            }
        };
        let rows = self.database.rows();
        Response::from_json(&json!({ "failure": result.err(), "rowsRead": rows.read, "rowsWritten": rows.written }))
    }
}

/// `/` names the cases; `/{object}/{path}` is passed on to that object.
#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> Result<Response> {
    let path = request.path();
    match path.trim_start_matches('/').split_once('/') {
        None => Response::from_json(&suite::CASES.iter().map(|case| case.name).collect::<Vec<_>>()),
        Some((object, rest)) => {
            let stub = env.durable_object("SQL_SUITE")?.get_by_name(object)?;
            stub.fetch_with_str(&format!("http://object/{rest}")).await
        }
    }
}

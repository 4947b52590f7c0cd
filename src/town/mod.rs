//! Towns: the `/api` family of routes, and `TownDO`, the shell around `town-core`.
//!
//! | Module | What it owns |
//! | --- | --- |
//! | [`route`], [`table`] | the family's part of the HTTP surface |
//! | `guard`, `token`, `caller` | who asks (spec/town.md 2.1): never skipped, also in development |
//! | `error` | every refusal, with its status and its text |
//! | `routes` | the Worker's side: the guard, then whoever answers |
//! | `edge`, `proxy`, `users` | what the Worker answers itself, from the container, and with a user's object |
//! | `ledger` | the object's side: from a request to a call, from an answer to a response |
//! | `object` | `TownDO` |
//! | `effects` | what a town owes, performed |
//! | `status` | the status stream |
//! | `notice` | its log lines |

pub mod caller;
mod edge;
mod effects;
mod error;
mod guard;
mod ledger;
mod notice;
mod object;
mod op;
mod proxy;
pub mod route;
mod routes;
mod status;
pub mod table;
mod token;
mod users;

pub use error::TownError;
pub use ledger::Body;
pub use ledger::fail;
pub use object::ENDED;
pub use routes::refuse;
pub use routes::serve;
pub use token::container as container_token;

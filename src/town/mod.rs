//! Towns: the `/api` family of routes, and `TownDO`, the shell around `town-core`.
//!
//! | Module | What it owns |
//! | --- | --- |
//! | [`route`] | the family's part of the HTTP surface |
//! | `guard` | container and agent tokens (spec/town.md 2.1): never skipped, also in development |
//! | `error` | every refusal, with its status and its text |
//! | `routes` | guard, body, one call to the object, answer |
//! | `object` | `TownDO` |

mod error;
mod guard;
mod object;
pub mod route;
mod routes;

pub use routes::refuse;
pub use routes::serve;

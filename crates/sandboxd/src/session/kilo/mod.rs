//! The agent server: the real Kilo CLI, one `kilo serve` per session (spec/kilo.md).
//!
//! | Module | Subject |
//! | --- | --- |
//! | [`client`] | calls to a running server |
//! | [`environment`] | what the agent, and what it starts, may know |
//! | [`import`] | the session under the id that was promised |
//! | [`server`] | start, watch, stop |

pub mod client;
pub mod environment;
pub mod import;
pub mod server;

//! What a session's log holds of an agent's stream: reads the `data:` texts of its events, one per line, and prints the stored ones, one per line, as
//! `{"key": KEY or null, "data": …}`. The same function as in a container, for tests that compare.

use protocol::event::EventClass;
use sandbox_core::limits::Limits;
use sandbox_core::normalise::normalise_all;
use std::io;
use std::io::Write;

fn main() -> io::Result<()> {
    let text = io::read_to_string(io::stdin())?;
    let mut out = io::stdout().lock();
    for event in normalise_all(&Limits::default(), text.lines()) {
        let key = match event.class() {
            EventClass::Log => None,
            EventClass::Entity(key) => Some(key),
            EventClass::Volatile => continue,
        };
        writeln!(out, r#"{{"key":{},"data":{}}}"#, serde_json::to_string(&key)?, event.data())?;
    }
    Ok(())
}

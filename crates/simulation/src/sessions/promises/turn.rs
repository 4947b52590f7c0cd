//! What holds after every turn of a session object.

use super::Execution;
use super::Shadow;
use super::is_terminal;
use crate::durable::Fate;
use crate::durable::Storage;
use crate::sessions::world::World;
use database::Database;
use database::Row;
use object_core::time::MINUTE;
use session_core::limits::Limits;
use session_core::message::CallbackPost;
use session_core::message::Effect;
use session_core::message::Output;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::rc::Rc;

/// How much later than its deadline an execution may end: alarms ring two minutes late, fail, and ring again half a minute after that.
const LATE_MS_MAX: i64 = 10 * MINUTE;

/// The rows that matter.
pub struct Seen {
    /// As of this number of writes.
    changes: i64,
    session: bool,
    prepared: bool,
    initiated: bool,
    active: Option<String>,
    executions: Rc<BTreeMap<String, Execution>>,
    owed: BTreeSet<String>,
    /// Of these, what was given up.
    given_up: BTreeSet<String>,
    working: bool,
    tombstone: bool,
}

fn rows(storage: &Storage, sql: &str) -> Vec<Row> {
    storage.db.query(sql, &[]).expect("the tables are there")
}

/// How often anything was written.
fn changes(storage: &Storage) -> i64 {
    rows(storage, "SELECT total_changes()")[0].get(0).expect("a number")
}

fn look(storage: &Storage, changes: i64) -> Option<Seen> {
    let tables = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'session'";
    if rows(storage, tables).is_empty() {
        return None;
    }
    let known = rows(
        storage,
        "SELECT session.one IS NOT NULL, prepared_at IS NOT NULL, initiated_at IS NOT NULL, active,
            EXISTS (SELECT 1 FROM work WHERE ended = 0), EXISTS (SELECT 1 FROM tombstone)
            FROM (SELECT 1) LEFT JOIN session",
    );
    let known = known.first()?;
    let is = |column: usize| known.get::<bool>(column).expect("a truth value");
    let executions = rows(
        storage,
        "SELECT id, status, accepted_at, started_at, number, generation, disconnected_at, heartbeat_at, event_at, waiting <> '[]',
            EXISTS (SELECT 1 FROM entity WHERE key = 'message/' || message AND entity.execution = execution.id) FROM execution",
    );
    let executions = executions
        .iter()
        .map(|row| {
            let execution = Execution {
                status: row.get(1).expect("a status"),
                accepted_at: row.get(2).expect("a time"),
                started_at: row.get(3).expect("a time"),
                number: row.get(4).expect("a number"),
                generation: row.get(5).expect("a number"),
                disconnected_at: row.get(6).expect("a time"),
                heartbeat_at: row.get(7).expect("a time"),
                event_at: row.get(8).expect("a time"),
                waits: row.get(9).expect("a truth value"),
                said: row.get(10).expect("a truth value"),
            };
            (row.get(0).expect("an id"), execution)
        })
        .collect();
    let owed = rows(storage, "SELECT key, dead IS NOT NULL FROM owed");
    let keys = |of: &mut dyn Iterator<Item = &Row>| of.map(|row| row.get(0).expect("a key")).collect();
    Some(Seen {
        changes,
        session: is(0),
        prepared: is(1),
        initiated: is(2),
        active: known.get(3).expect("an id or nothing"),
        executions: Rc::new(executions),
        owed: keys(&mut owed.iter()),
        given_up: keys(&mut owed.iter().filter(|row| row.get(1).expect("a truth value"))),
        working: is(4),
        tombstone: is(5),
    })
}

impl Seen {
    /// Where the session is, for the coverage table.
    fn state(&self) -> &'static str {
        let active = self.active.as_ref().and_then(|id| self.executions.get(id));
        match active {
            _ if !self.session && self.tombstone => "tombstone",
            _ if !self.session => "gone",
            Some(execution) if execution.status == "pending" && execution.accepted_at.is_some() => "pending, accepted",
            Some(execution) if execution.status == "pending" => "pending",
            Some(execution) if execution.disconnected_at.is_some() => "disconnected",
            Some(execution) if execution.accepted_at.is_some() => "running",
            Some(_) => "running, not accepted",
            None if self.working => "preparing",
            None if !self.prepared => "registered",
            None if !self.initiated => "prepared",
            None => "at rest",
        }
    }
}

impl World<'_> {
    /// Looks at what a turn left, and at what it wants to send.
    pub fn observe(&mut self, s: usize, input: &'static str, now: i64, fate: Fate, outputs: &[Output]) {
        let object = &mut self.objects[s];
        let changes = changes(&object.storage);
        let last = object.shadow.seen.take().filter(|last| last.changes == changes);
        let Some(seen) = last.or_else(|| look(&object.storage, changes)) else { return };
        // The execution whose wrapper connects in this turn.
        let accepting = outputs.iter().find_map(|output| match output {
            Output::AcceptIngest { execution, .. } => Some(execution.as_str()),
            _ => None,
        });
        let connected = self.open_executions(s);
        // An alarm goes on without it, if it could not be taken.
        let woken = input == "woke" || self.memory(s).woken;
        let limits = &self.config.limits;
        let object = &mut self.objects[s];
        let shadow = &mut object.shadow;
        let was = shadow.state;
        shadow.state = seen.state();
        if !seen.session && was != "none" {
            shadow.ended = true;
        }
        let mut broken: Vec<(&'static str, String)> = Vec::new();
        check_executions(shadow, &seen, limits, now, &mut broken);
        if woken {
            check_grace(&seen, &connected, accepting, &mut broken);
        }
        check_callbacks(shadow, &seen, &object.storage, &mut broken);
        check_outputs(shadow, &seen, fate, outputs, &mut broken);
        if input == "snapshot-access" {
            check_right(shadow, &object.storage, outputs, &mut broken);
        }
        if seen.initiated && seen.active.is_none() && !seen.executions.values().any(Execution::began) {
            broken.push(("no session is initiated whose prompt never ran", "no execution was accepted".to_owned()));
        }
        shadow.executions = Rc::clone(&seen.executions);
        shadow.seen = Some(seen);
        let state = shadow.state;
        self.new_events(s);
        if was != state {
            self.run.note(|| format!("  object {s} is now {state}"));
        }
        for (promise, what) in broken {
            self.run.broken(promise, || format!("object {s} after {input}: {what}"));
        }
    }
}

fn check_executions(shadow: &Shadow, seen: &Seen, limits: &Limits, now: i64, broken: &mut Vec<(&'static str, String)>) {
    const P3: &str = "P3 every state ends within its bound";
    let live: Vec<&String> =
        seen.executions.iter().filter(|(_, known)| !is_terminal(&known.status)).map(|(id, _)| id).collect();
    if live.len() > 1 {
        broken.push(("at most one active execution", format!("{live:?}")));
    }
    if seen.session && live.first().copied() != seen.active.as_ref() {
        broken.push(("the marker names the active execution", format!("{:?}, marker {:?}", live, seen.active)));
    }
    for (id, known) in seen.executions.iter() {
        let last = shadow.executions.get(id);
        let before = last.map(|last| last.status.as_str());
        let allowed = match before {
            None => known.status == "pending",
            Some(before) if before == known.status => true,
            Some("pending") => matches!(known.status.as_str(), "running" | "failed"),
            Some("running") => is_terminal(&known.status),
            Some(_) => false,
        };
        // One turn may connect a wrapper and end the execution.
        if !allowed {
            broken.push((
                "an execution only goes forward, and ends once",
                format!("{id}: {before:?} → {}", known.status),
            ));
        }
        if let Some(last) = last.filter(|last| last.is_over() && last.generation != known.generation) {
            broken.push((
                "after its end an execution is entered only by who ran it",
                format!("{id}: generation {}, {} ran it", known.generation, last.generation),
            ));
        }
        if let Some((by, why)) = known.ends_by(limits).filter(|(by, _)| seen.session && by + LATE_MS_MAX < now) {
            let late = now - by;
            broken.push((P3, format!("{id} is {}, {why}: {late} ms over its time", known.status)));
        }
    }
}

/// A running execution without a socket is in its grace. One that was just accepted has its socket when the outputs are performed.
fn check_grace(seen: &Seen, connected: &[String], accepting: Option<&str>, broken: &mut Vec<(&'static str, String)>) {
    for (id, known) in seen.executions.iter() {
        if known.status == "running"
            && known.disconnected_at.is_none()
            && !connected.contains(id)
            && accepting != Some(id.as_str())
        {
            broken.push(("a running execution without a socket is in its grace", id.clone()));
        }
    }
}

/// P7: each end owes exactly one callback, in the turn that ends it, and it stays as it is.
fn check_callbacks(shadow: &mut Shadow, seen: &Seen, storage: &Storage, broken: &mut Vec<(&'static str, String)>) {
    const P7: &str = "P7 each finished execution owes exactly one callback";
    for (id, known) in seen.executions.iter() {
        let before = shadow.executions.get(id).map(|known| known.status.as_str());
        let ends_now = is_terminal(&known.status) && before.is_some_and(|before| !is_terminal(before));
        if !ends_now {
            continue;
        }
        let never_began = !known.began();
        let expected = shadow.callbacks && seen.session && !(never_began && known.number > 1);
        let owed = seen.owed.contains(&format!("callback/{id}"));
        if expected != owed {
            broken.push((P7, format!("{id} is {}, owed: {owed}, expected: {expected}", known.status)));
        }
    }
    // What is shown of them is forgotten in time.
    shadow.callbacks_given_up.extend(seen.given_up.iter().cloned());
    for key in seen.owed.iter().filter(|key| key.starts_with("callback/")) {
        let id = key.trim_start_matches("callback/").to_owned();
        if shadow.callbacks_owed.contains_key(&id) && shadow.executions.contains_key(&id) {
            continue;
        }
        let sql = "SELECT effect FROM owed WHERE key = ?";
        let found = storage.db.query(sql, &[key.as_str().into()]).expect("it is there");
        let effect: String = found[0].get(0).expect("a text");
        let Ok(Effect::Callback(post)) = serde_json::from_str(&effect) else { continue };
        let status = seen.executions.get(&id).map(|known| known.status.clone()).unwrap_or_default();
        if seen.session && !post.body.contains(&format!("\"status\":\"{status}\"")) {
            broken.push((P7, format!("{id} is {status}, and its callback says {}", post.body)));
        }
        if let Some(before) = shadow.callbacks_owed.insert(id.clone(), post.body.clone())
            && before != post.body
        {
            broken.push((P7, format!("{id} owes two: {before} and {}", post.body)));
        }
    }
}

/// An attempt has no right to the snapshot any more once a newer one was heard of.
fn check_right(shadow: &Shadow, storage: &Storage, outputs: &[Output], broken: &mut Vec<(&'static str, String)>) {
    let allowed = outputs.iter().any(|output| matches!(output, Output::Reply { result: Ok(_), .. }));
    let Some(attempt) = shadow.asking.as_ref().and_then(|token| shadow.attempts.get(token)) else { return };
    let heard: i64 =
        rows(storage, "SELECT COALESCE(MAX(attempt), 0) FROM work WHERE n > 0")[0].get(0).expect("a number");
    if allowed && *attempt < heard.unsigned_abs() {
        broken.push((
            "a conversation is not replaced by an older container's",
            format!("attempt {attempt} may, {heard} was heard of"),
        ));
    }
}

fn check_outputs(
    shadow: &mut Shadow,
    seen: &Seen,
    fate: Fate,
    outputs: &[Output],
    broken: &mut Vec<(&'static str, String)>,
) {
    for output in outputs {
        match output {
            Output::Reply { to, .. } if !shadow.answered.insert(to.0) => {
                broken.push(("a caller is answered once", format!("{to:?}")));
            }
            Output::Failed { job, error } if matches!(fate, Fate::Kept | Fate::CrashAfter) => {
                broken.push(("no input fails by itself", format!("job {job}: {error}")));
            }
            Output::Broadcast(event) if event.kind == "preparing" && event.text.contains("\"step\":\"ready\"") => {
                let last = seen.executions.values().max_by_key(|known| known.number);
                if !seen.prepared || seen.working || last.is_some_and(|known| !known.began()) {
                    let what = format!("{} while {:?}", event.text, seen.executions);
                    broken.push(("`ready` only after the start succeeded", what));
                }
            }
            Output::Broadcast(event)
                if event.kind == "preparing"
                    && event.text.contains("\"step\":\"failed\"")
                    && (seen.active.is_some() || seen.working) =>
            {
                broken.push(("`failed` only when the state is consistent", event.text.clone()));
            }
            _ => {}
        }
    }
}

impl World<'_> {
    /// A callback reached its receiver.
    pub fn callback_received(&mut self, s: usize, post: &CallbackPost) {
        let shadow = &mut self.objects[s].shadow;
        let id = post.execution.to_string();
        let owed = shadow.callbacks_owed.get(&id).cloned();
        if owed.as_ref() != Some(&post.body) {
            let body = post.body.clone();
            self.run.broken("P7 each finished execution owes exactly one callback", || {
                format!("{id}: owed {owed:?}, received {body}")
            });
            return;
        }
        shadow.callbacks_received.insert(id, post.body.clone());
    }
}

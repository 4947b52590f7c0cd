//! What holds once nothing goes wrong any more and enough time has passed.

use crate::sessions::world::World;
use database::Database;
use object_core::directory;

/// The rings of one object's alarm that a session at rest may cause in its whole life: the idle stop, what that owes, and the end.
const RINGS_AT_REST_MAX: u64 = 14;

impl World<'_> {
    fn count(&self, s: usize, sql: &str) -> i64 {
        let storage = &self.objects[s].storage;
        let table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'session'";
        if storage.db.query(table, &[]).expect("it can be read").is_empty() {
            return 0;
        }
        storage.db.query(sql, &[]).expect("the tables are there")[0].get(0).expect("a number")
    }

    /// Everything that was begun is over.
    pub fn check_settled(&mut self) {
        for s in 0..self.objects.len() {
            let live = self.count(s, "SELECT COUNT(*) FROM execution WHERE status IN ('pending', 'running')");
            if live > 0 && !self.objects[s].shadow.ended {
                self.run
                    .broken("P3 every state ends within its bound", || format!("object {s}: {live} executions live"));
            }
            let working = self.count(s, "SELECT COUNT(*) FROM work WHERE ended = 0");
            if working > 0 && !self.objects[s].shadow.ended {
                self.run.broken("P3 every state ends within its bound", || format!("object {s}: work is under way"));
            }
            let owed = self.count(s, "SELECT COUNT(*) FROM owed WHERE dead IS NULL");
            if owed > 0 {
                let rows = self.objects[s].storage.db.query("SELECT key FROM owed WHERE dead IS NULL", &[]);
                self.run.broken("no row is owed for ever", || format!("object {s}: {rows:?}"));
            }
            self.check_callbacks_delivered(s);
            self.check_directory(s);
        }
        self.check_viewers();
        self.check_containers();
        self.check_leases();
        let waiting: Vec<u64> = self.callers.keys().copied().collect();
        if !waiting.is_empty() {
            self.run.broken("a caller is answered", || format!("{waiting:?} wait"));
        }
    }

    /// P7: delivered at least once, or once shown as given up.
    fn check_callbacks_delivered(&mut self, s: usize) {
        let object = &self.objects[s];
        if object.shadow.ended {
            return;
        }
        for id in object.shadow.callbacks_owed.keys() {
            let given_up = object.shadow.callbacks_given_up.contains(&format!("callback/{id}"));
            if !given_up && !object.shadow.callbacks_received.contains_key(id) {
                let id = id.clone();
                return self.run.broken("P7 each finished execution owes exactly one callback", || {
                    format!("{id} was never called back")
                });
            }
        }
        let prompted = self.prompted_executions(s);
        let sql = "SELECT id FROM execution WHERE accepted_at IS NOT NULL";
        let rows = match self.count(s, "SELECT COUNT(*) FROM execution") {
            0 => return,
            _ => self.objects[s].storage.db.query(sql, &[]).expect("it can be read"),
        };
        for row in rows {
            let id: String = row.get(0).expect("an id");
            if !prompted.contains(&id) {
                self.run.broken("an accepted execution's prompt reached the agent", || id);
            }
        }
    }

    /// The directory lists the sessions that are there, and no others.
    fn check_directory(&mut self, s: usize) {
        let object = &self.objects[s];
        let there = self.count(s, "SELECT COUNT(*) FROM session") > 0;
        let call = directory::Call::List { cursor: None, limit: 10, user: None };
        let Ok(directory::Answer::Page { page }) = directory::receive(&self.directory, &call) else { return };
        let listed = page.sessions.iter().any(|entry| entry.cloud_agent_session_id == object.id.as_str());
        if there != listed {
            self.run.broken("the directory lists the sessions that are there", || {
                format!("session {s}: there: {there}, listed: {listed}")
            });
        }
    }

    /// P2: each viewer's final view equals the log.
    pub fn check_viewers(&mut self) {
        const P2: &str = "P2 a viewer sees every later stored event once, in order";
        for v in 0..self.viewers.len() {
            let s = self.viewers[v].s;
            if self.viewers[v].gone || self.objects[s].shadow.ended || self.objects[s].shadow.state == "none" {
                continue;
            }
            if !self.viewers[v].caught_up {
                self.run.broken("a viewer that comes is served", || format!("viewer {v} is not connected"));
                continue;
            }
            let sql = "SELECT id, execution, type, data, at FROM log UNION ALL SELECT id, execution, type, data, at FROM entity";
            let rows = self.objects[s].storage.db.query(sql, &[]).expect("it can be read");
            let filter = self.viewers[v].filter();
            if !filter.replay {
                continue;
            }
            for row in &rows {
                let id: i64 = row.get(0).expect("an id");
                let (execution, kind): (String, String) = (row.get(1).expect("an id"), row.get(2).expect("a type"));
                let data: String = row.get(3).expect("a text");
                let at: i64 = row.get(4).expect("a time");
                if !filter.admits(&execution, &kind, at) {
                    continue;
                }
                let print = super::fingerprint(&execution, &kind, &data);
                let seen = self.viewers[v].seen.get(&id).copied();
                if seen != Some(print) {
                    self.run.broken(P2, || format!("viewer {v}: event {id} ({kind}) was {seen:?} to it"));
                    break;
                }
            }
        }
    }

    /// Nothing of an execution that is over works on, and nothing of a session that is gone is left.
    fn check_containers(&mut self) {
        for (pid, process) in &self.processes {
            for (s, w) in &process.sessions {
                let gone = self.objects[*s].shadow.ended;
                if let Some(run) = &w.run {
                    let what = format!("process {pid} still runs {}", run.plan.execution_id);
                    return self.run.broken("an execution that is over works on nowhere", || what);
                }
                if gone && w.agent.is_some() {
                    let what = format!("process {pid} still has an agent server for session {s}");
                    return self.run.broken("nothing of a deleted session runs", || what);
                }
            }
        }
    }

    /// What no execution needs any more is given back. One that was asked for late, and arrived after that, expires by itself.
    fn check_leases(&mut self) {
        let ended = self.objects.iter().flat_map(|object| object.shadow.executions.keys());
        if let Some(kept) = ended.clone().find(|id| !self.released.contains(*id)).cloned() {
            self.run.broken("an execution that ends gives its container back", || kept);
        }
        let leases = self.container.storage.db.query("SELECT holder FROM lease", &[]).expect("it can be read");
        if !leases.is_empty() {
            self.run.broken("no lease is held for ever", || format!("{leases:?}"));
        }
    }

    /// P8: a session at rest caused no wake-up beyond its deadlines, and its life ended.
    pub fn check_rested(&mut self, rings: &[u64], container_rings: u64, starts: u64) {
        const P8: &str = "P8 what is at rest causes no wake-up beyond its deadlines";
        for (s, before) in rings.iter().enumerate() {
            let rang = self.objects[s].shadow.rings - before;
            if rang > RINGS_AT_REST_MAX {
                self.run.broken(P8, || format!("object {s} rang {rang} times"));
            }
            let left = self.count(s, "SELECT COUNT(*) FROM (SELECT 1 FROM session UNION ALL SELECT 1 FROM log UNION ALL SELECT 1 FROM entity UNION ALL SELECT 1 FROM execution)");
            if left > 0 {
                self.run.broken("a session's life ends", || format!("object {s} still has {left} rows"));
            }
            if self.count(s, "SELECT COUNT(*) FROM owed") > 0 {
                self.run.broken("no row is owed for ever", || format!("object {s}, after its life"));
            }
            self.check_directory(s);
            if self.kept.contains_key(&s) {
                self.run.broken("nothing is kept of a session that is gone", || format!("session {s}"));
            }
            if let Some(at) = self.objects[s].storage.alarm() {
                self.run.broken(P8, || format!("object {s} has an alarm at {at}, after its life"));
            }
        }
        let rang = self.container.rings - container_rings;
        if rang > RINGS_AT_REST_MAX {
            self.run.broken(P8, || format!("the container object rang {rang} times"));
        }
        if self.platform.starts > starts {
            self.run.broken("P8 nothing wakes a stopped container to look at it", || "it was started".to_owned());
        }
        if self.platform.runs() {
            self.run.broken("a container that nobody uses is stopped", || self.container.state().to_owned());
        }
    }
}

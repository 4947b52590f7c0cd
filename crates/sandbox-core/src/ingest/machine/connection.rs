//! The socket: opened, greeted, lost, tried again; and what the object says on it.

use super::DONE;
use super::Ingest;
use super::disconnect;
use crate::event::Event;
use crate::ingest::Connection;
use crate::ingest::GaveUp;
use crate::ingest::Output;
use crate::ingest::link::Link;
use crate::ingest::link::Open;
use crate::ingest::link::Outage;
use crate::spool::SpoolWrite;
use crate::spool::wire;
use protocol::ingest::Command;

impl Ingest {
    pub(super) fn connect(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        self.connections = self.connections.saturating_add(1);
        let connection = Connection(self.connections);
        self.link = Link::Connecting { connection, give_up_at: now_ms.saturating_add(self.limits.greeting_ms_max) };
        out.push(Output::Connect { connection });
    }

    pub(super) fn on_opened(&mut self, now_ms: i64, opened: Connection, out: &mut Vec<Output>) {
        match self.link {
            Link::Connecting { connection, .. } if connection == opened => {
                let give_up_at = now_ms.saturating_add(self.limits.greeting_ms_max);
                self.link = Link::Greeting { connection, give_up_at };
            }
            _ if self.link.connection() == Some(opened) => {}
            _ => out.push(disconnect(opened, DONE)),
        }
    }

    pub(super) fn on_closed(&mut self, now_ms: i64, closed: Connection, out: &mut Vec<Output>) {
        if self.link.connection() == Some(closed) {
            self.retry_later(now_ms, out);
        }
    }

    pub(super) fn on_connect_failed(
        &mut self,
        now_ms: i64,
        failed: Connection,
        status: Option<u16>,
        out: &mut Vec<Output>,
    ) {
        if self.link.connection() != Some(failed) {
            return;
        }
        match status {
            Some(status @ (404 | 409)) => {
                self.link = Link::Ended;
                out.push(Output::Spool(SpoolWrite::Remove));
                out.push(Output::GaveUp(GaveUp::Fenced { status }));
            }
            _ => self.retry_later(now_ms, out),
        }
    }

    pub(super) fn on_frame(&mut self, now_ms: i64, from: Connection, text: &str, out: &mut Vec<Output>) {
        if self.link.connection() != Some(from) {
            return;
        }
        // What cannot be parsed is from an object of another version: not for us.
        let Ok(command) = serde_json::from_str::<Command>(text) else { return };
        match command {
            Command::Ack { seq } => self.on_ack(now_ms, seq, out),
            Command::Error { .. } => {}
            Command::Kill { .. } | Command::RequestSnapshot => out.push(Output::Deliver(command)),
            Command::Ping => self.send_now(now_ms, &Event::pong(self.execution_id.as_str()), out),
            Command::Resume { last_seq } => {
                if let Link::Greeting { connection, .. } = self.link {
                    self.on_resume(now_ms, connection, last_seq, out);
                }
            }
        }
    }

    fn on_resume(&mut self, now_ms: i64, connection: Connection, last_seq: u64, out: &mut Vec<Output>) {
        self.spool.acknowledged(last_seq);
        self.numbering = true;
        self.link = Link::Open(Open {
            connection,
            cursor: last_seq,
            unwritten: 0,
            heartbeat_at: now_ms.saturating_add(self.limits.heartbeat_ms),
            stable_at: now_ms.saturating_add(self.limits.reconnect_stable_ms),
            ack_by: None,
            written_by: None,
        });
        out.push(Output::Ready { connection });
        self.store_window(now_ms, out);
        let waiting = self.spool.len().saturating_add(self.volatile.len());
        if self.resuming {
            let lost = self.spool.take_lost() | self.volatile.take_dropped();
            if waiting > 0 || lost {
                self.volatile.push_front(wire(now_ms, None, &Event::wrapper_resumed(waiting, lost)));
            }
        }
        self.resuming = true;
        self.pump(now_ms, out);
    }

    pub(super) fn retry_later(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        let outage = self.outage.get_or_insert(Outage::begin(now_ms));
        match outage.next_attempt(&self.limits, now_ms) {
            Some(at_ms) => {
                out.push(Output::Reconnecting { attempt: outage.attempts, at_ms });
                self.link = Link::Waiting { retry_at: at_ms };
            }
            None => {
                self.link = Link::Ended;
                out.push(Output::GaveUp(GaveUp::Unreachable));
            }
        }
    }
}

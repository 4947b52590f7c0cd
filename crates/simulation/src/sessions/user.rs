//! A front end: it prepares a session, sends prompts, and now and then does what front ends do. A call whose answer is lost is made again.

use super::call::Ask;
use super::call::Heard;
use super::call::Who;
use super::world::Event;
use super::world::World;
use crate::sessions::faults;
use protocol::id::AskId;
use protocol::id::UserId;
use protocol::trpc::Admits;
use protocol::trpc::parse_prepare_session;
use protocol::trpc::parse_send_message;
use protocol::verdict::Permission;
use protocol::verdict::PermissionAnswer;
use protocol::verdict::QuestionAnswer;
use protocol::verdict::Verdict;
use serde_json::json;
use session_core::message::Answer;
use session_core::message::Call;
use session_core::message::Registration;

/// The user of one session.
#[derive(Default)]
pub struct User {
    /// The session is registered, as far as the front end knows.
    prepared: bool,
    initiated: bool,
    pub auto_initiate: bool,
    pub deleted: bool,
    /// Nothing is asked any more.
    pub rests: bool,
    pending: bool,
    messages: u64,
    tries: u32,
    /// Calls that are still made after the session was deleted: another tab does not know.
    after: u32,
}

impl User {
    pub fn new(auto_initiate: bool) -> Self {
        Self { auto_initiate, after: 3, ..Self::default() }
    }
}

/// The user of all sessions.
pub fn user_id() -> UserId {
    UserId::parse("oauth/google:1").expect("a user")
}

impl World<'_> {
    fn user_thinks(&mut self, s: usize, least: i64, most: i64) {
        let at = self.now + self.run.random.between("think", least, most);
        self.queue.push(at, Event::UserActs(s));
    }

    pub fn user_acts(&mut self, s: usize) {
        let user = &self.users[s];
        if user.rests || (user.deleted && user.after == 0) {
            return;
        }
        if user.deleted || self.run.random.percent("stray", 6) {
            self.stray_call(s);
            return self.user_thinks(s, 1_000, 30_000);
        }
        let user = &self.users[s];
        if user.pending {
            // A call that takes long is no reason not to press another button.
            let call = if self.run.random.percent("impatient", 15) { Call::Interrupt } else { Call::View };
            self.call(s, Who::User, Ask::Front(call));
            return self.user_thinks(s, 20_000, 120_000);
        }
        let call = if !user.prepared {
            self.registration(s)
        } else if !user.initiated && !user.auto_initiate {
            Call::Initiate
        } else {
            match self.run.random.below("act", 100) {
                0..=54 => self.next_message(s),
                55..=66 => Call::Interrupt,
                67..=76 => Call::View,
                77..=94 => match self.verdict(s) {
                    Some(verdict) => Call::Judge(verdict),
                    None => Call::View,
                },
                95..=97 => Call::Update(Vec::new()),
                _ if self.run.random.percent("delete", 25) => Call::Delete,
                _ => Call::View,
            }
        };
        self.users[s].pending = true;
        self.user_calls(s, call);
        self.user_thinks(s, 3_000, 180_000);
    }

    /// A call of another tab, or script: whatever the session is doing.
    fn stray_call(&mut self, s: usize) {
        if self.users[s].deleted {
            self.users[s].after -= 1;
        }
        let call = match self.run.random.below("stray-call", 100) {
            0..=19 => Call::Initiate,
            20..=39 => self.next_message(s),
            40..=54 => Call::Interrupt,
            55..=69 => Call::Update(Vec::new()),
            70..=84 => Call::Judge(self.verdict(s).unwrap_or_else(nothing_asked)),
            85..=89 => Call::Delete,
            _ => Call::View,
        };
        self.call(s, Who::User, Ask::Front(call));
    }

    fn user_calls(&mut self, s: usize, call: Call) {
        if self.run.fault(faults::CALLER_REPEATS) {
            self.call(s, Who::User, Ask::Front(call.clone()));
        }
        self.call(s, Who::User, Ask::Front(call));
    }

    fn registration(&mut self, s: usize) -> Call {
        let object = &self.objects[s];
        let mut input = json!({
            "prompt": "do it", "mode": "code", "model": "m", "gitUrl": "https://example.com/r.git",
            "autoInitiate": self.users[s].auto_initiate,
            "autoCommit": self.auto_commit,
            "condenseOnComplete": self.condense,
            "permissions": if self.asks { "ask" } else { "allow" },
        });
        if object.shadow.callbacks {
            input["callbackTarget"] = json!({"url": "https://receiver.example.com/done"});
        }
        let admits = Admits { loopback: false, callback_url: session_core::callback::check_url };
        Call::Register(Box::new(Registration {
            user: user_id(),
            session: object.id.clone(),
            kilo_session: object.kilo_session.clone(),
            sandbox: session_core::sandbox_id(None, &user_id(), None).expect("a sandbox"),
            input: parse_prepare_session(&input, admits).expect("a session that can be prepared"),
        }))
    }

    fn next_message(&mut self, s: usize) -> Call {
        let user = &mut self.users[s];
        user.messages += 1;
        let id = format!("msg_{:012x}{:014}", user.messages, s);
        let message = json!({"cloudAgentSessionId": self.objects[s].id, "prompt": "more", "messageId": id});
        Call::Send(Box::new(parse_send_message(&message).expect("a message that can be sent")))
    }

    /// An answer to something that the agent asks, in whatever container.
    fn verdict(&mut self, s: usize) -> Option<Verdict> {
        let agents = self.processes.values().filter_map(|process| process.sessions.get(&s)?.agent.as_ref());
        let (id, permission) = agents.flat_map(|agent| agent.waiting.iter()).next()?.clone();
        let id = AskId::parse(&id).ok()?;
        Some(if permission {
            Verdict::AnswerPermission(PermissionAnswer { permission_id: id, response: Permission::Once })
        } else {
            Verdict::AnswerQuestion(QuestionAnswer { question_id: id, answers: vec![vec!["yes".to_owned()]] })
        })
    }

    pub fn user_hears(&mut self, s: usize, ask: Ask, heard: Heard) {
        let Ask::Front(call) = ask else { return };
        self.run.note(|| format!("user {s} hears of {}: {}", super::promises::call_name(&call), describe(&heard)));
        let user = &mut self.users[s];
        user.pending = false;
        match (call, heard) {
            (Call::Register(_), Ok(Ok(_))) => user.prepared = true,
            (Call::Initiate, Ok(Ok(_))) => user.initiated = true,
            (Call::Initiate, Ok(Err(error))) if error.message.contains("already") => user.initiated = true,
            (Call::Delete, Ok(Ok(_))) => user.deleted = self.objects[s].shadow.ended,
            // What became of it is not known: the same once more, or something else.
            (call @ (Call::Send(_) | Call::Delete | Call::Initiate), Err(_)) if user.tries < 3 && !user.rests => {
                user.tries += 1;
                user.pending = true;
                self.call(s, Who::User, Ask::Front(call));
            }
            (Call::Send(_), Ok(Ok(Answer::Ack(_)))) => user.tries = 0,
            (Call::Register(_), Ok(Err(_))) if self.objects[s].shadow.ended => user.rests = true,
            _ => {}
        }
    }
}

/// An answer to what nobody asked.
fn nothing_asked() -> Verdict {
    let id = AskId::parse("que_00000000000000").expect("an id");
    Verdict::AnswerQuestion(QuestionAnswer { question_id: id, answers: vec![] })
}

fn describe(heard: &Heard) -> String {
    match heard {
        Ok(Ok(Answer::View(_))) => "a view".to_owned(),
        other => format!("{other:?}"),
    }
}

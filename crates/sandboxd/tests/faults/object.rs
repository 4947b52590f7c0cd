//! The session object's part: stores what is numbered, acknowledges it, and misbehaves when told to.

use futures_util::SinkExt;
use futures_util::StreamExt;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The object.
#[derive(Clone)]
pub struct Object {
    pub url: String,
    kept: Arc<Mutex<Kept>>,
    mood: watch::Sender<Mood>,
}

/// What it does with connections and frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Takes everything.
    Well,
    /// Closes what connects, and what is connected.
    Away,
    /// Holds the socket open and reads nothing.
    Stalled,
}

#[derive(Default)]
struct Kept {
    /// The stored events, in order.
    log: Vec<Value>,
    connections: usize,
    /// While it was away.
    turned_away: usize,
    /// Sent right after the greeting.
    order: Option<Value>,
}

impl Object {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let object = Self {
            url: format!("ws://{}/ingest", listener.local_addr().unwrap()),
            kept: Arc::default(),
            mood: watch::channel(Mood::Well).0,
        };
        let serving = object.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        object
    }

    pub fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Ends the present connection in the middle of whatever it is at.
    pub fn cut(&self) {
        self.set(Mood::Away);
        self.set(Mood::Well);
    }

    /// Each further connection is told this first.
    pub fn order(&self, command: Value) {
        self.kept.lock().unwrap().order = Some(command);
    }

    pub fn log(&self) -> Vec<Value> {
        self.kept.lock().unwrap().log.clone()
    }

    pub fn connections(&self) -> usize {
        self.kept.lock().unwrap().connections
    }

    /// Waits for a stored event of this type.
    pub async fn stored(&self, kind: &str) -> Value {
        self.until(kind, |log| log.iter().find(|event| event["streamEventType"] == kind).cloned()).await
    }

    /// Waits until more than this many connections were made.
    pub async fn connected_more_than(&self, before: usize) {
        self.count_exceeds(before, |kept| kept.connections).await;
    }

    /// Waits until more than this many connections were not taken.
    pub async fn turned_away_more_than(&self, before: usize) {
        self.count_exceeds(before, |kept| kept.turned_away).await;
    }

    async fn count_exceeds(&self, before: usize, count: impl Fn(&Kept) -> usize) {
        let started = Instant::now();
        while count(&self.kept.lock().unwrap()) <= before {
            assert!(started.elapsed() < PATIENCE, "no further connection");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until the log has an answer. `ask` must not ask this object for anything else.
    pub async fn until<T>(&self, what: &str, mut ask: impl FnMut(&[Value]) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            let answer = ask(&self.kept.lock().unwrap().log);
            if let Some(answer) = answer {
                return answer;
            }
            assert!(started.elapsed() < PATIENCE, "waited in vain for {what}: {:?}", self.log().last());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn serve(self, stream: TcpStream) {
        let mut mood = self.mood.subscribe();
        if *mood.borrow_and_update() == Mood::Away {
            self.kept.lock().unwrap().turned_away += 1;
            return;
        }
        let Ok(mut socket) = accept_async(stream).await else { return };
        let (last_seq, order) = {
            let mut kept = self.kept.lock().unwrap();
            kept.connections += 1;
            (kept.last_seq(), kept.order.clone())
        };
        let greeting = json!({ "type": "resume", "lastSeq": last_seq });
        for command in [Some(greeting), order].into_iter().flatten() {
            if socket.send(Message::text(command.to_string())).await.is_err() {
                return;
            }
        }
        loop {
            let is_stalled = *mood.borrow() == Mood::Stalled;
            let message = tokio::select! {
                biased;
                // A cut is two changes at once: any change to `Well` while connected is one.
                changed = mood.changed() => match *mood.borrow_and_update() {
                    Mood::Stalled if changed.is_ok() => continue,
                    Mood::Well if is_stalled => continue,
                    _ => return,
                },
                message = socket.next(), if !is_stalled => message,
            };
            match message {
                Some(Ok(Message::Text(text))) => {
                    let acked = self.kept.lock().unwrap().take(&text);
                    if let Some(seq) = acked
                        && socket.send(Message::text(json!({ "type": "ack", "seq": seq }).to_string())).await.is_err()
                    {
                        return;
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            }
        }
    }
}

impl Kept {
    fn last_seq(&self) -> u64 {
        self.log.last().map_or(0, |event| event["seq"].as_u64().unwrap())
    }

    fn take(&mut self, frame: &str) -> Option<u64> {
        let events = match serde_json::from_str(frame).unwrap() {
            Value::Array(events) => events,
            event => vec![event],
        };
        let mut acked = None;
        for event in events {
            let Some(seq) = event["seq"].as_u64() else { continue };
            let last = self.last_seq();
            if seq > last {
                assert!(seq == last + 1 || event["streamEventType"] == "events_lost", "a gap before {event}");
                self.log.push(event);
            }
            acked = Some(seq.max(last));
        }
        acked
    }
}

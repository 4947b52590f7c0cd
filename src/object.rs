//! What every shell shares: time and seeds for its core, the one alarm, callers that wait, timeouts on calls.

use crate::log;
use crate::retry::retried;
use crate::sql::WorkerdDatabase;
use futures_channel::oneshot;
use futures_util::future::Either;
use futures_util::future::select;
use object_core::ReplyTo;
use object_core::entropy::Entropy;
use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use wasm_bindgen::JsCast;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::Delay;
use worker::Env;
use worker::Method;
use worker::Request;
use worker::Response;
use worker::State;
use worker::Storage;

#[wasm_bindgen]
extern "C" {
    type AlarmStorage;

    #[wasm_bindgen(method, catch, js_name = setAlarm)]
    fn set_alarm(this: &AlarmStorage, at_ms: f64) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch, js_name = deleteAlarm)]
    fn delete_alarm(this: &AlarmStorage) -> Result<JsValue, JsValue>;
}

/// When an alarm that failed is tried again.
const RETRY_MS: i64 = 30_000;

/// The clock, read once per input and passed on.
pub fn now_ms() -> i64 {
    js_sys::Date::now() as i64
}

/// A new seed from the platform's generator.
pub fn entropy() -> worker::Result<Entropy> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| worker::Error::RustError(format!("no randomness: {error}")))?;
    Ok(Entropy::from_seed(seed))
}

/// The alarm of one object. It is written only when it moves: a row each time.
pub struct Alarm {
    storage: AlarmStorage,
    /// What the storage holds; None: not read yet.
    known: Rc<Cell<Option<Option<i64>>>>,
}

impl Alarm {
    /// Reads the alarm before the object takes its first event.
    pub fn new(state: &State) -> Self {
        let known = Rc::new(Cell::new(None));
        let (cell, storage) = (Rc::clone(&known), state.storage());
        let _init = state.block_concurrency_while(async move {
            cell.set(Some(storage.get_alarm().await?));
            Ok(())
        });
        let storage = state.storage();
        let raw: &JsValue = storage.as_raw().as_ref();
        Self { storage: raw.clone().unchecked_into(), known }
    }

    /// To be called first in the alarm handler. The platform has cleared it, unless it calls a second time for one alarm: then what the first call
    /// set is there.
    pub fn fired(&self) {
        self.known.set(None);
    }

    /// Sets the alarm after a handler failed: whatever is the matter, it is tried again.
    pub fn retry(&self) {
        self.set(Some(now_ms().saturating_add(RETRY_MS)));
    }

    /// Moves the alarm, in the same turn as the write that moved the deadline. The call takes effect when it is made; its promise only
    /// says when it is durable, which the output gate waits for.
    pub fn set(&self, at: Option<i64>) {
        if self.known.get() == Some(at) {
            return;
        }
        let set = match at {
            Some(at) => self.storage.set_alarm(at as f64),
            None => self.storage.delete_alarm(),
        };
        match set {
            Ok(_) => self.known.set(Some(at)),
            Err(error) => log::error("alarm", &[("error", &format!("{error:?}"))]),
        }
    }
}

/// Callers that wait for a core's answer, by number. Lost with the object, which is harmless: see [`ReplyTo`].
pub struct Waiting<T>(RefCell<BTreeMap<ReplyTo, oneshot::Sender<T>>>);

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self(RefCell::new(BTreeMap::new()))
    }
}

impl<T> Waiting<T> {
    /// Registers a caller.
    pub fn register(&self, number: ReplyTo) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        self.0.borrow_mut().insert(number, sender);
        receiver
    }

    /// Answers a caller, if it is still there.
    pub fn answer(&self, number: ReplyTo, answer: T) {
        let sender = self.0.borrow_mut().remove(&number);
        if let Some(sender) = sender {
            // A caller that went away needs no answer.
            drop(sender.send(answer));
        }
    }

    /// Forgets a caller that waited too long.
    pub fn forget(&self, number: ReplyTo) {
        self.0.borrow_mut().remove(&number);
    }
}

/// Waits at most `limit_ms`: a peer that crashed answers nothing, ever.
pub async fn within<T>(limit_ms: i64, work: impl Future<Output = T>) -> Option<T> {
    let limit = Delay::from(Duration::from_millis(limit_ms.unsigned_abs()));
    match select(Box::pin(work), limit).await {
        Either::Left((result, _)) => Some(result),
        Either::Right(_) => None,
    }
}

/// Sends a request to the object `name` behind `binding`, again if the platform says that this may help: so it may arrive twice, and must mean the same
/// then. Each try has a stub of its own: one that has seen its object fail is broken.
pub async fn ask(env: &Env, binding: &str, name: &str, request: Request, limit_ms: i64) -> worker::Result<Response> {
    let namespace = env.durable_object(binding)?;
    let tries = retried(async || namespace.get_by_name(name)?.fetch_with_request(request.clone()?).await);
    answered(binding, limit_ms, tries).await
}

/// The same, but once at most if it may not repeat: who asked hears that no answer came, and decides.
pub async fn ask_if(
    may_repeat: bool,
    env: &Env,
    binding: &str,
    name: &str,
    request: Request,
    limit_ms: i64,
) -> worker::Result<Response> {
    if may_repeat {
        return ask(env, binding, name, request, limit_ms).await;
    }
    let object = env.durable_object(binding)?.get_by_name(name)?;
    answered(binding, limit_ms, object.fetch_with_request(request)).await
}

/// The same as HTTP means its method: what is posted arrives once at most.
pub async fn ask_by_method(
    env: &Env,
    binding: &str,
    name: &str,
    request: Request,
    limit_ms: i64,
) -> worker::Result<Response> {
    ask_if(request.method() != Method::Post, env, binding, name, request, limit_ms).await
}

async fn answered(
    binding: &str,
    limit_ms: i64,
    answer: impl Future<Output = worker::Result<Response>>,
) -> worker::Result<Response> {
    within(limit_ms, answer)
        .await
        .unwrap_or_else(|| Err(worker::Error::RustError(format!("{binding} did not answer within {limit_ms} ms"))))
}

/// The same, where only the status counts. The answer is read to its end: until then the other object cannot rest.
pub async fn ask_status(env: &Env, binding: &str, name: &str, request: Request, limit_ms: i64) -> worker::Result<u16> {
    let mut answer = ask(env, binding, name, request, limit_ms).await?;
    within(limit_ms, answer.bytes()).await.transpose()?;
    Ok(answer.status_code())
}

/// The database of an object, with its schema.
pub fn open(storage: &Storage, migrations: &[database::Migration]) -> WorkerdDatabase {
    let db = WorkerdDatabase::new(storage);
    extend(&db, migrations);
    db
}

/// Adds to a schema what comes after it.
pub fn extend(db: &WorkerdDatabase, migrations: &[database::Migration]) {
    if let Err(error) = database::migrate(db, migrations) {
        // Every later statement will fail and say so to its caller.
        log::error("migration", &[("error", &error.to_string())]);
    }
}

/// A database error as the runtime takes it.
pub fn failed(error: database::DatabaseError) -> worker::Error {
    worker::Error::RustError(error.to_string())
}

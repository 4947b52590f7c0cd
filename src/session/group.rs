//! Group commit: frames that arrive while the loop is busy are written as one transaction (design 3).
//!
//! A commit costs more than all else that an event needs. A frame that finds the object idle is taken at once, and starts a timer of no delay, which
//! the runtime serves after the messages that are there already. Frames that come before it fires queue; it takes the queue as one input, and starts
//! again until it finds none. Every other input takes the queue first: the order of arrival stays. What is lost with the object was not acknowledged.

use crate::log;
use crate::session::Shell;
use crate::session::sockets::execution_of;
use crate::session::sockets::send;
use js_sys::JsString;
use js_sys::Uint8Array;
use protocol::ingest::FRAME_BYTES_MAX;
use protocol::stream::StreamError;
use session_core::message::IngestFrame;
use session_core::message::Input;
use session_core::message::Output;
use std::mem;
use std::rc::Rc;
use std::slice;
use std::time::Duration;
use wasm_bindgen::JsCast;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::Delay;
use worker::WebSocket;
use worker::web_sys;

/// A queue of this many frames is taken at once: it bounds memory and the time of a transaction.
const FRAMES_MAX: usize = 256;

/// The same in characters: four of the largest frames.
const CHARACTERS_MAX: usize = 4 << 20;

/// Frames that wait for their commit, as they came.
#[derive(Default)]
pub struct Group {
    frames: Vec<(WebSocket, JsString)>,
    characters: usize,
    /// The timer runs.
    busy: bool,
}

#[wasm_bindgen]
extern "C" {
    type TextEncoder;

    #[wasm_bindgen(constructor)]
    fn new() -> TextEncoder;

    #[wasm_bindgen(method)]
    fn encode(this: &TextEncoder, text: &JsString) -> Uint8Array;
}

/// As Rust has it. The platform's encoder is several times faster than the character loop of the bindings.
fn utf8(text: &JsString) -> String {
    thread_local!(static ENCODER: TextEncoder = TextEncoder::new());
    let bytes = ENCODER.with(|encoder| encoder.encode(text)).to_vec();
    // An encoder makes nothing but UTF-8.
    String::from_utf8(bytes).unwrap_or_default()
}

impl Shell {
    /// A frame. Viewers have nothing to say.
    pub fn message(self: &Rc<Self>, socket: WebSocket, message: JsValue) -> worker::Result<()> {
        let text = match message.dyn_into::<JsString>() {
            // In UTF-8 it is not shorter.
            Ok(text) if text.length() as usize <= FRAME_BYTES_MAX => text,
            Ok(_) => return decline(&socket, &format!("A frame is at most {FRAME_BYTES_MAX} bytes")),
            Err(_) => return decline(&socket, "Binary messages not supported"),
        };
        let (full, busy) = {
            let mut group = self.group.borrow_mut();
            group.characters = group.characters.saturating_add(text.length() as usize);
            group.frames.push((socket, text));
            (group.frames.len() >= FRAMES_MAX || group.characters >= CHARACTERS_MAX, group.busy)
        };
        match (full, busy) {
            (true, _) => self.flush(),
            (false, true) => Ok(()),
            (false, false) => self.flush_and_gather(),
        }
    }

    /// Takes what waits, and gathers what comes until the messages that are there already have been served.
    fn flush_and_gather(self: &Rc<Self>) -> worker::Result<()> {
        self.flush()?;
        self.group.borrow_mut().busy = true;
        let shell = Rc::clone(self);
        self.state.wait_until(async move {
            Delay::from(Duration::ZERO).await;
            let more = {
                let mut group = shell.group.borrow_mut();
                group.busy = false;
                !group.frames.is_empty()
            };
            if more && let Err(error) = shell.flush_and_gather() {
                log::error("ingest", &[("error", &error.to_string())]);
            }
        });
        Ok(())
    }

    /// Takes the frames that wait, as one input.
    pub fn flush(self: &Rc<Self>) -> worker::Result<()> {
        let waiting = {
            let mut group = self.group.borrow_mut();
            group.characters = 0;
            mem::take(&mut group.frames)
        };
        let (frames, sockets) = read(&waiting);
        if frames.is_empty() {
            return Ok(());
        }
        let failure = match self.receive(Input::IngestFrames(frames)) {
            Ok(outputs) => return answer(&sockets, outputs),
            Err(failure) => failure,
        };
        if let [(socket, _)] = &waiting[..] {
            return refuse(socket, &failure);
        }
        // One of them is at fault: the others are not to suffer for it.
        for frame in &waiting {
            let (frames, sockets) = read(slice::from_ref(frame));
            match self.receive(Input::IngestFrames(frames)) {
                Ok(outputs) => answer(&sockets, outputs)?,
                Err(failure) => refuse(&frame.0, &failure)?,
            }
        }
        Ok(())
    }
}

/// Sends what the core has to say to the sockets of a group.
fn answer(sockets: &[WebSocket], outputs: Vec<Output>) -> worker::Result<()> {
    for output in outputs {
        match output {
            Output::Answer { socket, command } => {
                if let Some(socket) = sockets.get(socket) {
                    send(socket, &serde_json::to_string(&command)?);
                }
            }
            Output::Close { socket, code, reason } => {
                if let Some(socket) = sockets.get(socket) {
                    close(socket, code, &reason);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The frames of wrappers, each with the number of its socket. One wrapper has most of a group.
fn read(waiting: &[(WebSocket, JsString)]) -> (Vec<IngestFrame>, Vec<WebSocket>) {
    let (mut frames, mut sockets) = (Vec::with_capacity(waiting.len()), Vec::<WebSocket>::new());
    let mut execution = None;
    for (socket, text) in waiting {
        if sockets.last().is_none_or(|last| raw(last) != raw(socket)) {
            execution = execution_of(socket);
            sockets.push(socket.clone());
        }
        if let Some(execution) = execution.clone() {
            frames.push(IngestFrame { socket: sockets.len().saturating_sub(1), execution, text: utf8(text) });
        }
    }
    (frames, sockets)
}

fn raw(socket: &WebSocket) -> &web_sys::WebSocket {
    socket.as_ref()
}

/// A frame that no core looks into. The socket stays open.
fn decline(socket: &WebSocket, words: &str) -> worker::Result<()> {
    if execution_of(socket).is_some() {
        send(socket, &serde_json::to_string(&StreamError::new("WS_PROTOCOL_ERROR", words))?);
    }
    Ok(())
}

/// A frame that could not be stored. A producer that numbers its events connects again and resumes.
pub fn refuse(socket: &WebSocket, failure: &worker::Error) -> worker::Result<()> {
    log::error("ingest", &[("error", &failure.to_string())]);
    const WORDS: &str = "The frame was not stored";
    send(socket, &serde_json::to_string(&StreamError::new("WS_INTERNAL_ERROR", WORDS))?);
    close(socket, 1011, WORDS);
    Ok(())
}

/// Fails on a socket that is closed already: an earlier frame of the group was its too.
fn close(socket: &WebSocket, code: u16, reason: &str) {
    drop(socket.close(Some(code), Some(reason)));
}

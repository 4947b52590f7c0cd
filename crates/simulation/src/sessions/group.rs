//! Group commit, as `src/session/group.rs` has it: frames that arrive while the object is busy are one transaction.

use super::sockets::Down;
use super::sockets::Kind;
use super::sockets::SocketId;
use super::sockets::Text;
use super::world::Event;
use super::world::World;
use crate::durable::Stopped;
use protocol::ingest::Command;
use session_core::message::IngestFrame;
use session_core::message::Input;
use session_core::message::Output;

/// A queue of this many frames is taken at once.
const FRAMES_MAX: usize = 256;

impl World<'_> {
    /// A frame of a wrapper.
    pub fn message(&mut self, s: usize, socket: SocketId, text: Text) {
        let memory = self.memory(s);
        memory.group.push((socket, text));
        if memory.group.len() >= FRAMES_MAX {
            drop(self.flush(s));
        } else if !memory.busy {
            self.flush_and_gather(s);
        }
    }

    fn flush_and_gather(&mut self, s: usize) {
        if self.flush(s).is_err() {
            return;
        }
        self.memory(s).busy = true;
        let incarnation = self.objects[s].incarnation;
        // The timer has no delay, and is served after the messages that are there already.
        let at = self.now + self.run.random.between("busy", 0, 4);
        self.queue.push(at, Event::GroupTimer { s, incarnation });
    }

    pub fn group_timer(&mut self, s: usize, incarnation: u64) {
        if self.objects[s].incarnation != incarnation {
            return;
        }
        let Some(memory) = &mut self.objects[s].memory else { return };
        memory.busy = false;
        if !memory.group.is_empty() {
            self.flush_and_gather(s);
        }
    }

    /// Takes the frames that wait, as one input.
    pub fn flush(&mut self, s: usize) -> Result<(), Stopped> {
        let Some(memory) = &mut self.objects[s].memory else { return Ok(()) };
        let waiting = std::mem::take(&mut memory.group);
        if waiting.is_empty() {
            return Ok(());
        }
        match self.take_frames(s, &waiting) {
            Err(Stopped::Failed(_)) => {}
            result => return result,
        }
        if let [(socket, _)] = &waiting[..] {
            self.refuse_frame(*socket);
            return Ok(());
        }
        // One of them is at fault: the others are not to suffer for it.
        for frame in &waiting {
            match self.take_frames(s, std::slice::from_ref(frame)) {
                Err(Stopped::Failed(_)) => self.refuse_frame(frame.0),
                Err(Stopped::Crashed) => return Err(Stopped::Crashed),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn take_frames(&mut self, s: usize, waiting: &[(SocketId, Text)]) -> Result<(), Stopped> {
        let (mut frames, mut taken) = (Vec::new(), Vec::new());
        let mut sockets: Vec<SocketId> = Vec::new();
        for (id, text) in waiting {
            let Some(socket) = self.sockets.get(id).filter(|socket| socket.attached) else { continue };
            let Kind::Ingest(wrapper) = &socket.kind else { continue };
            if sockets.last() != Some(id) {
                sockets.push(*id);
            }
            let name = sockets.len() - 1;
            frames.push(IngestFrame { socket: name, execution: wrapper.execution.clone(), text: text.0.clone() });
            taken.push((wrapper.clone(), text.1.clone()));
        }
        if frames.is_empty() {
            return Ok(());
        }
        self.objects[s].shadow.taking = taken;
        let result = self.receive(s, Input::IngestFrames(frames));
        self.objects[s].shadow.taking.clear();
        for output in result? {
            match output {
                Output::Answer { socket, command } => self.answer_frame(sockets[socket], &command),
                Output::Close { socket, code, .. } => {
                    self.check_gap(sockets[socket], code);
                    self.send_down(sockets[socket], Down::Close(code));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn answer_frame(&mut self, socket: SocketId, command: &Command) {
        if let Command::Error { code, message } = command {
            let what = format!("{code} {message}");
            self.run.broken("our own wrapper's frames are understood", || what);
        }
        let text = serde_json::to_string(command).expect("a command is plain data");
        self.send_down(socket, Down::Text(text));
    }

    /// A frame is not taken.
    pub fn refuse_frame(&mut self, socket: SocketId) {
        if let Some(socket) = self.sockets.get_mut(&socket) {
            socket.refused = true;
        }
        self.send_down(socket, Down::Close(1011));
    }
}

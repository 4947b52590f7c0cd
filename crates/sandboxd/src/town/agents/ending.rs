//! The end of an agent: what it does is aborted, its conversation is taken, and its server is given back.

use super::actor::Actor;
use super::conversation;
use super::environment;
use super::startup::Session;
use std::pin::pin;

impl Actor {
    /// Ends what it does, takes its conversation, and gives its server back.
    pub(super) async fn let_go(&mut self) {
        let Some(Session { lease, talk, events, keeps, .. }) = self.session.take() else { return };
        drop(events);
        self.forget_server();
        let aborted = talk.abort().await;
        let home = environment::home(&self.shared.config.root, &self.place.agent);
        let is_evicted = self.view.borrow().machine.is_evicted();
        self.taken = match (aborted, is_evicted) {
            // A server that does not even abort will not answer this either.
            (false, _) => None,
            _ if !keeps => None,
            (true, true) => conversation::take_quickly(&talk, &self.place, &home).await,
            (true, false) => conversation::take(&talk, &self.place, &home).await,
        };
        let clean = lease.release().await;
        self.shared.tools.forget(&self.place.agent);
        self.view.send_modify(|view| (view.is_loose, view.is_released) = (!clean, true));
        self.left = if clean { Ok(()) } else { Err("processes of the agent are still running".to_owned()) };
    }

    /// Puts its conversation away, which may take its time: nothing of it runs any more, and who waits for its end is told so.
    pub(super) async fn put_away(&mut self) {
        let Some(taken) = self.taken.take() else { return };
        let (shared, place) = (self.shared.clone(), self.place.clone());
        let mut keeping = pin!(conversation::keep(taken, &shared.home, &place));
        loop {
            tokio::select! {
                () = &mut keeping => return,
                Some(command) = self.commands.recv() => {
                    self.refuse(command);
                    self.answer_enders();
                }
            }
        }
    }

    /// Its port may be another agent's soon.
    pub(super) fn forget_server(&self) {
        self.view.send_modify(|view| (view.port, view.session) = (None, None));
    }

    pub(super) fn answer_enders(&mut self) {
        for ender in self.enders.drain(..) {
            let _ = ender.send(self.left.clone());
        }
    }
}

//! The events of one flush window, coalesced. Nothing changes its place: an update that a newer one replaces is taken out, and
//! a delta is lengthened only where it is the last. So no update ever overtakes another event.

use super::edit::Edit;
use super::edit::edit_object;
use super::rules;
use crate::agent::AgentEvent;
use crate::event::Event;
use crate::limits::Limits;
use protocol::event::EventClass;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use std::mem;

/// What counts for an event besides its data: its place in the window, its envelope later on.
const ENTRY_BYTES: usize = 64;

#[derive(Default)]
pub(super) struct Window {
    entries: Vec<Option<Entry>>,
    /// The pending update of a part, by entity key, as long as nothing depends on it.
    parts: HashMap<String, usize>,
    bytes: usize,
}

enum Entry {
    Event(Event),
    Deltas(Deltas),
}

impl Window {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, event: Event) {
        self.append(Entry::Event(event));
    }

    /// An update of a part replaces the pending one of the same part.
    pub(super) fn push_part(&mut self, event: Event) {
        if let EventClass::Entity(key) = event.class()
            && let Some(old) = self.parts.insert(key.clone(), self.entries.len())
            && let Some(entry) = self.entries.get_mut(old).and_then(Option::take)
        {
            self.bytes = self.bytes.saturating_sub(entry.bytes());
        }
        self.append(Entry::Event(event));
    }

    /// A delta lengthens the one before it, if it is of the same field. It applies to the part as it is now, so a pending update of that
    /// part stays.
    pub(super) fn push_delta(&mut self, limits: &Limits, event: &AgentEvent<'_>) {
        let Some(delta) = event.read::<Delta>().filter(|delta| delta.text().is_some()) else {
            return self.push(rules::event(limits, event));
        };
        if let Some(Some(Entry::Deltas(deltas))) = self.entries.last_mut()
            && let Some(added) = deltas.add(&delta, limits.batch_bytes_max)
        {
            self.bytes = self.bytes.saturating_add(added);
            return;
        }
        self.parts.remove(&format!("part/{}/{}", delta.message_id, delta.part_id));
        if let Some(properties) = event.properties {
            self.append(Entry::Deltas(Deltas::new(&delta, properties)));
        }
    }

    pub(super) fn drain(&mut self, limits: &Limits) -> Vec<Event> {
        self.parts.clear();
        self.bytes = 0;
        mem::take(&mut self.entries).into_iter().flatten().map(|entry| entry.into_event(limits)).collect()
    }

    fn append(&mut self, entry: Entry) {
        self.bytes = self.bytes.saturating_add(entry.bytes());
        self.entries.push(Some(entry));
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        let data = match self {
            Entry::Event(event) => event.data().len(),
            Entry::Deltas(deltas) => deltas.properties.len().saturating_add(deltas.added.len()),
        };
        data.saturating_add(ENTRY_BYTES)
    }

    fn into_event(self, limits: &Limits) -> Event {
        match self {
            Entry::Event(event) => event,
            Entry::Deltas(deltas) => Event::of_agent(EventClass::Volatile, deltas.into_data(limits)),
        }
    }
}

const DELTA: &str = "message.part.delta";

/// The properties of a delta.
#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, rename = "messageID")]
    message_id: Cow<'a, str>,
    #[serde(borrow, rename = "partID")]
    part_id: Cow<'a, str>,
    #[serde(borrow)]
    field: Cow<'a, str>,
    #[serde(borrow)]
    delta: &'a RawValue,
}

impl<'a> Delta<'a> {
    /// The text between the quotes, escapes and all: texts of JSON strings can be joined as they are.
    fn text(&self) -> Option<&'a str> {
        self.delta.get().strip_prefix('"')?.strip_suffix('"')
    }
}

/// Adjacent deltas of one field of one part.
struct Deltas {
    message_id: String,
    part_id: String,
    field: String,
    /// Of the first one.
    properties: String,
    /// Text of the first one, between its quotes.
    first: String,
    /// Texts of the others.
    added: String,
}

impl Deltas {
    fn new(delta: &Delta<'_>, properties: &str) -> Self {
        Self {
            message_id: delta.message_id.clone().into_owned(),
            part_id: delta.part_id.clone().into_owned(),
            field: delta.field.clone().into_owned(),
            properties: properties.to_owned(),
            first: delta.text().unwrap_or_default().to_owned(),
            added: String::new(),
        }
    }

    /// Adds a delta if it belongs here and `bytes_max` allows; says by how much this has grown.
    fn add(&mut self, delta: &Delta<'_>, bytes_max: usize) -> Option<usize> {
        let text = delta.text()?;
        let same = delta.part_id == self.part_id && delta.field == self.field && delta.message_id == self.message_id;
        if !same || self.first.len().saturating_add(self.added.len()).saturating_add(text.len()) > bytes_max {
            return None;
        }
        self.added.push_str(text);
        Some(text.len())
    }

    fn into_data(self, limits: &Limits) -> String {
        let joined = if self.added.is_empty() {
            None
        } else {
            let text = format!("\"{}{}\"", self.first, self.added);
            edit_object(&self.properties, |key, _| if key == "delta" { Edit::Set(text.clone()) } else { Edit::Keep })
        };
        rules::data(limits, DELTA, joined.as_deref().unwrap_or(&self.properties))
    }
}

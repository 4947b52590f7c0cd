//! Encrypted secrets: closed in every row, given to the shell with the work, shown to nobody.

use super::SESSION;
use super::World;
use crate::message::Call;
use crate::message::Effect;
use protocol::trpc::Admits;
use protocol::trpc::parse_update_session;
use serde_json::Value;
use serde_json::json;

fn secrets() -> Value {
    let envelope = json!({
        "encryptedData": "A".repeat(48), "encryptedDEK": "B".repeat(344), "algorithm": "rsa-aes-256-gcm", "version": 1,
    });
    json!({ "TOKEN": envelope })
}

/// What the work that is asked for at the next tick brings for the shell to open, as JSON.
fn given(world: &mut World) -> Value {
    let key = |key: &&String| key.starts_with("work/");
    world.performed.clear();
    world.alarm();
    let (_, effect) = world.performed.iter().find(|(name, _)| key(name)).expect("work is asked for");
    let Effect::Work { secrets, work, .. } = effect else { panic!("{effect:?}") };
    assert!(work.workspace.env.is_empty(), "nothing is opened here");
    serde_json::to_value(secrets).unwrap()
}

#[test]
fn each_piece_of_work_brings_them_as_they_were_given() {
    let mut world = World::new();
    world.register(json!({"encryptedSecrets": secrets()}));
    world.done("directory/add");
    assert_eq!(given(&mut world), secrets());
    let view = world.view().to_string();
    assert!(!view.contains("TOKEN") && !view.contains("AAAA"), "{view}");
}

#[test]
fn an_update_replaces_them_before_the_first_turn() {
    let mut world = World::prepared(json!({}));
    let input = json!({"cloudAgentSessionId": SESSION, "encryptedSecrets": secrets()});
    let update = parse_update_session(&input, Admits { loopback: false, callback_url: |_, _| Ok(()) }).unwrap();
    world.call(Call::Update(update.changes));
    world.call(Call::Initiate);
    assert_eq!(given(&mut world), secrets());
}

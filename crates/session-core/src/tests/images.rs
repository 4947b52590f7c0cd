//! What a prompt shows reaches the plan of its turn, and of no other.

use super::*;
use sandbox::TurnImage;

const PATH: &str = "01234567-89ab-cdef-0123-456789abcdef";
const FIRST: &str = "11111111-89ab-cdef-0123-456789abcdef.png";
const SECOND: &str = "22222222-89ab-cdef-0123-456789abcdef.jpg";

fn shown(work: &Work) -> Vec<TurnImage> {
    work.turn.as_ref().unwrap().images.clone()
}

fn image(file: &str, mime: &str) -> TurnImage {
    let url = format!("http://w/sessions/oauth%2Fgoogle%3A1/{SESSION}/images/{PATH}/{file}");
    TurnImage { url, filename: file.into(), mime: mime.into() }
}

#[test]
fn the_first_turn_shows_what_was_given_when_it_was_prepared() {
    let mut world = World::prepared(json!({"images": {"path": PATH, "files": [SECOND, FIRST]}}));
    world.evict();
    world.call(Call::Initiate);
    let start = world.asked_work();
    assert_eq!(shown(&start), [image(SECOND, "image/jpeg"), image(FIRST, "image/png")]);
}

#[test]
fn a_follow_up_shows_its_own_images_and_none_of_earlier_turns() {
    let (mut world, execution, start) =
        World::running_with(json!({"images": {"path": PATH, "files": [FIRST]}, "autoInitiate": true}));
    assert_eq!(shown(&start), [image(FIRST, "image/png")]);
    world.complete(&execution);
    let follow_up = |images: Value| {
        let input = json!({"cloudAgentSessionId": SESSION, "prompt": "more", "images": images});
        Call::Send(Box::new(parse_send_message(&input).unwrap()))
    };
    world.call(follow_up(json!({"path": PATH, "files": [SECOND]})));
    let second = world.asked_work();
    assert_eq!(shown(&second), [image(SECOND, "image/jpeg")]);
    let execution = second.turn.clone().unwrap().execution_id;
    world.connect(&execution, &second);
    world.finish_work(&second, 1);
    world.complete(&execution);
    world.call(follow_up(Value::Null));
    let third = world.asked_work();
    assert_eq!(shown(&third), []);
    assert!(serde_json::to_value(third.turn).unwrap().get("images").is_none());
}

use super::*;
use object_core::time::HOUR;
use object_core::time::SECOND;
use protocol::id::RigId;
use protocol::id::UserId;
use serde_json::Value;
use serde_json::json;

const NOW: i64 = 1_800_000_000_000;
const SECRETS: Secrets<'static> = Secrets { town: Some("s"), user: Some("us"), internal: Some("ik") };

fn sign(claims: Value) -> String {
    auth::sign(&claims, "s").unwrap()
}

fn container_token(town: &str, age_ms: i64) -> String {
    let iat = (NOW - age_ms) / SECOND;
    sign(json!({"townId": town, "userId": "u", "scope": "container", "iat": iat, "exp": iat + 24 * 3600}))
}

fn agent_token(town: &str, rig: &str, agent: &str) -> String {
    sign(json!({"townId": town, "rigId": rig, "agentId": agent, "userId": "u", "exp": NOW / SECOND + 3600}))
}

fn user_token(user: &str) -> String {
    auth::sign(&json!({"kiloUserId": user, "version": 3}), "us").unwrap()
}

/// `/api/towns/t1/rigs/r1/agents/a1`.
fn place() -> Ids {
    let (town, rig, agent) = (TownId::parse("t1").ok(), RigId::parse("r1").ok(), AgentId::parse("a1").ok());
    Ids { town, rig, agent, ..Ids::default() }
}

fn shown(token: &str) -> Shown {
    Shown { authorization: Some(format!("bEARER {token}")), agent: None, key: None }
}

fn check(guard: Guard, shown: &Shown, ids: &Ids) -> Result<Caller, (u16, String)> {
    guard.check(shown, SECRETS, NOW, ids).map_err(|error| (error.status(), error.to_string()))
}

fn with(guard: Guard, token: &str) -> Result<Caller, (u16, String)> {
    check(guard, &shown(token), &place())
}

fn refused(status: u16, text: &str) -> Result<Caller, (u16, String)> {
    Err((status, text.to_owned()))
}

fn inside(agent: &str) -> Result<Caller, (u16, String)> {
    Ok(Caller::Inside(AgentId::parse(agent).ok()))
}

#[test]
fn guards_of_the_container_take_a_container_token_of_this_town_only() {
    for guard in [Guard::Agent, Guard::Rig, Guard::Container, Guard::Expired, Guard::Mayor] {
        let other =
            if guard == Guard::Mayor { "Token townId does not match route" } else { "Cross-town access denied" };
        assert!(with(guard, &container_token("t1", 0)).is_ok(), "{guard:?}");
        assert_eq!(with(guard, &container_token("t2", 0)), refused(403, other));
        assert_eq!(check(guard, &Shown::default(), &place()), refused(401, "Authentication required"));
        assert_eq!(with(guard, "a.b"), refused(401, "Token validation failed"));
        let forged = auth::sign(&json!({"townId": "t1", "scope": "container"}), "other").unwrap();
        assert_eq!(with(guard, &forged), refused(401, "Invalid token signature"));
        let open = guard.check(&shown(&container_token("t1", 0)), Secrets::default(), NOW, &place());
        assert_eq!(open.unwrap_err().to_string(), "Token verification is not configured", "nobody passes");
    }
}

#[test]
fn a_container_token_ends_after_8_hours_even_if_it_says_otherwise() {
    let expired = sign(json!({"townId": "t1", "userId": "u", "scope": "container", "iat": 1, "exp": NOW / SECOND}));
    for guard in [Guard::Agent, Guard::Rig, Guard::Container, Guard::Mayor] {
        assert!(with(guard, &container_token("t1", 8 * HOUR)).is_ok());
        assert_eq!(with(guard, &container_token("t1", 8 * HOUR + SECOND)), refused(401, "Token expired"));
        assert_eq!(with(guard, &expired), refused(401, "Token expired"));
    }
    let user = Ok(Caller::User(UserId::parse("u").unwrap()));
    assert_eq!(with(Guard::Expired, &expired), user, "a fresh one is for whom the old one was");
}

#[test]
fn an_agent_token_speaks_for_its_agent_and_for_no_container() {
    assert_eq!(with(Guard::Agent, &agent_token("t1", "r1", "a1")), inside("a1"));
    assert_eq!(with(Guard::Agent, &agent_token("t1", "r1", "")), inside(""), "it names nobody");
    let other_rig = refused(403, "Token rigId does not match route");
    for guard in [Guard::Agent, Guard::Rig] {
        assert_eq!(with(guard, &agent_token("t1", "r2", "a1")), other_rig);
        assert_eq!(with(guard, &agent_token("t2", "r1", "a1")), refused(403, "Cross-town access denied"));
    }
    let other = agent_token("t1", "r1", "a2");
    assert_eq!(with(Guard::Agent, &other), refused(403, "Token agentId does not match route"));
    assert_eq!(with(Guard::Rig, &other), inside("a2"), "who may look at others");
    assert_eq!(with(Guard::Mayor, &agent_token("t1", "r9", "m")), inside("m"), "of whatever rig");
    assert_eq!(with(Guard::Container, &other), refused(401, "Invalid container token payload"));
    assert_eq!(with(Guard::Expired, &other), refused(401, "Invalid container token payload"));
}

#[test]
fn a_container_speaks_for_the_agent_of_the_path_or_of_the_header() {
    let token = container_token("t1", 0);
    let header = Shown { agent: Some("a9".into()), ..shown(&token) };
    assert_eq!(check(Guard::Agent, &header, &place()), inside("a1"), "the path decides");
    let no_agent = Ids { agent: None, ..place() };
    assert_eq!(check(Guard::Rig, &header, &no_agent), inside("a9"));
    assert_eq!(check(Guard::Rig, &shown(&token), &no_agent), inside(""));
    let of_agent = Shown { agent: Some("a9".into()), ..shown(&agent_token("t1", "r1", "a2")) };
    assert_eq!(check(Guard::Rig, &of_agent, &no_agent), inside("a2"), "a token that names somebody is no other");
    let bad = Shown { agent: Some("../x".into()), ..shown(&token) };
    assert_eq!(check(Guard::Rig, &bad, &no_agent).unwrap_err().0, 400);
}

#[test]
fn a_route_of_the_town_asks_for_no_rig() {
    let town = Ids { town: TownId::parse("t1").ok(), ..Ids::default() };
    assert_eq!(check(Guard::Rig, &shown(&agent_token("t1", "r7", "a1")), &town), inside("a1"));
}

#[test]
fn a_token_of_another_kind_is_none_of_ours() {
    let wide = sign(json!({"townId": "t1", "userId": "u", "scope": "town", "iat": NOW / SECOND, "exp": NOW}));
    let ticket = token::status_ticket(&TownId::parse("t1").unwrap(), "u", "s", NOW).unwrap();
    let user = sign(json!({"kiloUserId": "u", "version": 3}));
    for token in [&wide, &ticket, &user] {
        assert_eq!(with(Guard::Rig, token), refused(401, "Invalid token payload"));
        assert_eq!(with(Guard::Container, token), refused(401, "Invalid container token payload"));
    }
}

#[test]
fn a_user_is_told_what_is_wrong_with_the_token_and_stays_at_home() {
    let home = Ids { user: UserId::parse("u").ok(), ..Ids::default() };
    let user = |name: &str| Ok(Caller::User(UserId::parse(name).unwrap()));
    assert_eq!(check(Guard::User, &shown(&user_token("u")), &home), user("u"));
    assert_eq!(check(Guard::User, &shown(&user_token("v")), &home), refused(403, "Forbidden"));
    assert_eq!(check(Guard::User, &shown(&user_token("v")), &place()), user("v"), "whose town it is, the town says");
    assert_eq!(check(Guard::User, &Shown::default(), &home), refused(401, "Missing Authorization header"));
    assert_eq!(with(Guard::User, &container_token("t1", 0)).unwrap_err().0, 401);
}

#[test]
fn a_ticket_opens_the_status_stream_of_its_town_for_a_minute() {
    let (t1, t2) = (TownId::parse("t1").unwrap(), TownId::parse("t2").unwrap());
    let given = token::status_ticket(&t1, "u", "s", NOW).unwrap();
    let open = |token: &str, at, town| status_ticket(token, SECRETS, at, town).map_err(|error| error.to_string());
    assert_eq!(open(&given, NOW + token::TICKET_MS - SECOND, &t1), Ok(()));
    assert_eq!(open(&given, NOW + token::TICKET_MS, &t1), Err("Token expired".into()));
    assert_eq!(open(&given, NOW, &t2), Err("Cross-town access denied".into()));
    assert_eq!(open(&container_token("t1", 0), NOW, &t1), Err("Invalid ticket".into()));
}

#[test]
fn a_ticket_for_an_agent_opens_a_socket_to_it_alone_for_a_minute() {
    let (t1, t2) = (TownId::parse("t1").unwrap(), TownId::parse("t2").unwrap());
    let (a1, a2) = (AgentId::parse("a1").unwrap(), AgentId::parse("a2").unwrap());
    let given = token::agent_ticket(&t1, &a1, "from-the-container", "s", NOW).unwrap();
    let open = |token: &str, at, town, agent| {
        agent_ticket(token, SECRETS, at, town, agent).map_err(|error| (error.status(), error.to_string()))
    };
    let no = |status, text: &str| Err((status, text.to_owned()));
    assert_eq!(open(&given, NOW + token::TICKET_MS - SECOND, &t1, &a1), Ok("from-the-container".into()));
    assert_eq!(open(&given, NOW + token::TICKET_MS, &t1, &a1), no(401, "Token expired"));
    assert_eq!(open(&given, NOW, &t1, &a2), no(401, "Invalid ticket"));
    assert_eq!(open(&given, NOW, &t2, &a1), no(403, "Cross-town access denied"));
    assert_eq!(open("from-the-container", NOW, &t1, &a1), no(401, "Token validation failed"));
    let others =
        [container_token("t1", 0), agent_token("t1", "r1", "a1"), token::status_ticket(&t1, "u", "s", NOW).unwrap()];
    for other in others {
        assert_eq!(open(&other, NOW, &t1, &a1), no(401, "Invalid ticket"));
    }
    assert_eq!(with(Guard::Agent, &given), refused(401, "Invalid token payload"), "and is no token");
}

#[test]
fn an_operator_shows_the_internal_key_and_nothing_else_counts() {
    let key = |key: &str| Shown { key: Some(key.into()), ..shown(&container_token("t1", 0)) };
    assert_eq!(check(Guard::Debug, &key("ik"), &place()), Ok(Caller::Operator));
    for wrong in [key("other"), key(""), shown(&container_token("t1", 0)), shown(&user_token("u"))] {
        assert_eq!(check(Guard::Debug, &wrong, &place()), refused(401, "Unauthorized"));
    }
    assert!(Guard::Debug.check(&key("ik"), Secrets::default(), NOW, &place()).is_err(), "nobody passes");
}

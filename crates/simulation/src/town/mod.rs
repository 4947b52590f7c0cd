//! The profile `town`: the town object, its container and the process in it, agents, people.
//!
//! | Real | Modelled, and where its rules are named |
//! | --- | --- |
//! | `town_core::Town` with its SQL | the shell of the object: `object`, `effects` |
//! | `object_core::lifecycle`, `owed` | the shell of the container's object, and the platform: [`crate::container`], and what a town has of its own: `container`, `requests` |
//! | `sandbox_core`'s managed, drain, ack | `sandboxd town` around them: `process`, `hydration`, `agent`, `home`, `draining`, `folders` |
//! | | git: `git`; what agents do: `script`, `steps`; people and the forge: `user` |
//!
//! What goes wrong is in `faults`, what must hold in `promises`.

mod agent;
mod container;
mod coverage;
mod draining;
mod effects;
mod faults;
mod folders;
mod git;
mod home;
mod hydration;
mod object;
mod process;
mod promises;
mod requests;
mod script;
mod steps;
mod user;
mod world;

pub use coverage::pairs;

use crate::container::object::ContainerObject;
use crate::container::platform::Platform;
use crate::durable::Storage;
use crate::queue::Queue;
use crate::run::Run;
use git::Remote;
use object::TownObject;
use object_core::lifecycle;
use object_core::lifecycle::LifecycleLimits;
use object_core::time::DAY;
use object_core::time::HOUR;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use protocol::id::RigId;
use protocol::id::TownId;
use protocol::town::config::TownConfig;
use std::collections::BTreeMap;
use town_core::limits::Limits;
use town_core::message::Call;
use town_core::message::Input;
use town_core::message::call::TownCall;
use user::User;
use world::Event;
use world::World;

/// When a run begins, in milliseconds since the Unix epoch.
const START: i64 = 1_800_000_000_000;
/// A run of more events than this does not come to rest.
const STEPS_MAX: u64 = 400_000;
/// How long after the last fault all work is over: five tries of each bead with their cooldowns, twice, through patrol and triage.
const SETTLES_MS: i64 = 24 * HOUR;
/// From one look at whether it is to the next.
const LOOK_MS: i64 = 5 * MINUTE;

/// One run.
pub fn run(run: &mut Run) {
    let mut world = create(run);
    let busy_ms = world.run.random.between("busy", 5 * MINUTE, 40 * MINUTE);
    world.live_until(START + busy_ms);
    // Nothing goes wrong any more, and nobody asks for anything new.
    world.run.note(|| "the faults are off".to_owned());
    world.run.faults_on = false;
    world.user.rests = true;
    // What was put into its tables behind its back is seen at its next turn.
    drop(world.town_turn(Input::Woke));
    while world.town.viewers > 0 {
        world.viewer_acts();
    }
    let by = world.now + SETTLES_MS;
    while world.run.violation().is_none() && world.now < by && world.unsettled().is_some() {
        world.live_until(world.now + LOOK_MS);
    }
    if world.run.violation().is_none() {
        world.check_settled();
        world.acknowledge_all();
    }
    world.live_until(world.now + HOUR);
    let (rings, starts) = (world.town.shadow.rings, world.platform.starts);
    world.live_until(world.now + 3 * DAY);
    if world.run.violation().is_none() {
        world.check_rested(rings, starts);
    }
}

fn create(run: &mut Run) -> World<'_> {
    let storage = || Storage::new().expect("a database in memory");
    let (of_town, of_container) = (storage(), storage());
    database::migrate(&of_town.db, town_core::MIGRATIONS).expect("the schema of a town");
    database::migrate(&of_container.db, lifecycle::MIGRATIONS).expect("the schema of a container object");
    database::migrate(&of_container.db, container::MIGRATIONS).expect("the schema of a town's container");
    let mut limits = Limits::default();
    if run.random.percent("patient", 60) {
        // The patrol loses its patience within a run.
        (limits.gupp_warn_ms, limits.gupp_escalate_ms) = (3 * MINUTE, 5 * MINUTE);
        (limits.gupp_stop_ms, limits.stalled_ms) = (8 * MINUTE, 12 * MINUTE);
        limits.gupp_repeat_ms = 5 * MINUTE;
    }
    if run.random.percent("early-handoff", 30) {
        // A drain lasts for minutes: this is asked in most of them.
        (limits.drain_handoff_ms, limits.drain_handoff_retry_ms) = (40 * SECOND, 20 * SECOND);
    }
    limits.tick_active_ms = match run.random.below("ticks", 10) {
        0 => 5 * SECOND,
        1..=3 => 15 * SECOND,
        _ => 30 * SECOND,
    };
    let town = TownId::parse(&run.random.entropy("id").uuid()).expect("an id");
    let rig = RigId::parse(&run.random.entropy("id").uuid()).expect("an id");
    let mut world = World {
        now: START,
        queue: Queue::default(),
        town: TownObject::new(of_town, limits),
        container: ContainerObject::new(of_container, LifecycleLimits::default().of_town()),
        platform: Platform::default(),
        registry: Vec::new(),
        processes: BTreeMap::new(),
        disks: BTreeMap::new(),
        remote: Remote::default(),
        flights: BTreeMap::new(),
        asks: BTreeMap::new(),
        home_calls: BTreeMap::new(),
        user: User::new(rig.clone()),
        without_names: run.random.percent("without-names", 15),
        by_pull_request: run.random.percent("by-pull-request", 30),
        pull_requests: BTreeMap::new(),
        ids: 0,
        run,
    };
    // A town that could not be made is made again by its user: that needs no seed.
    world.run.faults_on = false;
    drop(world.ask_town(Call::Town(TownCall::Create { town, config: Box::new(TownConfig::default()) })));
    let (name, git_url, default_branch) =
        ("rig".to_owned(), "https://example.com/rig.git".to_owned(), "main".to_owned());
    drop(world.ask_town(Call::Town(TownCall::AddRig { rig, name, git_url, default_branch })));
    world.run.faults_on = true;
    world.queue.push(START + SECOND, Event::UserActs);
    world.queue.push(START + MINUTE, Event::ViewerActs);
    world.queue.push(START, Event::Weather);
    world
}

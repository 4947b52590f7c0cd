//! The profile `sessions`: session objects, their container and its processes, front ends, viewers.
//!
//! | Real | Modelled, and where its rules are named |
//! | --- | --- |
//! | `session_core::Session` with its SQL | the shell of the object: `object`, `call`, `group`, `sockets`, `viewers`, `effects` |
//! | `object_core::lifecycle`, `directory`, `owed`, `event_log` | the shell of the container object, and the platform: [`crate::container`], and what sessions have of their own: `container`, `cut_off` |
//! | `sandbox_core`'s job, turn, gap, ingest, spool, normalise, sse | sandboxd around them: `worker`, `task`, `attempt`, `report`, `driver`, `perform`, `link`, `disk` |
//! | | the agent server: `agent`, `script`; people and their front ends: `user`, `viewers` |
//!
//! What goes wrong is in `faults`, what must hold in `promises`.

mod agent;
mod attempt;
mod call;
mod container;
mod coverage;
mod cut_off;
mod disk;
mod driver;
mod effects;
mod faults;
mod group;
mod link;
mod object;
mod perform;
mod promises;
mod report;
mod script;
mod sockets;
mod task;
mod user;
mod viewers;
mod worker;
mod world;

pub use coverage::pairs;

use crate::container::object::ContainerObject;
use crate::container::platform::Platform;
use crate::durable::Storage;
use crate::queue::Queue;
use crate::run::Run;
use database::NativeDatabase;
use object::Object;
use object_core::directory;
use object_core::lifecycle;
use object_core::lifecycle::LifecycleLimits;
use object_core::time::DAY;
use object_core::time::MINUTE;
use object_core::time::SECOND;
use protocol::id::KiloSessionId;
use protocol::id::SessionId;
use sandbox_core::limits::Limits;
use session_core::Config;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use user::User;
use viewers::Viewer;
use world::Event;
use world::World;

/// When a run begins, in milliseconds since the Unix epoch.
const START: i64 = 1_800_000_000_000;
/// A run of more events than this does not come to rest.
const STEPS_MAX: u64 = 400_000;
/// How long after the last fault everything that was begun is over: an execution's 42 min, five tries of a callback (15 min and 5 timeouts), an hour's lease.
const SETTLES_MS: i64 = 110 * MINUTE;

/// The filters of viewers.
const QUERIES: [&[(&str, &str)]; 4] =
    [&[], &[("batch", "1")], &[("eventTypes", "kilocode,complete,error")], &[("replay", "false")]];

/// One run.
pub fn run(run: &mut Run) {
    let mut world = create(run);
    let busy_ms = world.run.random.between("busy", 10 * MINUTE, 90 * MINUTE);
    world.live_until(START + busy_ms);
    // Nothing goes wrong any more, and nobody asks for anything new.
    world.run.note(|| "the faults are off".to_owned());
    world.run.faults_on = false;
    world.users.iter_mut().for_each(|user| user.rests = true);
    let settled = world.now + SETTLES_MS;
    world.live_until(settled);
    if world.run.violation().is_none() {
        world.check_settled();
    }
    let rings: Vec<u64> = world.objects.iter().map(|object| object.shadow.rings).collect();
    let (container_rings, starts) = (world.container.rings, world.platform.starts);
    world.live_until(settled + 92 * DAY);
    if world.run.violation().is_none() {
        world.check_rested(&rings, container_rings, starts);
    }
}

fn create(run: &mut Run) -> World<'_> {
    let storage = || Storage::new().expect("a database in memory");
    let of_container = storage();
    database::migrate(&of_container.db, lifecycle::MIGRATIONS).expect("the schema of a container object");
    let directory = NativeDatabase::in_memory().expect("a database in memory");
    database::migrate(&directory, directory::MIGRATIONS).expect("the schema of a directory");
    let small_spool = run.random.percent("small-spool", 15);
    let mut limits = Limits::default();
    if small_spool {
        (limits.spool_bytes_max, limits.spool_resident_bytes_max) = (6_000, 2_000);
        limits.spool_slack_bytes = 4_000;
    }
    let mut config = Config { worker_url: "http://worker".to_owned(), limits: Default::default() };
    if run.random.percent("small-rounds", 30) {
        config.limits.replay_round_bytes = 2_000;
        config.limits.replay_connection_bytes = 20_000;
    }
    let sessions = if run.random.percent("two-sessions", 30) { 2 } else { 1 };
    let mut world = World {
        now: START,
        queue: Queue::default(),
        config,
        limits,
        small_spool,
        auto_commit: run.random.percent("auto-commit", 40),
        asks: run.random.percent("asks", 30),
        condense: run.random.percent("condense", 25),
        objects: Vec::new(),
        directory,
        container: ContainerObject::new(of_container, LifecycleLimits::default()),
        platform: Platform::default(),
        cut_off: Vec::new(),
        processes: BTreeMap::new(),
        disks: BTreeMap::new(),
        sockets: BTreeMap::new(),
        flights: BTreeMap::new(),
        callers: BTreeMap::new(),
        viewers: Vec::new(),
        users: Vec::new(),
        kept: BTreeMap::new(),
        ledgers: BTreeMap::new(),
        released: BTreeSet::new(),
        ids: 0,
        run,
    };
    for s in 0..sessions {
        let mut entropy = world.run.random.entropy("session");
        let id = SessionId::parse(&format!("agent_{}", entropy.uuid())).expect("an id");
        let kilo_session = KiloSessionId::parse(&entropy.kilo_session_id(START)).expect("an id");
        let callbacks = world.run.random.percent("callbacks", 80);
        world.objects.push(Object::new(id, kilo_session, storage(), callbacks));
        let auto_initiate = world.run.random.percent("auto-initiate", 60);
        world.users.push(User::new(auto_initiate));
        world.queue.push(START, Event::UserActs(s));
        for _ in 0..=world.run.random.below("viewers", 2) {
            let query = QUERIES[usize::try_from(world.run.random.below("query", 8)).unwrap_or(0).saturating_sub(4)];
            let viewer = world.viewers.len();
            world.viewers.push(Viewer::new(s, query));
            let at = START + world.run.random.between("viewer", 100, 60 * SECOND);
            world.queue.push(at, Event::ViewerConnects(viewer));
        }
    }
    world.queue.push(START, Event::Weather);
    world
}

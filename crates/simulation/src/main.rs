//! `simulate`: runs seeds on all cores, and says what it found, one JSON object per line.
//!
//! ```text
//! simulate --profile NAME --seeds N [--from S]         many seeds: `progress` lines, then a `summary`, and a `failure` if a promise was broken
//!          [--keep-going]                              a `failure` for each seed that breaks one, and no end before the last
//! simulate --profile NAME --seed S [--only LIST]       one seed with its trace, as text; LIST is `fault:n,fault:n…`
//! simulate --profile NAME --seed S --shrink            the shortest schedule of faults that was found
//! simulate --profiles                                  the names of the profiles
//! ```
//!
//! No clock is read: who starts this measures.

use serde_json::Value;
use serde_json::json;
use simulation::profile::Finished;
use simulation::profile::PROFILES;
use simulation::profile::Pair;
use simulation::profile::Profile;
use simulation::profile::Why;
use simulation::profile::quiet_panics;
use simulation::run::Occasion;
use simulation::run::Options;
use simulation::run::Tally;
use simulation::shrink::shrink;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;

/// So many seeds lie between two lines of progress.
const PROGRESS_SEEDS: u64 = 20;
/// So many runs may be spent on a shorter schedule.
const SHRINK_TRIES_MAX: u32 = 3_000;

fn main() -> ExitCode {
    quiet_panics();
    match arguments().and_then(|arguments| act(&arguments)) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

/// `--name value`, `--name`.
fn arguments() -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    let mut words = std::env::args().skip(1).peekable();
    while let Some(word) = words.next() {
        let name = word.strip_prefix("--").ok_or(format!("{word}: expected an option, such as --seeds"))?;
        let value = words.next_if(|next| !next.starts_with("--")).unwrap_or_default();
        found.insert(name.to_owned(), value);
    }
    Ok(found)
}

fn act(arguments: &BTreeMap<String, String>) -> Result<ExitCode, String> {
    if arguments.contains_key("profiles") {
        PROFILES.iter().for_each(|profile| println!("{}", profile.name));
        return Ok(ExitCode::SUCCESS);
    }
    let name = arguments.get("profile").map_or("sessions", String::as_str);
    let profile = Profile::find(name).ok_or(format!("there is no profile {name}: `--profiles` lists them"))?;
    match number(arguments, "seed")? {
        Some(seed) if arguments.contains_key("shrink") => shortest(profile, seed),
        Some(seed) => one(profile, seed, arguments.get("only").map(|list| occasions(list)).transpose()?),
        None => {
            let (seeds, from) = (number(arguments, "seeds")?.unwrap_or(100), number(arguments, "from")?.unwrap_or(0));
            Ok(many(profile, from, seeds, arguments.contains_key("keep-going")))
        }
    }
}

fn number(arguments: &BTreeMap<String, String>, name: &str) -> Result<Option<u64>, String> {
    let parse = |text: &String| text.parse().map_err(|_| format!("--{name} {text}: expected a whole number"));
    arguments.get(name).map(parse).transpose()
}

fn occasions(list: &str) -> Result<Vec<Occasion>, String> {
    let one = |text: &str| {
        let (name, n) = text.split_once(':').ok_or(format!("{text}: expected fault:number"))?;
        Ok((name.to_owned(), n.parse().map_err(|_| format!("{text}: expected fault:number"))?))
    };
    list.split(',').filter(|text| !text.is_empty()).map(one).collect()
}

/// Many seeds. The first one that breaks a promise ends it, the lowest of those that did.
fn many(profile: Profile, from: u64, seeds: u64, keep_going: bool) -> ExitCode {
    let next = AtomicU64::new(from);
    let end = from.saturating_add(seeds);
    let sum = Mutex::new((0_u64, Tally::default(), None::<(u64, Finished)>));
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let finished = profile.seed(seed, Options::default());
                    let mut sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    let (done, tally, failure) = &mut *sum;
                    *done = done.saturating_add(1);
                    tally.add(&finished.tally);
                    if done.is_multiple_of(PROGRESS_SEEDS) {
                        println!("{}", json!({"type": "progress", "seeds": done, "steps": tally.steps}));
                    }
                    if keep_going && finished.violation.is_some() {
                        println!("{}", failed(profile, seed, &finished));
                    }
                    if finished.violation.is_some() && failure.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
                        *failure = Some((seed, finished));
                    }
                    if failure.is_some() && !keep_going {
                        return;
                    }
                }
            });
        }
    });
    let (done, tally, failure) = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    println!("{}", summary(profile, done, &tally));
    let Some((seed, finished)) = failure else { return ExitCode::SUCCESS };
    println!("{}", failed(profile, seed, &finished));
    ExitCode::FAILURE
}

fn summary(profile: Profile, seeds: u64, tally: &Tally) -> Value {
    let in_words = |pairs: Vec<Pair>| -> Vec<Value> {
        pairs.into_iter().map(|(state, input, why)| json!([state, input, why.map(Why::words)])).collect()
    };
    let pairs: Vec<Value> = tally.pairs.iter().map(|((state, input), count)| json!([state, input, count])).collect();
    json!({
        "type": "summary", "profile": profile.name, "seeds": seeds, "steps": tally.steps,
        "simulatedMs": tally.simulated_ms, "faults": tally.faults, "pairs": pairs, "never": in_words(profile.never(tally)),
        "surprises": in_words(profile.surprises(tally)),
    })
}

fn failed(profile: Profile, seed: u64, finished: &Finished) -> Value {
    let violation = finished.violation.as_ref();
    json!({
        "type": "failure", "profile": profile.name, "seed": seed, "step": finished.tally.steps,
        "promise": violation.map(|violation| violation.promise), "what": violation.map(|violation| &violation.what),
        "faults": finished.fired.len(),
    })
}

/// One seed, with its trace.
fn one(profile: Profile, seed: u64, only: Option<Vec<Occasion>>) -> Result<ExitCode, String> {
    let only = only.map(|list| list.into_iter().collect());
    let finished = profile.seed(seed, Options { trace: true, only });
    finished.trace.iter().for_each(|line| println!("{line}"));
    println!("{}", failed(profile, seed, &finished));
    Ok(if finished.violation.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn shortest(profile: Profile, seed: u64) -> Result<ExitCode, String> {
    let finished = profile.seed(seed, Options::default());
    let Some(violation) = &finished.violation else { return Err(format!("seed {seed} breaks no promise")) };
    let kept = shrink(profile, seed, violation.promise, &finished.fired, SHRINK_TRIES_MAX);
    let list: Vec<String> = kept.iter().map(|(name, n)| format!("{name}:{n}")).collect();
    println!(
        "{}",
        json!({"type": "shrunk", "seed": seed, "faults": finished.fired.len(), "kept": kept.len(), "only": list.join(",")})
    );
    Ok(ExitCode::FAILURE)
}

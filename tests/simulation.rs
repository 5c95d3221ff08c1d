//! Thousands of seeded histories: random services in a random world, clients that change their
//! minds, and at the end a world that turns kind and a shutdown after which nothing may be left.
//!
//! `SEEDS=` how many, `EVENTS=` how many each is long, `SEED=` plays a single one. One that fails is
//! made as short as it can be, and printed as a story for `tests/golden/`.

#[path = "common/declare.rs"]
mod declare;
#[path = "common/player.rs"]
mod player;
#[path = "common/rng.rs"]
mod rng;
#[path = "common/shadow.rs"]
mod shadow;
#[path = "common/shrink.rs"]
mod shrink;
#[path = "common/story.rs"]
mod story;
#[path = "common/world.rs"]
mod world;

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use player::{Mood, Player};
use shrink::{End, as_story, quietly, shrink};
use story::Line;
use world::World;
use zinit::record::{Recorder, replay};

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Plays one seed; gives the number of events the engine was told, or the story of what failed.
fn play(seed: u64, events: u64, mood: Mood) -> Result<u64, String> {
    let played = quietly(move || {
        let mut player = Player::new(seed, mood);
        player.play(events);
        player.stage.world.events
    });
    played.map_err(|_| {
        let mut player = Player::told(seed, mood);
        let again = quietly(AssertUnwindSafe(|| player.play(events)));
        assert!(again.is_err(), "seed {seed} fails no more when it is told");
        let (lines, end) = player.history();
        as_story(&shrink(lines, end), end)
    })
}

/// Plays all seeds, or the one that is asked for.
fn sweep(mood: Mood) {
    let length = setting("EVENTS").unwrap_or(200);
    let seeds = match setting("SEED") {
        Some(seed) => seed..seed + 1,
        // Each mood has half of them.
        None => 0..setting("SEEDS").unwrap_or(2000) / 2,
    };
    let begin = Instant::now();
    let mut events = 0;
    for seed in seeds.clone() {
        match play(seed, length, mood) {
            Ok(more) => events += more,
            Err(story) => panic!("{mood:?} seed {seed} of {length} events fails:\n\n{story}"),
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{mood:?}: {} histories, {events} events in {seconds:.1} s, {:.0} a second",
        seeds.end - seeds.start,
        events as f64 / seconds,
    );
}

#[test]
fn no_history_breaks_a_promise() {
    sweep(Mood::Wild);
}

/// Where nothing is wrong for good, everything that is wanted comes up.
#[test]
fn a_kind_world_comes_up() {
    sweep(Mood::Kind);
}

/// What an engine remembers is all there is: one made from it, by way of a text, goes on as the
/// first does.
fn replays(world: &World) {
    let recorder = world.recorder.as_ref().expect("it is on");
    let text = recorder.text(&world.supervisor);
    assert!(!text.contains("THIS IS NOT"), "{text}");
    assert_eq!(replay(&text).as_ref(), Ok(&text));
}

/// From any moment on.
#[test]
fn every_moment_can_be_gone_on_from() {
    for seed in 0..setting("SEEDS").unwrap_or(2000).min(800) / 2 {
        let mood = if seed % 2 == 0 {
            Mood::Wild
        } else {
            Mood::Kind
        };
        let mut player = Player::new(seed, mood);
        player.stage.world.with_twins = true;
        player.play(200);
    }
}

#[test]
fn every_history_replays_from_its_record() {
    for seed in 0..setting("SEEDS").unwrap_or(2000).min(5000) / 20 {
        let mood = if seed % 2 == 0 {
            Mood::Wild
        } else {
            Mood::Kind
        };
        let mut player = Player::new(seed, mood);
        player.stage.world.recorder = Some(Recorder::keeping(50));
        player.play(200);
        replays(&player.stage.world);
    }
}

/// A line that was drawn is a line that can be read.
#[test]
fn every_line_can_be_read_again() {
    for seed in 0..200 {
        let mut player = Player::told(seed, Mood::Wild);
        player.play(200);
        for line in player.history().0 {
            let text = line.to_string();
            let read = Line::parse(&text).expect("a line");
            assert_eq!(read.to_string(), text);
            assert_eq!(format!("{read:?}"), format!("{line:?}"));
        }
    }
}

/// A promise that nobody gives is soon broken, and the shortest story of it is found.
#[test]
fn a_story_that_fails_is_made_short() {
    let text = "new world salt=9
        service a restart=always delay=10 class=system
        service b requires=a stop_timeout=20 oneshot
        service c after=b
        behave c lives=3 leaves=2
        reload
        advance 100
        stop c wait
        restart a wait
        kill a 1
        advance 50
        shutdown";
    let lines: Vec<Line> = text.lines().filter_map(Line::parse).collect();
    // It is not so that everything comes up, least of all without the first service.
    let short = shrink(lines, End::Up);
    let words: Vec<String> = short.iter().map(ToString::to_string).collect();
    assert_eq!(words, ["new world", "service b requires=a"]);
    let story = as_story(&short, End::Up);
    assert!(story.starts_with("# not up: "), "{story}");
    assert!(story.contains("\n0ms  b  Inactive → Blocked\n"), "{story}");
}

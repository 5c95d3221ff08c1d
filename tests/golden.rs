//! Plays every story of `tests/golden/`: the engine's behaviour, to be read.
//!
//! `REWRITE=1 cargo test --test golden` writes the traces anew; then read the difference.

#[path = "common/declare.rs"]
mod declare;
#[path = "common/golden.rs"]
mod golden;
#[path = "common/story.rs"]
mod story;
#[path = "common/world.rs"]
mod world;

use std::path::Path;

#[test]
fn every_story_goes_as_it_is_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let entries = std::fs::read_dir(&folder).expect("the folder of stories");
    let mut stories: Vec<_> = entries
        .map(|entry| entry.expect("a story").path())
        .collect();
    stories.sort();
    assert!(!stories.is_empty(), "no stories in {}", folder.display());
    for story in stories {
        golden::play(&story);
    }
}

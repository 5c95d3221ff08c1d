//! Cells of the engine's behaviour that no story of `tests/golden` can tell.

#[test]
fn nothing_yet() {}

//! Did you mean …? The nearest of some candidates to a mistyped word.

/// Longer words are not compared: nobody mistypes one, and the tables stay on the stack.
const LONGEST_BYTES: usize = 64;

/// The candidate that a third of the word's letters, at most, turn the word into; the first of equals.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: &mut dyn Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let mut limit = word.len() / 3;
    let mut best = None;
    for candidate in candidates {
        if limit == 0 || candidate == word || candidate.len().abs_diff(word.len()) > limit {
            continue;
        }
        let distance = distance(word.as_bytes(), candidate.as_bytes());
        if distance < limit || (distance == limit && best.is_none()) {
            limit = distance;
            best = Some(candidate);
        }
    }
    best
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
fn distance(from: &[u8], to: &[u8]) -> usize {
    if from.len() > LONGEST_BYTES || to.len() > LONGEST_BYTES {
        return usize::MAX;
    }
    let mut before = [0; LONGEST_BYTES + 1];
    let mut above: [usize; LONGEST_BYTES + 1] = std::array::from_fn(|column| column);
    for row in 1..=from.len() {
        let mut here = [row; LONGEST_BYTES + 1];
        for column in 1..=to.len() {
            let replaced = above[column - 1] + usize::from(from[row - 1] != to[column - 1]);
            here[column] = replaced.min(above[column] + 1).min(here[column - 1] + 1);
            if row > 1
                && column > 1
                && from[row - 1] == to[column - 2]
                && from[row - 2] == to[column - 1]
            {
                here[column] = here[column].min(before[column - 2] + 1);
            }
        }
        before = above;
        above = here;
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_near_another_word_is_not() {
        let words = [
            "restart",
            "restart_delay_ms",
            "restart_delay_max_ms",
            "env",
            "exec",
        ];
        let near = |word| nearest(word, &mut words.into_iter());
        assert_eq!(near("restrat"), Some("restart"));
        assert_eq!(near("restart_delay"), Some("restart_delay_ms"));
        assert_eq!(near("restart-delay-max-ms"), Some("restart_delay_max_ms"));
        assert_eq!(near("exce"), Some("exec"));
        assert_eq!(near("evn"), Some("env"));
        assert_eq!(near("user"), None);
        assert_eq!(nearest("a", &mut ["b"].into_iter()), None);
        assert_eq!(near(&"x".repeat(1000)), None);
    }
}

//! Texts of which some words differ from run to run.

/// Does this text fit that one? In it `<u64>` stands for digits, `<text>` for any text but none,
/// and each of `words` for what it is in this run.
pub(crate) fn fits(pattern: &str, text: &str, words: &[(&str, String)]) -> bool {
    let Some((before, (word, after))) = pattern
        .split_once('<')
        .and_then(|(before, rest)| Some((before, rest.split_once('>')?)))
    else {
        return pattern == text;
    };
    let Some(rest) = text.strip_prefix(before) else {
        return false;
    };
    if let Some((_, value)) = words.iter().find(|(known, _)| *known == word) {
        let rest = rest.strip_prefix(value.as_str());
        return rest.is_some_and(|rest| fits(after, rest, words));
    }
    assert!(matches!(word, "u64" | "text"), "what is <{word}>?");
    let ends = rest
        .char_indices()
        .map(|(at, letter)| at + letter.len_utf8());
    ends.take_while(|end| word == "text" || rest[..*end].bytes().all(|byte| byte.is_ascii_digit()))
        .any(|end| fits(after, &rest[end..], words))
}

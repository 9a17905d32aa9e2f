//! What follows a way into a VM belongs to the program that is run, and is not read as anything of ours.

use super::Way;
use crate::grammar::{Line, outside_quotes};

/// The line up to the way, and the words that are passed on; `None` if it goes no way.
pub(crate) fn split(line: &Line) -> Option<(Line, Vec<String>)> {
    match line.arguments() {
        Some(arguments) => {
            let at = way_at(&arguments)?;
            let (head, rest) = arguments.split_at_checked(at.checked_add(1)?)?;
            Some((Line::from_arguments(head), passed(rest.iter().map(|word| (*word).to_owned()).collect())))
        }
        None => {
            let places = places(line.text());
            let words: Vec<&str> =
                places.iter().filter_map(|(from, to)| line.text().get(*from..*to)).collect();
            let (_, end) = places.get(way_at(&words)?)?;
            let (head, rest) = line.text().split_at_checked(*end)?;
            let rest = self::places(rest).into_iter().filter_map(|(from, to)| rest.get(from..to)).map(plain);
            Some((Line::from_text(head), passed(rest.collect())))
        }
    }
}

/// Where the way stands: the first such word that is not the value of something.
fn way_at(words: &[&str]) -> Option<usize> {
    if *words.first()? != "vm" {
        return None;
    }
    let is_value = |before: &str| before.ends_with(['=', '~', '<', '>', ',', '!', '(']);
    let mut pairs = words.iter().zip(words.iter().skip(1)).enumerate();
    let found = pairs.find(|(_, (before, word))| Way::of(word).is_some() && !is_value(before));
    found.and_then(|(at, _)| at.checked_add(1))
}

/// The first `--` is ours.
fn passed(mut words: Vec<String>) -> Vec<String> {
    if words.first().is_some_and(|word| word == "--") {
        words.remove(0);
    }
    words
}

/// Where words that are separated by blanks begin and end.
fn places(text: &str) -> Vec<(usize, usize)> {
    let mut places = Vec::new();
    let mut start = 0;
    for (at, _) in outside_quotes(text).filter(|(_, c)| c.is_whitespace()) {
        places.push((start, at));
        start = at.saturating_add(1);
    }
    places.push((start, text.len()));
    places.retain(|(from, to)| from < to);
    places
}

/// A word without its quotes.
fn plain(word: &str) -> String {
    let mut quote = None;
    let mut text = String::new();
    for c in word.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if matches!(c, '\'' | '"') => quote = Some(c),
            _ => text.push(c),
        }
    }
    text
}

/// The words as they are typed.
pub(crate) fn quoted(words: &[String]) -> String {
    let mut text = String::new();
    for word in words {
        text.push_str(if text.is_empty() { "-- " } else { " " });
        let is_plain =
            !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || matches!(c, '\'' | '"'));
        match word {
            word if is_plain => text.push_str(word),
            word => text.push_str(&format!("'{}'", word.replace('\'', "'\"'\"'"))),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_text(text: &str) -> Option<(String, Vec<String>)> {
        split(&Line::from_text(text)).map(|(head, words)| (head.text().to_owned(), words))
    }

    #[test]
    fn what_follows_is_passed_on_as_it_is() {
        let (head, words) = of_text("vm 'my desk' ssh -- -l qvd 'ls -la; a=\"b\"'").unwrap();
        assert_eq!(
            (head.as_str(), words),
            ("vm 'my desk' ssh", vec!["-l".into(), "qvd".into(), "ls -la; a=\"b\"".into()])
        );
        let line = Line::from_arguments(&["vm", "desk", "ssh", "-l", "qvd", "ls -la"]);
        let (head, words) = split(&line).unwrap();
        assert_eq!((head.text(), words), ("vm desk ssh", vec!["-l".into(), "qvd".into(), "ls -la".into()]));
        assert_eq!(of_text("vm desk spy").unwrap().1, Vec::<String>::new());
        for other in ["vm name= ssh get", "vm get", "user name=x get", "vm 'ssh' get", "vm", ""] {
            assert_eq!(of_text(other), None, "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_is_read_again(words in proptest::collection::vec("[ -~]{0,8}", 0..5)) {
            let line = Line::from_text(&format!("vm desk ssh {}", quoted(&words)));
            proptest::prop_assert_eq!(split(&line).unwrap().1, words);
        }
    }
}

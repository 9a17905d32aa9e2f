//! `qa4 manual`: the manual page, of the same texts as the help.

use std::fmt::Write as _;

use clap::CommandFactory;

use crate::error;
use crate::help;
use crate::noun::NOUNS;
use crate::options::Options;

/// The manual page `qa4(1)`, in the language of `man`.
pub fn page() -> String {
    let mut page = format!(".TH QA4 1 \"\" \"qa4 {}\" \"QVD\"\n", env!("CARGO_PKG_VERSION"));
    section(&mut page, "NAME");
    page.push_str("qa4 \\- manage a QVD installation through its API\n");
    section(&mut page, "SYNOPSIS");
    for form in [
        "qa4 [options] OBJECT [SELECTION] ACTION [ARGUMENTS]",
        "qa4 [options]",
        "qa4 [options] --file SCRIPT",
    ] {
        // Writing to a string cannot fail.
        let _ = writeln!(page, ".br\n{}", escaped(form));
    }
    section(&mut page, "DESCRIPTION");
    verbatim(&mut page, &help::overview());
    section(&mut page, "OPTIONS");
    for argument in Options::command().get_arguments().filter(|a| !a.is_positional()) {
        let short = argument.get_short_and_visible_aliases().unwrap_or_default();
        let long = argument.get_long_and_visible_aliases().unwrap_or_default();
        let names = short.iter().map(|s| format!("-{s}")).chain(long.iter().map(|l| format!("--{l}")));
        let mut names = names.collect::<Vec<_>>().join(", ");
        if argument.get_action().takes_values() {
            let value = argument.get_value_names().and_then(|names| names.first());
            let _ = write!(names, " {}", value.map_or("VALUE", |v| v.as_str()));
        }
        let text = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(page, ".TP\n{}\n{}", escaped(&names), escaped(&text));
    }
    section(&mut page, "SELECTIONS");
    verbatim(&mut page, help::SELECTIONS);
    for noun in NOUNS {
        section(&mut page, &format!("OBJECT {}", noun.word.to_uppercase()));
        verbatim(&mut page, &help::about(noun));
    }
    section(&mut page, "EXIT STATUS");
    for (code, meaning) in error::EXIT_CODES {
        let _ = writeln!(page, ".TP\n{code}\n{}", escaped(meaning));
    }
    section(&mut page, "FILES");
    for (file, text) in help::FILES {
        let _ = writeln!(page, ".TP\n{}\n{}", escaped(file), escaped(text));
    }
    section(&mut page, "ENVIRONMENT");
    for (variable, text) in help::VARIABLES {
        let _ = writeln!(page, ".TP\n{}\n{}", escaped(variable), escaped(text));
    }
    page
}

fn section(page: &mut String, title: &str) {
    let _ = writeln!(page, ".SH {title}");
}

/// A text whose lines stay as they are.
fn verbatim(page: &mut String, text: &str) {
    page.push_str(".nf\n");
    for line in text.trim_end().lines() {
        let _ = writeln!(page, "{}", escaped(line));
    }
    page.push_str(".fi\n");
}

/// A line that means nothing else to `man` than what it says.
fn escaped(line: &str) -> String {
    let plain = line.replace('\\', "\\e").replace('-', "\\-");
    // A request, if it stood at the beginning.
    if plain.starts_with(['.', '\'']) { format!("\\&{plain}") } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_everything_and_holds_no_stray_request() {
        let page = page();
        let known = [".TH", ".SH", ".TP", ".br", ".nf", ".fi"];
        for line in page.lines() {
            let request = line.split(' ').next().unwrap_or_default();
            assert!(!line.starts_with(['.', '\'']) || known.contains(&request), "{line}");
        }
        for part in
            ["\\-\\-dry\\-run", "OBJECT VM", "key~pattern", "vm [SELECTION] start", "QVD_URL", "\\-\\-pin"]
        {
            assert!(page.contains(part), "{part}");
        }
        assert_eq!(page.matches(".nf\n").count(), page.matches(".fi\n").count());
        assert_eq!(escaped(".a\\b-c"), "\\&.a\\eb\\-c");
    }
}

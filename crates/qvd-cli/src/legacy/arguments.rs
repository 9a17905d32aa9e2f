//! The words after `qa`.

use qvd_model::filter::{Filter, Operator};

use super::commands::{self, Subcommand, Takes};

/// What the words ask for.
#[derive(Debug)]
pub(super) struct Arguments {
    pub(super) command: &'static Subcommand,
    /// `KEY=VALUE`, in their order.
    pub(super) pairs: Vec<(String, String)>,
    /// Words without a value.
    pub(super) keys: Vec<String>,
    /// What follows `--`.
    pub(super) passed: Vec<String>,
    /// Which objects, in the names of `qa`.
    pub(super) filter: Option<Filter>,
    /// The tenant, by number or name.
    pub(super) tenant: Option<String>,
    /// The same as a selection, for those above tenants.
    pub(super) scope: Option<(&'static str, Filter)>,
    pub(super) force: bool,
    pub(super) quiet: bool,
    /// What is not done is a failure.
    pub(super) strict: bool,
    /// What is sent to the API is told.
    pub(super) debug: bool,
    /// Over the database, without an API.
    pub(super) direct: bool,
    pub(super) help: bool,
}

/// Words that ask for nothing that can be done.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) problems: Vec<String>,
    pub(super) help: String,
}

/// The options; the first one of a letter is the short one.
const LONG: [&str; 8] = ["filter", "tenant", "force", "quiet", "debug", "direct", "strict", "help"];

/// Reads the words.
pub(super) fn parse(words: &[String]) -> Result<Arguments, Fault> {
    let mut problems = Vec::new();
    let (mut filter, mut tenant) = (None, None);
    let (mut force, mut quiet, mut help) = (false, false, false);
    let (mut strict, mut debug, mut direct) = (false, false, false);
    let mut plain: Vec<&String> = Vec::new();
    let mut passed = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            passed = rest.cloned().collect();
            break;
        }
        let Some(option) = word.strip_prefix('-').filter(|option| !option.is_empty()) else {
            plain.push(word);
            continue;
        };
        let (name, glued) = match option.strip_prefix('-').unwrap_or(option).split_once('=') {
            Some((name, value)) if option.starts_with('-') => (name, Some(value.to_owned())),
            _ => (option.strip_prefix('-').unwrap_or(option), None),
        };
        let name = name.to_ascii_lowercase();
        let long: Vec<&str> = LONG.into_iter().filter(|l| l.starts_with(&name)).collect();
        let known = match (option.starts_with('-'), long.as_slice()) {
            // `--f` may be filter or force; `-f` is the filter.
            (false, _) => LONG.into_iter().find(|l| l.get(..1) == Some(name.as_str())),
            (true, [only]) => Some(*only),
            (true, _) => None,
        };
        let mut value = |what: &str| {
            let given = glued.clone().or_else(|| rest.next().cloned());
            given.ok_or_else(|| problems.push(format!("{word} needs {what}"))).ok()
        };
        match known {
            Some("filter") => filter = value("a filter, K=V,K=V"),
            Some("tenant") => tenant = value("a tenant"),
            Some("force") => force = true,
            Some("quiet") => quiet = true,
            Some("debug") => debug = true,
            Some("direct") => direct = true,
            Some("strict") => strict = true,
            Some("help") => help = true,
            _ => problems.push(format!("unknown option {word}")),
        }
    }
    let command = match plain.as_slice() {
        [object, word, ..] => commands::find(object, word),
        _ => None,
    };
    let Some(command) = command else {
        if !help && !plain.is_empty() {
            let said = plain.iter().map(|w| w.as_str()).collect::<Vec<_>>().join(" ");
            problems.push(format!("unknown command: {said}"));
        }
        return Err(Fault { problems, help: commands::list() });
    };
    let selection = filter.map(|text| selection(&text)).transpose();
    let mut arguments = Arguments {
        command,
        pairs: Vec::new(),
        keys: Vec::new(),
        passed,
        filter: None,
        tenant,
        scope: None,
        force,
        quiet,
        strict,
        debug,
        direct,
        help,
    };
    match selection {
        Ok(filter) => arguments.filter = filter,
        Err(problem) => problems.push(problem),
    }
    for word in plain.into_iter().skip(2) {
        if command.takes == Takes::Keys {
            arguments.keys.extend(word.split(',').filter(|key| !key.is_empty()).map(str::to_owned));
        } else if let Err(problem) = pairs(command, word, &mut arguments.pairs) {
            problems.push(problem);
        }
    }
    if !help {
        problems.extend(missing(command, &arguments.pairs));
    }
    if problems.is_empty() { Ok(arguments) } else { Err(Fault { problems, help: command.help() }) }
}

/// `K=V` or, where the next name is known, `K=V,K=V`.
fn pairs(command: &Subcommand, word: &str, into: &mut Vec<(String, String)>) -> Result<(), String> {
    let known = |name: &str| {
        let required = command.required.iter().flat_map(|names| names.split('|'));
        required.chain(command.optional.iter().copied()).any(|n| n == name)
    };
    let mut rest = word;
    loop {
        let (name, value) =
            rest.split_once('=').ok_or_else(|| format!("`{rest}` is not of the form KEY=VALUE"))?;
        let next = value.match_indices(',').find(|(at, _)| {
            let after = value.get(at + 1..).unwrap_or_default();
            after.split_once('=').is_some_and(|(name, _)| known(name))
        });
        let end = next.map_or(value.len(), |(at, _)| at);
        if command.takes != Takes::AnyPairs && !known(name) {
            return Err(format!("unknown argument `{name}`"));
        }
        into.push((name.to_owned(), value.get(..end).unwrap_or_default().to_owned()));
        match next {
            Some((at, _)) => rest = value.get(at + 1..).unwrap_or_default(),
            None => return Ok(()),
        }
    }
}

fn missing(command: &Subcommand, pairs: &[(String, String)]) -> Vec<String> {
    let given = |name: &str| pairs.iter().any(|(n, _)| n == name);
    let absent = command.required.iter().filter(|names| !names.split('|').any(given));
    let mut problems: Vec<String> =
        absent.map(|n| format!("{} is missing", n.replace('|', " or "))).collect();
    if command.takes == Takes::AnyPairs && pairs.is_empty() {
        problems.push("KEY=VALUE is missing".to_owned());
    }
    problems
}

/// `K=V,K=V`: all of them, with `*` for any text and `?` for one character.
fn selection(text: &str) -> Result<Filter, String> {
    let tests = text.split(',').map(|test| {
        let (key, value) =
            test.split_once('=').ok_or_else(|| format!("`{test}` is not of the form KEY=VALUE"))?;
        let key = key.trim();
        let key = key.strip_prefix("property.").unwrap_or(key);
        if !value.contains(['*', '?']) {
            return Ok(Filter::test(key, Operator::Equal, value));
        }
        let mut pattern = String::new();
        for c in value.chars() {
            match c {
                '*' => pattern.push('%'),
                '?' => pattern.push('_'),
                '%' | '_' | '\\' => pattern.extend(['\\', c]),
                c => pattern.push(c),
            }
        }
        Ok(Filter::test(key, Operator::Like, pattern))
    });
    let tests: Vec<Filter> = tests.collect::<Result<_, String>>()?;
    Ok(tests.into_iter().reduce(Filter::and).unwrap_or(Filter::all()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use qvd_model::filter::text::print;

    use super::*;

    fn read(line: &[&str]) -> Result<Arguments, Fault> {
        parse(&line.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_stand_anywhere_in_any_case_and_shortened() {
        let read =
            read(&["user", "-F", "login=rowan", "propset", "beverage=beer", "--quie", "--forc"]).unwrap();
        assert_eq!((read.command.object, read.command.word), ("user", "propset"));
        assert_eq!(read.pairs, [("beverage".to_owned(), "beer".to_owned())]);
        assert!(read.force && read.quiet);
        assert_eq!(print(&read.filter.unwrap()), "login=rowan");
    }

    #[test]
    fn filters_have_the_wildcards_of_unix() {
        let read = read(&["vm", "list", "-f", "user=al*,state=running,name=50%_?"]).unwrap();
        assert_eq!(print(&read.filter.unwrap()), "user~al%, state=running, name~50\\%\\__");
    }

    #[test]
    fn pairs_may_be_joined_by_commas_where_names_are_known() {
        let ssl = read(&["config", "ssl", "key=/a,b/key.pem,cert=/c.pem"]).unwrap();
        assert_eq!(
            ssl.pairs,
            [("key".to_owned(), "/a,b/key.pem".to_owned()), ("cert".to_owned(), "/c.pem".to_owned())]
        );
        let set = read(&["config", "set", "l7r.auth.plugins=auto,ldap"]).unwrap();
        assert_eq!(set.pairs, [("l7r.auth.plugins".to_owned(), "auto,ldap".to_owned())]);
    }

    #[test]
    fn faults_are_listed_and_the_help_follows() {
        for (line, problem) in [
            (&["vm", "add", "name=a"][..], "user or user_id is missing"),
            (&["vm", "fly"], "unknown command: vm fly"),
            (&["user", "add", "login"], "`login` is not of the form KEY=VALUE"),
            (&["host", "add", "name=a", "address=b", "color=c"], "unknown argument `color`"),
            (&["vm", "list", "-f"], "-f needs a filter"),
            (&["vm", "list", "-f", "name"], "`name` is not of the form KEY=VALUE"),
            (&["vm", "list", "--f", "a=b"], "unknown option --f"),
        ] {
            let fault = read(line).unwrap_err();
            assert!(fault.problems.iter().any(|p| p.contains(problem)), "{line:?}: {:?}", fault.problems);
            assert!(fault.help.contains("qa "), "{line:?}");
        }
        assert!(read(&["--help"]).unwrap_err().problems.is_empty());
        assert!(read(&["config", "ssl", "--help"]).unwrap().help);
        let ssh = read(&["vm", "ssh", "-f", "name=myVM", "--", "-l", "qvd"]).unwrap();
        assert_eq!(ssh.passed, ["-l", "qvd"]);
    }

    proptest! {
        #[test]
        fn no_words_make_it_fail(words in proptest::collection::vec("[a-z=,*?-]{0,8}|vm|user|list|add|config|set", 0..6)) {
            let _ = parse(&words);
        }
    }
}

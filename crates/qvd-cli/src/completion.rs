//! What may stand at the end of a line that is not finished: for the shell, and for bash, zsh and fish.
//!
//! Everything comes from the registry except the names of objects, which are asked of the API.

use clap::CommandFactory;
use qvd_model::action::{self, Access, Entity, Kind, Object};
use qvd_model::config;
use qvd_model::filter::Operator;
use qvd_model::filter::lexer::{Token, TokenKind, quote, tokens};

use crate::grammar::SESSION_WORDS;
use crate::help;
use crate::noun::{NOUNS, Noun, noun};
use crate::options::Options;

/// Names of objects that may stand somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Names {
    /// Of which objects.
    pub object: Object,
    /// The field that holds them.
    pub field: &'static str,
}

/// What may stand at the end of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Where the unfinished word begins.
    pub start: usize,
    /// The unfinished word, without its quote.
    pub typed: String,
    words: Vec<&'static str>,
    /// Names that may stand there too.
    pub names: Vec<Names>,
}

/// The shells that have a script.
pub const SHELLS: &[&str] = &["bash", "zsh", "fish", "powershell"];

impl Wanted {
    /// The words that continue what is typed; `names` are those of the objects.
    pub fn candidates(&self, names: &[String]) -> Vec<String> {
        let words = self.words.iter().map(|word| (*word).to_owned());
        let names = names.iter().map(|name| (name.as_str(), quote(name)));
        let fits = |text: &str| text.starts_with(&self.typed);
        let mut all: Vec<String> = words.filter(|word| fits(word)).collect();
        all.extend(names.filter(|(plain, _)| fits(plain)).map(|(_, quoted)| quoted));
        all.dedup();
        all
    }
}

/// What may stand at the end of `line`.
pub fn wanted(line: &str) -> Wanted {
    let (before, start, typed) = split(line);
    let mut wanted = Wanted { start, typed, words: Vec::new(), names: Vec::new() };
    let Some((first, rest)) = before.split_first() else {
        wanted.words = NOUNS.iter().map(|n| n.word).chain(SESSION_WORDS.iter().copied()).collect();
        return wanted;
    };
    match word(first) {
        Some("usage" | "help") => wanted.words = help::topics(),
        Some("completion") => wanted.words = SHELLS.to_vec(),
        Some(word) => {
            if let Some(noun) = noun(word) {
                subject(&mut wanted, noun, rest);
            }
        }
        None => {}
    }
    wanted
}

/// The finished tokens, and the unfinished word with its place.
fn split(line: &str) -> (Vec<Token>, usize, String) {
    match tokens(line) {
        Ok(mut all) => match all.pop_if(|last| last.span.end == line.len() && word(last).is_some()) {
            Some(last) => {
                let typed = word(&last).unwrap_or_default().to_owned();
                (all, last.span.start, typed)
            }
            None => (all, line.len(), String::new()),
        },
        // The quote that is still open.
        Err(open) => {
            let finished = tokens(line.get(..open.at).unwrap_or_default()).unwrap_or_default();
            let typed = line.get(open.at + 1..).unwrap_or_default().to_owned();
            (finished, open.at, typed)
        }
    }
}

fn word(token: &Token) -> Option<&str> {
    match &token.kind {
        TokenKind::Word(word) => Some(word),
        _ => None,
    }
}

fn sign(token: &Token) -> Option<&'static str> {
    match token.kind {
        TokenKind::Sign(sign) => Some(sign),
        _ => None,
    }
}

fn text(token: &Token) -> Option<&str> {
    match &token.kind {
        TokenKind::Word(text) | TokenKind::Quoted(text) => Some(text),
        TokenKind::Sign(_) => None,
    }
}

fn subject(wanted: &mut Wanted, noun: &'static Noun, rest: &[Token]) {
    let entity = action::entity(noun.object);
    let is_verb = |at: usize| {
        let token = rest.get(at)?;
        let compared = rest.get(at + 1).and_then(sign).is_some_and(|s| Operator::parse(s).is_some());
        let is_value = at > 0 && rest.get(at - 1).and_then(sign).is_some_and(|s| !matches!(s, ")" | "]"));
        let verb = noun.verbs.iter().find(|verb| word(token) == Some(**verb))?;
        (!compared && !is_value).then_some((at, *verb))
    };
    match (0..rest.len()).find_map(is_verb) {
        Some((at, verb)) => tail(wanted, noun, verb, rest.get(at + 1..).unwrap_or_default()),
        None => selection(wanted, noun, entity, rest),
    }
}

/// Before the verb.
fn selection(wanted: &mut Wanted, noun: &'static Noun, entity: &'static Entity, before: &[Token]) {
    if let Some(field) = open_comparison(before) {
        return values(wanted, entity, field);
    }
    let last = before.last();
    if last.is_none_or(|token| matches!(token.kind, TokenKind::Sign("," | ";" | "(" | "!"))) {
        let action = action::action_for(noun.object, action::Verb::List);
        let filters = entity.fields.iter().filter(|f| action.is_some_and(|a| entity.accepts_filter(a, f)));
        wanted.words.extend(filters.map(|f| f.name));
        wanted.words.extend(entity.aliases.iter().map(|(alias, _)| *alias));
        wanted.words.sort_unstable();
        values(wanted, entity, entity.key);
    }
    if last.is_none_or(|token| !matches!(token.kind, TokenKind::Sign("," | ";" | "(" | "!"))) {
        wanted.words.splice(0..0, noun.verbs.iter().copied());
    }
}

/// The field whose value comes next: after a comparison, also inside its brackets.
fn open_comparison(before: &[Token]) -> Option<&str> {
    let open = before.iter().rposition(|token| matches!(sign(token), Some("[" | "]")));
    let end = match open {
        Some(at) if sign(before.get(at)?) == Some("[") => at,
        _ => before.len(),
    };
    let (operator, rest) = before.get(..end)?.split_last()?;
    sign(operator).and_then(Operator::parse)?;
    text(rest.last()?)
}

/// After the verb.
fn tail(wanted: &mut Wanted, noun: &'static Noun, verb: &str, before: &[Token]) {
    let entity = action::entity(noun.object);
    let of_property = before.first().and_then(word) == Some("property");
    let fields = |entity: &'static Entity| entity.fields.iter().map(|f| f.name);
    let at_start = before.is_empty() || before.last().is_some_and(|t| sign(t) == Some(","));
    if of_property && noun.object.properties().is_some() && matches!(verb, "get" | "set" | "del") {
        let key = (before.len() == 1 || at_start).then_some(Names { object: Object::Property, field: "key" });
        wanted.names.extend(key);
        return;
    }
    match verb {
        "get" => {
            if before.iter().any(|t| word(t) == Some("order")) {
                let after_order = before.last().is_some_and(|t| word(t) == Some("order"));
                wanted.words.extend(["asc", "desc"].iter().filter(|_| after_order));
                wanted.words.extend(fields(entity));
                return;
            }
            wanted.words.push("order");
            if at_start {
                wanted.words.extend(["property"].iter().filter(|_| noun.object.properties().is_some()));
                wanted.words.extend(fields(entity));
                wanted.words.extend(entity.aliases.iter().map(|(alias, _)| *alias));
            }
        }
        "set" | "new" | "ssl" => {
            if let Some(field) = open_comparison(before) {
                return values(wanted, entity, field);
            }
            if !at_start {
                return;
            }
            match (verb, noun.word) {
                ("ssl", _) => wanted.words.extend(["key", "cert", "ca", "crl"]),
                ("set", "config") => wanted.words.extend(["key", "value", "tenant"]),
                ("new", "di") => wanted.words.extend(["path", "file", "url", "docker", "osf", "tags"]),
                _ => {}
            }
            let writable = |f: &&action::Field| match verb {
                "new" => f.create != Access::No,
                _ => f.update.is_some(),
            };
            let written = entity.fields.iter().filter(writable);
            wanted.words.extend(written.map(|f| named(entity, f.name, f.named_by)));
            if verb == "set" && before.is_empty() && noun.object.properties().is_some() {
                wanted.words.push("property");
            }
        }
        "diff" if before.is_empty() => wanted.names.push(Names { object: noun.object, field: "name" }),
        "tag" | "untag" if at_start => wanted.names.push(Names { object: Object::Tag, field: "name" }),
        "assign" | "unassign" if noun.word == "property" => {
            wanted.words.extend(Object::WITH_PROPERTIES.iter().map(|o| o.as_str()));
        }
        "assign" | "unassign" => match before.first().and_then(word).and_then(crate::noun::noun) {
            Some(given) => wanted.names.push(Names { object: given.object, field: "name" }),
            None => {
                wanted.words.extend(["role", "acl"].iter().filter(|w| noun.word == "role" || **w == "role"))
            }
        },
        "del" if before.is_empty() && noun.object.properties().is_some() => wanted.words.push("property"),
        _ => {}
    }
}

/// The short name of what is given by name.
fn named(entity: &'static Entity, name: &'static str, by: Option<&'static str>) -> &'static str {
    let by = by.unwrap_or(name);
    let alias = entity.aliases.iter().find(|(_, proper)| *proper == by && by != name);
    alias.map_or(name, |(alias, _)| *alias)
}

/// The values that a field may have.
fn values(wanted: &mut Wanted, entity: &'static Entity, field: &str) {
    let proper = entity.resolve(field);
    match entity.field(proper).map(|f| f.kind) {
        Some(Kind::Word(words)) => wanted.words.extend(words),
        Some(Kind::Switch) => wanted.words.extend(["1", "0"]),
        _ => {}
    }
    if entity.object == Object::Config && proper == "key" {
        wanted.words.extend(config::KEYS.iter().filter(|k| k.heeded && !k.is_family()).map(|k| k.name));
        return;
    }
    let own = (proper == entity.key).then_some(Names { object: entity.object, field: entity.key });
    wanted.names.extend(referred(proper).or(own));
}

/// The objects that a field names.
pub(crate) fn referred(field: &str) -> Option<Names> {
    let (object, field) = match field {
        "user_name" => (Object::User, "name"),
        "osf_name" => (Object::Osf, "name"),
        "host_name" => (Object::Host, "name"),
        "tenant_name" => (Object::Tenant, "name"),
        "di_name" | "di_name_in_use" => (Object::Di, "disk_image"),
        "di_tag" => (Object::Tag, "name"),
        _ => return None,
    };
    Some(Names { object, field })
}

/// The options of the program that begin with `typed`.
pub fn options(typed: &str) -> Vec<String> {
    let command = Options::command();
    let longs = command.get_arguments().filter_map(|argument| argument.get_long());
    longs.map(|long| format!("--{long}")).filter(|option| option.starts_with(typed)).collect()
}

/// Splits a command line of a Unix shell into the words of the program before the command, and the command.
pub fn command_of(line: &str) -> (Vec<String>, &str) {
    let command = Options::command();
    let takes_value = |option: &str| {
        let named = command.get_arguments().find(|a| match option.strip_prefix("--") {
            Some(long) => a.get_long_and_visible_aliases().is_some_and(|all| all.contains(&long)),
            None => option.strip_prefix('-').is_some_and(|short| {
                a.get_short_and_visible_aliases().is_some_and(|all| short.chars().eq(all.first().copied()))
            }),
        });
        named.is_some_and(|a| a.get_action().takes_values())
    };
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    let mut value_follows = true; // the name of the program
    while let Some(end) = rest.find(char::is_whitespace) {
        let (word, tail) = rest.split_at(end);
        if !value_follows && !word.starts_with('-') {
            break;
        }
        value_follows = !value_follows && !word.contains('=') && takes_value(word);
        words.push(word.to_owned());
        rest = tail.trim_start();
    }
    (words, rest)
}

/// A candidate as it replaces the word `current` of a Unix shell, which may begin before or after our own word.
pub fn for_unix_shell(candidate: &str, typed: &str, current: &str) -> Option<String> {
    let plain = candidate.chars().all(|c| c.is_alphanumeric() || "_-.,/:=@%+".contains(c));
    if let Some(prefix) = current.strip_suffix(typed) {
        return match (plain, prefix.is_empty()) {
            (true, _) => Some(format!("{prefix}{candidate}")),
            (false, true) if !candidate.contains(['$', '`', '\\', '!', '"']) => {
                Some(format!("\"{candidate}\""))
            }
            (false, _) => None,
        };
    }
    let cut = typed.len().checked_sub(current.len())?;
    (plain && typed.ends_with(current)).then(|| candidate.get(cut..).unwrap_or_default().to_owned())
}

/// The script that makes a Unix shell ask this program.
pub fn script(shell: &str) -> Option<&'static str> {
    Some(match shell {
        "bash" => BASH,
        "zsh" => ZSH,
        "fish" => FISH,
        "powershell" => POWERSHELL,
        _ => return None,
    })
}

const BASH: &str = r#"# Put this into your ~/.bashrc:  source <(qa4 completion bash)
_qa4() {
    local line="${COMP_LINE:0:COMP_POINT}"
    # readline replaces what follows the last of its break characters
    local current="${line##*[$COMP_WORDBREAKS]}"
    mapfile -t COMPREPLY < <("${COMP_WORDS[0]}" --complete "$current" "$line" 2>/dev/null)
}
complete -F _qa4 qa4
"#;

const ZSH: &str = r#"#compdef qa4
# Put this into your ~/.zshrc:  source <(qa4 completion zsh)
_qa4() {
    local -a candidates
    candidates=("${(@f)$(qa4 --complete "$PREFIX" "$LBUFFER" 2>/dev/null)}")
    [[ -n "$candidates" ]] && compadd -Q -- $candidates
}
compdef _qa4 qa4
"#;

const FISH: &str = r#"# Put this into ~/.config/fish/completions/qa4.fish
complete -c qa4 -f -a '(qa4 --complete (commandline -ct) (commandline -cp) 2>/dev/null)'
"#;

const POWERSHELL: &str = r#"# Put this into your $PROFILE:  qa4 completion powershell | Out-String | Invoke-Expression
Register-ArgumentCompleter -Native -CommandName qa4 -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $line = $commandAst.Extent.Text
    if ($cursorPosition -gt $line.Length) { $line += ' ' * ($cursorPosition - $line.Length) }
    else { $line = $line.Substring(0, $cursorPosition) }
    qa4 --complete "$wordToComplete" "$line" 2>$null | ForEach-Object {
        [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)
    }
}
"#;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(line: &str) -> String {
        wanted(line).candidates(&[]).join(" ")
    }

    #[test]
    fn what_comes_next() {
        for (line, expected) in [
            ("v", "vm version"),
            ("usage fil", "filters"),
            ("vm x st", "start stop"),
            ("vm x del p", "property"),
            ("vm st", "start stop state step storage"),
            ("vm state=r", "running"),
            ("vm state=[running,st", "stopped starting stopping"),
            ("vm x, y stat", ""),
            ("vm x get desc", "description"),
            ("vm get name, use", "user_id user_name user_state user"),
            ("vm get name order de", "desc description"),
            ("vm new us", "user"),
            ("vm x set di", "di_tag"),
            ("vm x set blocked=", "1 0"),
            ("config key=l7r.por", "l7r.port"),
            ("config set key=l7r.por", "l7r.port"),
            ("property k assign u", "user"),
            ("completion z", "zsh"),
            ("nothing x", ""),
            ("vm 'x' unb", "unblock"),
        ] {
            assert_eq!(words(line), expected, "{line}");
        }
    }

    #[test]
    fn names_are_asked_for_where_they_may_stand() {
        let names = |line: &str| wanted(line).names.iter().map(|n| n.object.as_str()).collect::<Vec<_>>();
        assert_eq!(names("vm d"), ["vm"]);
        assert_eq!(names("vm user=a"), ["user"]);
        assert_eq!(names("vm new name=x, osf=o"), ["osf"]);
        assert_eq!(names("di x tag h"), ["tag"]);
        assert_eq!(names("role x assign acl vm"), ["acl"]);
        assert_eq!(names("admin x assign role "), ["role"]);
        assert_eq!(words("admin x assign "), "role");
        assert_eq!(names("vm x start"), [""; 0]);
        let open = wanted("vm name='My d");
        assert_eq!((open.start, open.typed.as_str()), (8, "My d"));
        let known = ["My desktop".to_owned(), "other".to_owned()];
        assert_eq!(open.candidates(&known), ["'My desktop'"]);
    }

    #[test]
    fn unix_shells_cut_words_elsewhere() {
        assert_eq!(for_unix_shell("id", "i", "name,i").as_deref(), Some("name,id"));
        assert_eq!(for_unix_shell("registry:5000", "registry:5", "5").as_deref(), Some("5000"));
        assert_eq!(for_unix_shell("'My desktop'", "My", "My").as_deref(), Some("\"'My desktop'\""));
        assert_eq!(for_unix_shell("'a`b'", "a", "a"), None);
        let (program, command) = command_of("qa4 -u https://a/ --quiet vm na");
        assert_eq!((program.join(" ").as_str(), command), ("qa4 -u https://a/ --quiet", "vm na"));
        assert_eq!(command_of("qa4 ").1, "");
        assert!(options("--dry").contains(&"--dry-run".to_owned()));
        assert!(SHELLS.iter().all(|shell| script(shell).is_some()));
    }

    proptest! {
        #[test]
        fn no_line_makes_it_fail(line: String, words in "(vm|di|config)? ?[a-z=,'\\[\\]() ]{0,30}") {
            for line in [line, words] {
                let wanted = wanted(&line);
                prop_assert!(wanted.start <= line.len() && line.is_char_boundary(wanted.start));
                let _ = command_of(&line);
            }
        }
    }
}

//! What can go wrong, and the exit code that it gives (`spec/cli.md` 1.14).

use qvd_model::action::Status;
use qvd_model::filter::lexer::SyntaxError;
use serde_json::{Map, Value, json};

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A line that is not a command.
    #[error("{}\n{}", source, source.caret(line))]
    Syntax {
        /// The line.
        line: String,
        /// Where and what.
        source: SyntaxError,
    },
    /// Something local is wrong: an option, a file, an argument.
    #[error("{0}")]
    Usage(String),
    /// The API does not answer, or not as one.
    #[error("cannot reach the API at {place}: {problem}")]
    Unreachable {
        /// Its address.
        place: String,
        /// Why.
        problem: String,
    },
    /// The API refused.
    #[error("{message} [code {code}]")]
    Refused {
        /// Its code.
        code: u16,
        /// Its message.
        message: String,
    },
    /// Some objects failed.
    #[error("{changed} of {all} changed{}", lines(failures))]
    Partial {
        /// How many were processed.
        changed: usize,
        /// How many were selected.
        all: usize,
        /// What it says about each of the others.
        failures: Vec<(String, String)>,
    },
    /// It needs a yes.
    #[error("{0}")]
    Unconfirmed(String),
    /// An answer took too long.
    #[error("no answer within {0} seconds")]
    Timeout(u64),
    /// What was waited for did not happen in time.
    #[error("not {wanted} within {seconds} seconds: {names}")]
    NotYet {
        /// The state that was waited for.
        wanted: &'static str,
        /// How long.
        seconds: u64,
        /// Which objects are not there yet.
        names: String,
    },
    /// A result cannot be written.
    #[error("cannot write the result: {0}")]
    Output(std::io::Error),
    /// One that was told already; only its exit code is left.
    #[error("{0}")]
    Told(Box<Error>),
    /// Something that was examined is not as it should be.
    #[error("{0} of what was looked at is not as it should be")]
    Unwell(usize),
    /// A program that was run for the command has failed with this code, and told why itself.
    #[error("the program ended with code {0}")]
    Ended(u8),
    /// Commands of the shell failed.
    #[error("some commands failed")]
    CommandsFailed,
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

fn lines(failures: &[(String, String)]) -> String {
    failures.iter().map(|(id, message)| format!("\n\t{id} : {message}")).collect()
}

impl Error {
    /// A refusal in the API's own words.
    pub fn refused(status: Status, object: &str) -> Self {
        Self::Refused { code: status.code(), message: format!("{} ({object})", status.message()) }
    }

    /// The error for programs, beside JSON results.
    pub fn json(&self) -> Value {
        let (code, objects) = match self {
            Self::Refused { code, .. } => (Some(*code), None),
            Self::Partial { failures, .. } => {
                let objects = failures.iter().map(|(id, why)| (id.clone(), json!(why)));
                (Some(Status::PartialFailure.code()), Some(objects.collect::<Map<_, _>>()))
            }
            _ => (None, None),
        };
        let mut error = Map::new();
        error.insert("code".to_owned(), json!(code));
        error.insert("exit".to_owned(), json!(self.exit_code()));
        error.insert("message".to_owned(), json!(self.to_string()));
        error.extend(objects.map(|objects| ("objects".to_owned(), Value::Object(objects))));
        json!({ "error": error })
    }

    /// The exit code of the program.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Syntax { .. } | Self::Usage(_) => 2,
            Self::Unreachable { .. } => 3,
            Self::Refused { code, .. } => exit_code(*code),
            Self::Partial { .. } => 8,
            Self::Unconfirmed(_) => 10,
            Self::Timeout(_) | Self::NotYet { .. } => 11,
            Self::Output(_) | Self::CommandsFailed | Self::Unwell(_) => 1,
            Self::Told(error) => error.exit_code(),
            Self::Ended(code) => *code,
            Self::Interrupted => 130,
        }
    }
}

/// What the exit codes mean.
pub const EXIT_CODES: &[(u8, &str)] = &[
    (0, "done, also a listing of nothing"),
    (1, "unexpected"),
    (2, "the command is wrong; nothing was sent"),
    (3, "the API cannot be reached"),
    (4, "not logged in"),
    (5, "not permitted"),
    (6, "nothing matched, or something referred to does not exist"),
    (7, "conflict, or the wrong state"),
    (8, "some objects failed"),
    (9, "the API refused a value"),
    (10, "it wants a yes"),
    (11, "it took too long"),
    (130, "interrupted"),
];

/// The exit code for a code of the API.
pub const fn exit_code(code: u16) -> u8 {
    match code {
        0 => 0,
        3100..=3600 | 9005 => 4,
        4210..=4260 | 7212..=7215 | 7382 | 9004 => 5,
        1300 | 7100 | 7110 | 2290 | 2240 | 9022 => 6,
        9020 | 9023 | 5110..=5200 | 7120 | 7200..=7211 | 7220..=7373 | 7390 | 7500 => 7,
        1200 => 8,
        4100 | 4110 | 6100..=6610 | 9001..=9003 | 9021 | 9024 => 9,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_the_table() {
        let table = [
            (1100, 1),
            (2230, 1),
            (3200, 4),
            (3500, 4),
            (4210, 5),
            (7213, 5),
            (7382, 5),
            (1300, 6),
            (7110, 6),
            (5130, 7),
            (7120, 7),
            (7200, 7),
            (7310, 7),
            (1200, 8),
            (4100, 9),
            (6240, 9),
            (6610, 9),
            (6620, 1),
            (2211, 1),
            (9020, 7),
            (9021, 9),
            (9022, 6),
        ];
        for (code, exit) in table {
            assert_eq!(exit_code(code), exit, "{code}");
        }
    }

    #[test]
    fn programs_read_errors_as_json() {
        let error =
            Error::Partial { changed: 2, all: 3, failures: vec![("7".into(), "it runs [code 7310]".into())] };
        let text = error.json();
        assert_eq!((&text["error"]["code"], &text["error"]["exit"]), (&json!(1200), &json!(8)));
        assert_eq!(text["error"]["objects"]["7"], "it runs [code 7310]");
        assert_eq!(Error::Usage("x".into()).json()["error"]["code"], Value::Null);
    }

    #[test]
    fn a_syntax_error_shows_the_place() {
        let error = Error::Syntax { line: "vm gett".into(), source: SyntaxError::new(3, "expected a verb") };
        assert_eq!(error.to_string(), "expected a verb\nvm gett\n   ^");
        assert_eq!(error.exit_code(), 2);
    }
}

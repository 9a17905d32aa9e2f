//! What can go wrong, and the exit code that it gives (`spec/cli.md` 1.14).

use qvd_model::action::Status;
use qvd_model::filter::lexer::SyntaxError;

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
}

fn lines(failures: &[(String, String)]) -> String {
    failures.iter().map(|(id, message)| format!("\n\t{id} : {message}")).collect()
}

impl Error {
    /// A refusal in the API's own words.
    pub fn refused(status: Status, object: &str) -> Self {
        Self::Refused { code: status.code(), message: format!("{} ({object})", status.message()) }
    }

    /// The exit code of the program.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Syntax { .. } | Self::Usage(_) => 2,
            Self::Unreachable { .. } => 3,
            Self::Refused { code, .. } => exit_code(*code),
            Self::Partial { .. } => 8,
            Self::Unconfirmed(_) => 10,
            Self::Timeout(_) => 11,
        }
    }
}

/// The exit code for a code of the API.
pub const fn exit_code(code: u16) -> u8 {
    match code {
        0 => 0,
        3100..=3600 | 9005 => 4,
        4210..=4260 | 7212..=7215 | 7382 | 9004 => 5,
        1300 | 7100 | 7110 | 2290 | 2240 => 6,
        5110..=5200 | 7120 | 7200..=7211 | 7220..=7373 | 7390 | 7500 => 7,
        1200 => 8,
        4100 | 4110 | 6100..=6610 | 9001..=9003 => 9,
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
        ];
        for (code, exit) in table {
            assert_eq!(exit_code(code), exit, "{code}");
        }
    }

    #[test]
    fn a_syntax_error_shows_the_place() {
        let error = Error::Syntax { line: "vm gett".into(), source: SyntaxError::new(3, "expected a verb") };
        assert_eq!(error.to_string(), "expected a verb\nvm gett\n   ^");
        assert_eq!(error.exit_code(), 2);
    }
}

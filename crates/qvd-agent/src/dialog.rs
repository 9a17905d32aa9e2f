//! What nxagent asks the user. It runs the program in `NX_CLIENT`, which is the agent itself, when the user
//! closes the window; the answer is always: suspend (`spec/vma.md` 6.2).

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};

/// Answers if these are the arguments of a question; `false` if they are not.
pub fn answer(arguments: &[String]) -> bool {
    let Some(kind) = value(arguments, "--dialog") else { return false };
    let asker = value(arguments, "--parent").and_then(|pid| pid.parse().ok()).map(Pid::from_raw);
    // A menu is not a wish to leave. Only whoever started us is signalled, so no argument can aim elsewhere.
    if kind != "pulldown" && asker == Some(getppid()) {
        let _ = kill(getppid(), Signal::SIGHUP);
    }
    true
}

fn value<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.get(at.checked_add(1)?).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_questions_are_answered() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(!answer(&words("--config /etc/qvd/vma.conf")));
        assert!(answer(&words("--dialog pulldown --window 7 --parent 1 --display :100")));
        assert!(answer(&words("--dialog yesno --caption c --message m --parent 1 --display :100")));
    }
}

//! The agent's own windows in a session: one that asks the user, and one that tells who watches.
//!
//! They are drawn with nothing but the X protocol and a font that every X server has, so that an image needs no toolkit
//! for them. The agent runs its own program for them, in the name of the user.

mod window;

use window::{Button, Shape, Window, WindowError};

/// Argument that asks: a text follows. The exit code is [`YES`] or [`NO`].
pub const ASK: &str = "--ask";
/// Argument that tells: a text follows. It ends with [`YES`] when the user wants an end of it.
pub const TELL: &str = "--tell";

/// The user agrees.
pub const YES: u8 = 0;
/// The user does not.
pub const NO: u8 = 1;
/// The user cannot be asked.
pub const BROKEN: u8 = 2;

/// Shows the window that these arguments are about, and waits for what the user says; the exit code. `None` if they are
/// about none.
pub fn run(arguments: &[String]) -> Option<u8> {
    let [kind, text] = arguments else { return None };
    let answer = match kind.as_str() {
        ASK => ask(text),
        TELL => tell(text),
        _ => return None,
    };
    Some(answer.unwrap_or_else(|error| {
        // The log of the agent's companions.
        tell_why(&error);
        BROKEN
    }))
}

#[allow(clippy::print_stderr, reason = "the standard error of this process is the log of such windows")]
fn tell_why(error: &WindowError) {
    eprintln!("qvd-vma: no window for the user: {error}");
}

/// An answer that is given by accident is a no: it is what Return means first, and Escape and closing the window always.
fn ask(text: &str) -> Result<u8, WindowError> {
    let buttons = [Button { text: "Allow", code: YES }, Button { text: "Deny", code: NO }];
    Window::open("Your screen", text, &buttons, Shape::Dialog { chosen: 1 })?.answer()
}

fn tell(text: &str) -> Result<u8, WindowError> {
    Window::open("Your screen", text, &[Button { text: "End", code: YES }], Shape::Banner)?.answer()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_arguments_are_not_ours() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(run(&words("--config /etc/qvd/vma.conf")), None);
        assert_eq!(run(&words("--ask")), None);
    }
}

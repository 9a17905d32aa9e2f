//! The windows that ask the user and tell who watches, on a real X server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::process::{Child, Command};
use std::time::Duration;

use testbed::{Display, Picture};

const LIMIT: Duration = Duration::from_secs(30);
/// Buttons, and the one that Return means.
const BUTTON: [u8; 3] = [0xdf, 0xd8, 0xc2];
const CHOSEN: [u8; 3] = [0x8a, 0x3b, 0x12];
const RETURN: u32 = 0xff0d;
const ESCAPE: u32 = 0xff1b;
const TAB: u32 = 0xff09;

fn open(display: &Display, kind: &str, text: &str) -> (Child, Picture) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qvd-vma"));
    let window = command.args([kind, text]).env("DISPLAY", display.name()).spawn().unwrap();
    let picture = display.wait_for("a button", LIMIT, |picture| picture.share(BUTTON) > 0.0).unwrap();
    (window, picture)
}

fn code(mut window: Child, display: &Display) -> Option<i32> {
    let code = window.wait().unwrap().code();
    display.wait_for("no window", LIMIT, |picture| picture.drawn() == 0.0).unwrap();
    code
}

#[test]
fn the_user_agrees_by_a_click_and_never_by_accident() {
    let display = Display::new(640, 480).unwrap();
    let text = "Ann O'Dell (ñ €) wants to see your screen and use your keyboard and mouse. Do you allow it?";
    let (window, picture) = open(&display, "--ask", text);
    assert!(picture.share(CHOSEN) > 0.0);
    display.click(picture.middle(BUTTON).unwrap()).unwrap();
    assert_eq!(code(window, &display), Some(0));

    let (window, picture) = open(&display, "--ask", text);
    display.click(picture.middle(CHOSEN).unwrap()).unwrap();
    assert_eq!(code(window, &display), Some(1));

    // The keyboard belongs to the window below the pointer here.
    for (keys, expected) in [(&[RETURN][..], 1), (&[ESCAPE], 1), (&[TAB, RETURN], 0), (&[TAB, ESCAPE], 1)] {
        let (window, picture) = open(&display, "--ask", text);
        // A click beside the buttons says nothing.
        let (x, y) = picture.middle(CHOSEN).unwrap();
        display.click((x, y - 40)).unwrap();
        keys.iter().for_each(|key| display.strike(*key).unwrap());
        assert_eq!(code(window, &display), Some(expected), "{keys:?}");
    }
}

#[test]
fn a_banner_says_who_watches_and_ends_it() {
    let display = Display::new(640, 480).unwrap();
    let (window, picture) = open(&display, "--tell", "ann sees your screen");
    let (x, y) = picture.middle(BUTTON).unwrap();
    assert!(y < 60, "it is not at the upper edge: {x}, {y}");
    // It takes no keys.
    display.click((5, 400)).unwrap();
    display.strike(RETURN).unwrap();
    display.click((x, y)).unwrap();
    assert_eq!(code(window, &display), Some(0));
}

#[test]
fn without_a_screen_nobody_is_asked() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qvd-vma"));
    let output = command.args(["--ask", "really?"]).env("DISPLAY", ":4711").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("no window for the user"), "{said}");
}

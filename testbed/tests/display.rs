//! A display shows what a program draws on it.

use std::time::Duration;

use testbed::{Display, Namespace};

#[test]
fn a_window_is_seen_and_its_end_too() {
    let namespace = Namespace::create().unwrap();
    let display = Display::within(&namespace, 320, 240).unwrap();
    assert_eq!(display.picture().unwrap().drawn(), 0.0);
    let mut terminal = namespace
        .command("/usr/bin/xterm")
        .args(["-bg", "rgb:12/34/56", "-geometry", "80x24+0+0", "-T", "seen"])
        .env("DISPLAY", display.name())
        .spawn()
        .unwrap();
    let wanted = [0x12, 0x34, 0x56];
    let shown =
        display.wait_for("a terminal", Duration::from_secs(20), |picture| picture.share(wanted) > 0.5);
    let shown = shown.unwrap();
    assert_eq!(shown.background(), wanted);
    assert!(display.titles().unwrap().contains(&"seen".to_owned()));
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    display.wait_for("an empty screen", Duration::from_secs(20), |picture| picture.drawn() == 0.0).unwrap();
}

#[test]
fn waiting_in_vain_says_what_was_there_instead() {
    let namespace = Namespace::create().unwrap();
    let display = Display::within(&namespace, 64, 64).unwrap();
    let error = display.wait_for("a desktop", Duration::from_millis(50), |picture| picture.colors() > 9);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("did not show a desktop") && error.contains("1 colors"), "{error}");
}

#[test]
fn displays_of_two_namespaces_do_not_meet() {
    let (one, other) = (Namespace::create().unwrap(), Namespace::create().unwrap());
    let (first, second) = (Display::within(&one, 64, 64).unwrap(), Display::within(&other, 64, 48).unwrap());
    assert_eq!(first.name(), second.name());
    for (namespace, height) in [(&one, "Height: 64"), (&other, "Height: 48")] {
        let shown = namespace.run("/usr/bin/xwininfo", &["-root", "-display", first.name()]).unwrap();
        assert!(shown.contains(height), "{shown}");
    }
}

//! Every start, failure and stop ends with nothing left to undo.

use proptest::prelude::*;

use super::*;
use crate::chart::{Chart, word};

fn failure(detail: &str) -> Failure {
    Failure::new(FailureCode::Internal, detail)
}

/// Answers every operation with success until the machine waits for the outside.
fn settle(machine: &mut Machine, mut effects: Vec<Effect>) -> Vec<Effect> {
    let mut all = Vec::new();
    loop {
        let operation = effects
            .iter()
            .any(|e| matches!(e, Effect::Run(_) | Effect::KillAll | Effect::Undo(_) | Effect::ClearRow(_)));
        all.append(&mut effects);
        if !operation {
            return all;
        }
        effects = machine.step(Event::Done).unwrap();
    }
}

fn running() -> Machine {
    let mut machine = Machine::new(false);
    let effects = machine.step(Event::Start).unwrap();
    settle(&mut machine, effects);
    assert_eq!(machine.state(), State::Booting);
    machine.step(Event::Alive).unwrap();
    machine
}

#[test]
fn a_start_runs_every_step_in_order_and_then_waits_for_the_agent() {
    let mut machine = Machine::new(false);
    let effects = machine.step(Event::Start).unwrap();
    let effects = settle(&mut machine, effects);
    let steps: Vec<Step> =
        effects.iter().filter_map(|e| if let Effect::Run(s) = e { Some(*s) } else { None }).collect();
    assert_eq!(steps, Step::ALL);
    assert_eq!(effects[0], Effect::Persist(VmState::Starting));
    let effects = machine.step(Event::Alive).unwrap();
    assert_eq!(effects, [Effect::Persist(VmState::Running), Effect::ReleaseSlot]);
}

#[test]
fn a_failure_at_each_step_undoes_exactly_what_was_begun() {
    for (count, step) in Step::ALL.iter().enumerate() {
        let mut machine = Machine::new(false);
        machine.step(Event::Start).unwrap();
        for _ in 0..count {
            machine.step(Event::Done).unwrap();
        }
        assert_eq!(machine.state(), State::Starting(*step));
        let effects = machine.step(Event::Failed(failure("full"))).unwrap();
        let effects = settle(&mut machine, effects);
        let undone: Vec<Undo> =
            effects.iter().filter_map(|e| if let Effect::Undo(u) = e { Some(*u) } else { None }).collect();
        let mut begun: Vec<Undo> = Step::ALL[..=count].iter().filter_map(|s| s.undo()).collect();
        begun.reverse();
        assert_eq!(undone, begun, "{step:?}");
        assert_eq!(effects.last(), Some(&Effect::ClearRow(Some(failure("full")))));
        assert_eq!(machine.state(), State::Stopped);
    }
}

#[test]
fn a_stop_while_starting_takes_effect_at_once() {
    let mut machine = Machine::new(false);
    machine.step(Event::Start).unwrap();
    machine.step(Event::Done).unwrap();
    let effects = machine.step(Event::Stop).unwrap();
    assert_eq!(effects[..2], [Effect::Persist(VmState::Stopping), Effect::Cancel]);
    settle(&mut machine, effects);
    assert_eq!(machine.state(), State::Stopped);
    assert_eq!(machine.failure().unwrap().code, FailureCode::Cancelled);
}

#[test]
fn the_stop_ladder_goes_from_asking_to_killing() {
    let mut machine = running();
    let effects = machine.step(Event::Stop).unwrap();
    assert!(effects.contains(&Effect::PowerOff));
    let effects = machine.step(Event::Elapsed).unwrap();
    assert!(effects.contains(&Effect::Halt));
    let effects = machine.step(Event::Elapsed).unwrap();
    assert_eq!(effects, [Effect::KillAll]);
    settle(&mut machine, effects);
    assert_eq!(machine.state(), State::Stopped);
    assert_eq!(machine.failure(), None);
}

#[test]
fn an_agent_that_powers_off_leaves_without_a_failure() {
    let mut machine = running();
    machine.step(Event::Stop).unwrap();
    let effects = machine.step(Event::Ended(String::new())).unwrap();
    let effects = settle(&mut machine, effects);
    assert_eq!(effects.last(), Some(&Effect::ClearRow(None)));
}

#[test]
fn a_hypervisor_that_is_killed_is_a_failure_unless_it_was_to_end() {
    let mut machine = running();
    let effects = machine.step(Event::Crashed("signal 9".to_owned())).unwrap();
    let effects = settle(&mut machine, effects);
    let Some(Effect::ClearRow(Some(failure))) = effects.last() else { panic!("{effects:?}") };
    assert_eq!(failure.code, FailureCode::HypervisorExited);
    let mut machine = running();
    machine.step(Event::Stop).unwrap();
    let effects = machine.step(Event::Crashed("signal 9".to_owned())).unwrap();
    assert_eq!(settle(&mut machine, effects).last(), Some(&Effect::ClearRow(None)));
}

#[test]
fn a_failed_clean_up_is_a_zombie_that_is_tried_again() {
    let mut machine = running();
    machine.step(Event::Kill(FailureCode::Fenced)).unwrap();
    machine.step(Event::Done).unwrap();
    let effects = machine.step(Event::Failed(failure("busy"))).unwrap();
    assert_eq!(effects, [Effect::Persist(VmState::Zombie), Effect::Arm(Timer::Retry(1))]);
    let effects = machine.step(Event::Elapsed).unwrap();
    assert_eq!(effects, [Effect::KillAll]);
    assert_eq!(machine.public(), VmState::Zombie);
    settle(&mut machine, effects);
    assert_eq!(machine.state(), State::Stopped);
    assert_eq!(machine.failure().unwrap().code, FailureCode::Fenced);
}

#[test]
fn the_hypervisors_last_words_are_the_reason() {
    let mut machine = Machine::new(false);
    let effects = machine.step(Event::Start).unwrap();
    settle(&mut machine, effects);
    machine.step(Event::Ended("no such bridge\n".to_owned())).unwrap();
    assert_eq!(machine.failure().unwrap().detail, "the hypervisor ended: no such bridge");
}

#[test]
fn a_silent_agent_is_kept_for_inspection_only_if_asked() {
    let mut machine = running();
    machine.keep_silent = true;
    machine.step(Event::Silent(failure("silent"))).unwrap();
    assert_eq!(machine.public(), VmState::Debugging);
    machine.step(Event::Alive).unwrap();
    machine.keep_silent = false;
    machine.step(Event::Silent(failure("silent"))).unwrap();
    assert_eq!(machine.state(), State::Halting);
}

#[test]
fn a_second_start_is_refused_and_changes_nothing() {
    let mut machine = running();
    let before = machine.clone();
    assert!(machine.step(Event::Start).is_err());
    assert_eq!(machine, before);
}

#[test]
fn what_is_adopted_runs_on_and_what_is_abandoned_is_cleaned() {
    let (machine, effects) = Machine::adopted(false, VmState::Running);
    assert_eq!((machine.state(), effects), (State::Running, Vec::new()));
    let (machine, _) = Machine::adopted(false, VmState::Starting);
    assert_eq!(machine.state(), State::Booting);
    let (mut machine, effects) = Machine::abandoned(failure("gone"));
    settle(&mut machine, effects);
    assert_eq!(machine.state(), State::Stopped);
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        Just(Event::Start),
        Just(Event::Stop),
        Just(Event::Kill(FailureCode::Fenced)),
        Just(Event::Done),
        Just(Event::Done),
        Just(Event::Done),
        Just(Event::Failed(failure("f"))),
        Just(Event::Alive),
        Just(Event::Silent(failure("s"))),
        Just(Event::Ended(String::new())),
        Just(Event::Crashed(String::new())),
        Just(Event::Elapsed),
    ];
    proptest::collection::vec(event, 0..60)
}

proptest! {
    #[test]
    fn whatever_happens_a_kill_and_patience_end_it_with_nothing_left(events in events()) {
        let mut machine = Machine::new(false);
        for event in events {
            let before = machine.clone();
            if machine.step(event).is_err() {
                prop_assert_eq!(&machine, &before);
            }
            prop_assert!(machine.state() != State::Stopped || machine.undo.is_empty());
            prop_assert!(machine.undo.len() <= Step::ALL.len());
        }
        if machine.state() != State::Stopped {
            let _ = machine.step(Event::Kill(FailureCode::Fenced));
            for _ in 0..40 {
                if machine.state() == State::Stopped {
                    break;
                }
                let _ = machine.step(Event::Done);
            }
            prop_assert_eq!(machine.state(), State::Stopped);
            prop_assert!(machine.undo.is_empty());
        }
    }
}

fn told(effect: &Effect) -> String {
    match effect {
        Effect::Persist(state) => format!("Persist({state:?})"),
        Effect::Arm(Timer::Retry(_)) => "Arm(Retry)".to_owned(),
        Effect::Arm(timer) => format!("Arm({timer:?})"),
        other => word(other),
    }
}

/// Walks from the first state to all that can be reached, cleaning up failing twice at most.
#[test]
fn lifecycle_md_is_what_the_machine_does() {
    let events = || {
        [
            Event::Start,
            Event::Stop,
            Event::Kill(FailureCode::Fenced),
            Event::Done,
            Event::Failed(failure("x")),
            Event::Alive,
            Event::Silent(failure("x")),
            Event::Ended(String::new()),
            Event::Crashed(String::new()),
            Event::Elapsed,
        ]
    };
    let mut chart = Chart::default();
    let mut reached = vec![Machine::new(false), Machine::new(true)];
    let mut place = 0;
    while let Some(machine) = reached.get(place).cloned() {
        place += 1;
        for event in events() {
            let mut next = machine.clone();
            let (state, name) = (word(&machine.state()), word(&event));
            let Ok(effects) = next.step(event) else { continue };
            let effects: Vec<String> = effects.iter().map(told).collect();
            chart.add(&state, &name, &word(&next.state()), &effects);
            // Why it failed makes no difference to what happens.
            next.failure = None;
            if next.attempts <= 2 && !reached.contains(&next) {
                reached.push(next);
            }
        }
    }
    let file = include_str!("LIFECYCLE.md");
    let updated = chart.update(file);
    if std::env::var_os("UPDATE_LIFECYCLE").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lifecycle/LIFECYCLE.md"), &updated).unwrap();
    } else {
        assert!(updated == file, "LIFECYCLE.md is not what the machine does; it should be:\n{updated}");
    }
}

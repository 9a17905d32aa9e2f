use proptest::prelude::*;

use super::*;
use crate::chart::{Chart, word};

const LIMITS: Limits = Limits {
    takeover: Duration::from_secs(30),
    poll_vm: Duration::from_secs(2),
    vm_start: Duration::from_secs(270),
    x_accept: Duration::from_secs(20),
    x_start: Duration::from_secs(10),
    poll_x: Duration::from_secs(1),
};

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn row(state: VmState) -> Row {
    Row {
        state,
        command: None,
        placed: state == VmState::Running,
        step: None,
        failure: None,
        host_alive: true,
    }
}

fn machine() -> Connect {
    Connect::new(VmId(12), LIMITS, at(0)).0
}

fn code(effects: &[Effect]) -> Option<FailureCode> {
    effects.iter().find_map(|effect| match effect {
        Effect::Fail(failure) => Some(failure.code),
        _ => None,
    })
}

#[test]
fn a_running_desktop_is_reached_without_a_word() {
    let mut m = machine();
    assert_eq!(m.step(at(1), Event::Acquired), [Effect::ReadRow]);
    assert_eq!(m.step(at(2), Event::Row(row(VmState::Running))), [Effect::StartX]);
    assert_eq!(m.step(at(5), Event::XAccepted), []);
    assert_eq!(m.wake(), Some(at(25)));
    assert_eq!(m.step(at(25), Event::Tick), [Effect::AskX]);
    assert_eq!(m.step(at(26), Event::XIs(SessionState::Starting)), []);
    assert_eq!(m.wake(), Some(at(46)));
    assert_eq!(m.step(at(46), Event::Tick), [Effect::AskX]);
    assert_eq!(m.step(at(47), Event::XIs(SessionState::Listening)), [Effect::Link]);
    assert_eq!(m.step(at(48), Event::Linked), [Effect::Establish]);
    assert_eq!(m.step(at(49), Event::Established(true)), [Effect::Switch]);
    assert_eq!(m.wake(), None);
}

#[test]
fn a_stopped_vm_is_started_once_and_its_failure_is_told() {
    let mut m = machine();
    m.step(at(1), Event::Acquired);
    let told = Effect::Tell("Starting virtual machine".to_owned());
    assert_eq!(m.step(at(2), Event::Row(row(VmState::Stopped))), [Effect::OrderStart, told]);
    assert_eq!(m.step(at(3), Event::Ordered), [Effect::ReadRow]);
    let pending = Row { command: Some(VmCommand::Start), ..row(VmState::Stopped) };
    assert_eq!(m.step(at(4), Event::Row(pending)), []);
    assert_eq!(m.step(at(900), Event::Row(row(VmState::Starting))), []);
    let failure = Failure::new(FailureCode::NoImage, "OSF 3 has no image with tag `default`");
    let failed = Row { failure: Some(failure.clone()), ..row(VmState::Stopped) };
    assert_eq!(m.step(at(1000), Event::Row(failed)), [Effect::Fail(failure)]);
}

#[test]
fn a_node_without_daemon_does_not_cost_the_whole_limit() {
    let mut m = machine();
    m.step(at(1), Event::Acquired);
    m.step(at(2), Event::Row(row(VmState::Stopped)));
    let dead = Row { command: Some(VmCommand::Start), host_alive: false, ..row(VmState::Stopped) };
    let effects = m.step(at(30_000), Event::Row(dead));
    assert_eq!(
        (effects.first(), code(&effects)),
        (Some(&Effect::RevokeStart), Some(FailureCode::NodeNotRunning))
    );
}

#[test]
fn a_vm_on_its_way_down_is_awaited_and_started_again() {
    let mut m = machine();
    m.step(at(1), Event::Acquired);
    assert_eq!(m.step(at(2), Event::Row(row(VmState::Stopping))), []);
    assert_eq!(m.step(at(3), Event::Changed), [Effect::ReadRow]);
    assert_eq!(m.step(at(4), Event::Row(row(VmState::Stopped))).first(), Some(&Effect::OrderStart));
}

#[test]
fn a_takeover_asks_retries_and_gives_up() {
    let mut m = machine();
    let effects = m.step(at(1), Event::Contended { orphan: false });
    let told = Effect::Tell("Aborting contending session for VM_ID: 12".to_owned());
    assert_eq!(effects, [Effect::TakeOver, told]);
    assert_eq!(m.wake(), Some(at(2001)));
    assert_eq!(m.step(at(400), Event::Changed), [Effect::Claim]);
    assert_eq!(m.step(at(401), Event::Contended { orphan: false }), [Effect::TakeOver]);
    assert_eq!(code(&m.step(at(30_000), Event::Tick)), Some(FailureCode::TakeoverTimeout));

    let mut m = machine();
    assert_eq!(m.step(at(1), Event::Contended { orphan: true }), [Effect::ForgetOrphan, Effect::Claim]);
}

#[test]
fn a_busy_session_is_asked_again_with_growing_pauses() {
    let mut m = machine();
    m.step(at(0), Event::Acquired);
    m.step(at(0), Event::Row(row(VmState::Running)));
    let busy = Failure::new(FailureCode::AgentFailed, "session busy");
    let mut now = at(0);
    let mut asked = Vec::new();
    loop {
        let effects = m.step(now, Event::XRefused(busy.clone()));
        if code(&effects).is_some() {
            break;
        }
        now = m.wake().unwrap();
        while !m.step(now, Event::Tick).contains(&Effect::StartX) {
            now = m.wake().unwrap();
        }
        asked.push(now.as_millis());
    }
    assert_eq!(asked[..5], [20, 60, 140, 300, 620]);
    assert!(now >= LIMITS.x_accept && asked.len() < 40);
}

#[test]
fn a_session_that_ends_is_asked_why() {
    let mut m = machine();
    m.step(at(0), Event::Acquired);
    m.step(at(0), Event::Row(row(VmState::Running)));
    m.step(at(0), Event::XAccepted);
    assert_eq!(m.step(at(20), Event::XIs(SessionState::Stopped)), [Effect::AskWhy]);
    let failure = Failure::new(FailureCode::XServerMissing, "nxagent is not installed");
    assert_eq!(m.step(at(21), Event::XFailed(failure.clone())), [Effect::Fail(failure)]);
}

#[test]
fn reasons_come_from_the_closed_list() {
    let runs =
        Seen { state: VmState::Running, ordered: None, failed: false, host_alive: true, answers: true };
    let stops = Seen { ordered: Some(EndReason::VmStopped), ..runs };
    let expired = Seen { ordered: Some(EndReason::Expired), state: VmState::Stopping, ..runs };
    let failed = Seen { state: VmState::Stopped, failed: true, answers: false, ..runs };
    let silent = Seen { answers: false, ..runs };
    let lost = Seen { host_alive: false, ..silent };
    let ends = |vm: Option<Seen>| {
        let client = |orderly| Cause::Client { orderly, vm }.reason();
        [client(true), client(false), Cause::Desktop(vm).reason()]
    };
    use EndReason::{Expired, Left, LinkLost, NodeLost, VmFailed, VmStopped};
    assert_eq!(ends(None), [Left, LinkLost, LinkLost]);
    assert_eq!(ends(Some(runs)), [Left, LinkLost, Left]);
    assert_eq!(ends(Some(stops)), [VmStopped; 3]);
    assert_eq!(ends(Some(expired)), [Expired; 3]);
    assert!(stops.is_settled() && failed.is_settled() && runs.is_settled());
    assert!(!silent.is_settled() && !Seen { state: VmState::Stopping, ..silent }.is_settled());
    assert_eq!(ends(Some(Seen { state: VmState::Stopping, ..runs })), [VmStopped; 3]);
    assert_eq!(ends(Some(failed)), [VmFailed; 3]);
    assert_eq!(ends(Some(silent)), [Left, LinkLost, LinkLost]);
    assert_eq!(ends(Some(lost)), [Left, LinkLost, NodeLost]);
    assert_eq!(Cause::Told(EndReason::TakenOver).reason(), EndReason::TakenOver);
}

fn any_event() -> impl Strategy<Value = Event> {
    let failure = || Failure::new(FailureCode::Internal, "x");
    let rows = (prop::sample::select(VmState::ALL), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(state, pending, placed, host_alive)| {
            let command = pending.then_some(VmCommand::Start);
            Event::Row(Row { command, placed, host_alive, step: Some("boot".to_owned()), ..row(state) })
        },
    );
    prop_oneof![
        rows,
        prop::sample::select(SessionState::ALL).prop_map(Event::XIs),
        any::<bool>().prop_map(|orphan| Event::Contended { orphan }),
        any::<bool>().prop_map(Event::Established),
        Just(Event::Acquired),
        Just(Event::Ordered),
        Just(Event::XAccepted),
        Just(Event::XRefused(failure())),
        Just(Event::XSilent(failure())),
        Just(Event::Linked),
        Just(Event::Changed),
        Just(Event::Tick),
    ]
}

proptest! {
    #[test]
    fn progress_is_rare_and_nothing_follows_the_end(
        steps in prop::collection::vec((any_event(), 0_u64..40_000), 1..200),
    ) {
        let mut m = machine();
        let (mut now, mut told, mut last, mut over) = (at(0), 0, None, false);
        for (event, passed) in steps {
            now += at(passed);
            let effects = m.step(now, event);
            prop_assert!(!over || effects.is_empty());
            for effect in effects {
                match effect {
                    Effect::Tell(_) => {
                        prop_assert!(last.is_none_or(|last| now - last >= PROGRESS_GAP));
                        last = Some(now);
                        told += 1;
                    }
                    Effect::Fail(_) | Effect::Switch => over = true,
                    _ => {}
                }
            }
            prop_assert!(over == m.wake().is_none() || m.phase == Phase::Linking || m.phase == Phase::Establishing);
        }
        prop_assert!(told <= PROGRESS_MOST);
    }

    #[test]
    fn without_news_every_wait_ends(start in prop::sample::select(vec![0, 1, 2])) {
        let mut m = machine();
        let mut now = at(0);
        let mut effects = m.step(now, Event::Contended { orphan: false });
        if start > 0 { effects = m.step(now, Event::Acquired); }
        if start > 1 { effects = m.step(now, Event::Row(row(VmState::Running))); }
        for _ in 0..5000 {
            if code(&effects).is_some() {
                return Ok(());
            }
            let event = match effects.iter().find(|e| !matches!(e, Effect::Tell(_) | Effect::TakeOver)) {
                Some(Effect::Claim) => Event::Contended { orphan: false },
                Some(Effect::ReadRow) => Event::Row(row(VmState::Starting)),
                Some(Effect::StartX) => Event::XRefused(Failure::new(FailureCode::AgentSilent, "x")),
                _ => {
                    let wake = m.wake().ok_or_else(|| TestCaseError::fail("asleep for ever"))?;
                    prop_assert!(wake > now || now == at(0), "{wake:?} {now:?}");
                    now = now.max(wake);
                    Event::Tick
                }
            };
            effects = m.step(now, event);
        }
        prop_assert!(false, "never ends");
    }
}

fn told(effect: &Effect) -> String {
    match effect {
        Effect::Fail(failure) => format!("Fail({})", failure.code.as_str()),
        other => word(other),
    }
}

/// Every phase with every event, both within the limit of the phase and after it.
#[test]
fn lifecycle_md_is_what_the_machine_does() {
    let failure = Failure::new(FailureCode::Internal, "why");
    let pending = Row { command: Some(VmCommand::Start), ..row(VmState::Stopped) };
    let events = [
        ("Acquired", Event::Acquired),
        ("Contended, its router lives", Event::Contended { orphan: false }),
        ("Contended, its router is dead", Event::Contended { orphan: true }),
        ("Gone", Event::Gone),
        ("Row: running", Event::Row(row(VmState::Running))),
        ("Row: stopped", Event::Row(row(VmState::Stopped))),
        ("Row: stopped, start pending", Event::Row(pending.clone())),
        ("Row: stopped, start pending, node dead", Event::Row(Row { host_alive: false, ..pending })),
        ("Row: starting", Event::Row(row(VmState::Starting))),
        ("Row: stopping", Event::Row(row(VmState::Stopping))),
        ("Row: debugging", Event::Row(row(VmState::Debugging))),
        ("Ordered", Event::Ordered),
        ("Refused", Event::Refused(failure.clone())),
        ("XAccepted", Event::XAccepted),
        ("XRefused", Event::XRefused(failure.clone())),
        ("X: starting", Event::XIs(SessionState::Starting)),
        ("X: provisioning", Event::XIs(SessionState::Provisioning)),
        ("X: listening", Event::XIs(SessionState::Listening)),
        ("X: stopped", Event::XIs(SessionState::Stopped)),
        ("XSilent", Event::XSilent(failure.clone())),
        ("XFailed", Event::XFailed(failure)),
        ("Linked", Event::Linked),
        ("NotLinked", Event::NotLinked("why".to_owned())),
        ("Established", Event::Established(true)),
        ("Established, but taken away", Event::Established(false)),
        ("Changed", Event::Changed),
        ("Tick", Event::Tick),
    ];
    let phases = [
        ("Claiming", Phase::Claiming),
        ("Waiting", Phase::Waiting { ordered: false, pending: false }),
        ("Waiting, start pending", Phase::Waiting { ordered: true, pending: true }),
        ("Waiting, start taken", Phase::Waiting { ordered: true, pending: false }),
        ("StartingX", Phase::StartingX),
        ("ComingUp", Phase::ComingUp),
        ("Linking", Phase::Linking),
        ("Establishing", Phase::Establishing),
    ];
    let name =
        |phase: &Phase| phases.iter().find(|(_, known)| known == phase).map_or("Done", |(name, _)| name);
    let mut chart = Chart::default();
    for (state, phase) in &phases {
        for (what, event) in &events {
            let after = |now: u64| {
                let mut machine = Connect { phase: phase.clone(), next: Some(at(0)), ..machine() };
                // Words for the client come with time and not with the event.
                let effects = machine.step(at(now), event.clone());
                let effects: Vec<String> =
                    effects.iter().filter(|effect| !matches!(effect, Effect::Tell(_))).map(told).collect();
                (name(&machine.phase), effects)
            };
            let (early, late) = (after(1), after(1_000_000));
            chart.add(state, what, early.0, &early.1);
            if late != early {
                chart.add(state, &format!("{what}, too late"), late.0, &late.1);
            }
        }
    }
    let file = include_str!("LIFECYCLE.md");
    let updated = chart.update(file);
    if std::env::var_os("UPDATE_LIFECYCLE").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/session/LIFECYCLE.md"), &updated).unwrap();
    } else {
        assert!(updated == file, "LIFECYCLE.md is not what the machine does; it should be:\n{updated}");
    }
}

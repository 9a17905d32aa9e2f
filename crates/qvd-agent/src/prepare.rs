//! What happens before a session starts or resumes: hooks and provisioning. It may take long, so it runs
//! beside the owner of the session.

use qvd_model::{Failure, FailureCode};
use tokio::sync::{mpsc, oneshot};

use crate::accounts::Account;
use crate::hooks::{self, HookError};
use crate::machine::Event;
use crate::parameters::Parameters;
use crate::provision::{self, Wanted};
use crate::settings::Settings;

/// How preparations ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A new session may start in this account.
    Start(Account),
    /// The session may resume.
    Resume,
    /// Neither.
    Failed(Failure),
}

/// Answers the router as soon as nothing speaks against the session.
pub(crate) type Answer = oneshot::Sender<Result<(), Failure>>;

pub(crate) fn hook_failed(error: &HookError) -> Failure {
    Failure::new(FailureCode::AgentFailed, error.to_string())
}

/// Prepares a new session. The answer is given after the hook `pre-connect`; later failures are told by the
/// state and by `x_failure`.
pub(crate) async fn start(
    settings: &Settings,
    wanted: &Wanted,
    parameters: &Parameters,
    answer: Answer,
    events: &mpsc::Sender<Event>,
) -> Outcome {
    let refused =
        hooks::run(settings, hooks::PRE_CONNECT, parameters, &[("qvd.vm.session.state", "stopped")]);
    let refused = refused.await.map_err(|error| hook_failed(&error));
    let go_on = refused.clone();
    // The router may have given up; the session starts all the same, as it would a moment later.
    let _ = answer.send(refused);
    if let Err(failure) = go_on {
        return Outcome::Failed(failure);
    }
    let account = match wanted.existing(settings) {
        Ok(Some(account)) => account,
        Ok(None) => {
            let _ = events.send(Event::Provision).await;
            match provision::provision(settings, wanted, parameters).await {
                Ok(account) => account,
                Err(error) => return Outcome::Failed(error.failure()),
            }
        }
        Err(error) => return Outcome::Failed(error.failure()),
    };
    let state = [("qvd.vm.session.state", "stopped")];
    match hooks::run(settings, hooks::CONNECT, parameters, &state).await {
        Ok(()) => Outcome::Start(account),
        Err(error) => Outcome::Failed(hook_failed(&error)),
    }
}

/// Prepares a resume. The answer is given after both hooks, so that a failure leaves the session suspended
/// and the router knows why.
pub(crate) async fn resume(settings: &Settings, parameters: &Parameters, answer: Answer) -> Outcome {
    let state = [("qvd.vm.session.state", "suspended")];
    for moment in [hooks::PRE_CONNECT, hooks::CONNECT] {
        if let Err(error) = hooks::run(settings, moment, parameters, &state).await {
            let failure = hook_failed(&error);
            let _ = answer.send(Err(failure.clone()));
            return Outcome::Failed(failure);
        }
    }
    let _ = answer.send(Ok(()));
    Outcome::Resume
}

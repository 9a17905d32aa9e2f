//! Questions to whoever sits at the terminal.

use std::io::{IsTerminal, Write};

use qvd_connect::CertificateProblem;
use zeroize::Zeroizing;

/// What to do with a certificate that is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Refuse,
    AcceptOnce,
    Remember,
}

/// Whether somebody can answer.
pub(crate) fn somebody() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// A line, without its end; `None` if there is none.
pub(crate) async fn line(question: String) -> Option<String> {
    let read = tokio::task::spawn_blocking(move || {
        eprint!("{question}");
        std::io::stderr().flush().ok()?;
        let mut line = String::new();
        let length = std::io::stdin().read_line(&mut line).ok()?;
        (length > 0).then(|| line.trim().to_owned())
    });
    read.await.ok().flatten()
}

/// A password, which is not shown.
pub(crate) async fn password(question: String) -> Option<Zeroizing<String>> {
    let read = tokio::task::spawn_blocking(move || rpassword::prompt_password(question).ok());
    read.await.ok().flatten().map(Zeroizing::new)
}

/// Shows a certificate and asks what to do with it.
pub(crate) async fn certificate(problem: &CertificateProblem) -> Decision {
    let CertificateProblem { host, port, detail, fingerprint, .. } = problem;
    eprintln!("The certificate of {host}:{port} is not trusted: {detail}.");
    eprintln!("SHA-256 fingerprint: {fingerprint}");
    eprintln!("Compare it with the one that your administrator gives you.");
    match line("Connect? [y]es, this time; [a]lways; [N]o: ".to_owned()).await.as_deref() {
        Some("y" | "yes") => Decision::AcceptOnce,
        Some("a" | "always") => Decision::Remember,
        _ => Decision::Refuse,
    }
}

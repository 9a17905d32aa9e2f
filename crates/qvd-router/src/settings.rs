//! Configuration values as the router uses them.

use std::time::Duration;

use qvd_db::Database;
use qvd_db::configs;
use qvd_db::placement::Policy;
use qvd_logic::placement::Weights;
use qvd_logic::session::Limits;
use qvd_relay::{ServerTls, TlsMaterial};
use qvd_runtime::Values;
use qvd_runtime::config::ConfigError;

use crate::Error;

/// How long tasks that were told to end may take.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long sessions may go on after the router was told to stop.
pub(crate) fn drain(values: &Values) -> Duration {
    values.seconds("internal.l7r.timeout.drain").unwrap_or(LAST_WORDS)
}

/// How long sessions may go on after a successor has replaced the router.
pub(crate) fn retirement(values: &Values) -> Duration {
    values.seconds("internal.l7r.timeout.upgrade").unwrap_or(LAST_WORDS)
}

pub(crate) fn limits(values: &Values) -> Result<Limits, ConfigError> {
    let poll_x = values.seconds("internal.l7r.poll_time.x")?;
    // Upstream tries this often with this pause; we try more often within the same time.
    let tries = values.int::<u32>("internal.l7r.retry.x_start")?.saturating_add(1);
    Ok(Limits {
        takeover: values.seconds("internal.l7r.timeout.takeover")?,
        poll_vm: values.seconds("internal.l7r.poll_time.vm")?,
        vm_start: values.seconds("internal.l7r.timeout.vm_start")?,
        x_accept: poll_x.saturating_mul(tries),
        x_start: values.seconds("internal.l7r.timeout.x_start")?,
        poll_x,
    })
}

pub(crate) fn policy(values: &Values) -> Result<Policy, ConfigError> {
    Ok(Policy {
        hypervisor: values.text("vm.hypervisor")?,
        weights: Weights::read(|key| values.number(key))?,
        start_blocked: false,
    })
}

/// TLS out of the database, else out of files; `None` if `l7r.use_ssl` is off.
pub(crate) async fn tls(values: &Values, database: &Database) -> Result<Option<ServerTls>, Error> {
    if !values.flag("l7r.use_ssl")? {
        return Ok(None);
    }
    let client = database.client().await?;
    let text = async |name: &str| -> Result<Option<String>, Error> {
        if let Some(pem) = configs::pem(database.vault(), &client, &format!("l7r.ssl.{name}")).await? {
            return Ok(Some(pem));
        }
        let path = values.path(&format!("path.l7r.ssl.{name}"))?;
        match tokio::fs::read_to_string(&path).await {
            Ok(pem) => Ok(Some(pem)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { operation: "read", path, source }),
        }
    };
    let (Some(cert), Some(key)) = (text("cert").await?, text("key").await?) else {
        let (cert, key) = (values.path("path.l7r.ssl.cert")?, values.path("path.l7r.ssl.key")?);
        return Err(Error::NoCertificate { cert, key });
    };
    let mut material = TlsMaterial { cert, key, ..TlsMaterial::default() };
    if values.flag("l7r.client.cert.require")? {
        material.client_ca = Some(text("ca").await?.ok_or(Error::NoAuthority)?);
        material.client_crl = configs::pem(database.vault(), &client, "l7r.ssl.crl").await?;
    }
    Ok(Some(ServerTls::new(&material)?))
}

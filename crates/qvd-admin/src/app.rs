//! What all requests share.

use std::collections::HashMap;

use qvd_auth::Hasher;
use qvd_db::attempts::Attempts;
use qvd_db::{Database, Listener};
use qvd_logic::proxies::Proxies;
use qvd_model::TenantId;
use qvd_runtime::config::Row;
use qvd_runtime::zone::Zone;
use qvd_runtime::{Config, Drain};

use crate::check::Rules;
use crate::clock::Clock;
use crate::error::Error;
use crate::feed::Feed;
use crate::http::Requests;

/// Password checks at the same time; each takes a core and 19 MiB for a moment.
const PARALLEL_CHECKS: usize = 4;

/// The service's own things.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) database: Database,
    pub(crate) listener: Listener,
    pub(crate) hasher: Hasher,
    pub(crate) attempts: Attempts,
    pub(crate) tasks: Drain,
    pub(crate) feed: Feed,
    pub(crate) requests: Requests,
    pub(crate) proxies: Proxies,
}

impl App {
    pub(crate) fn new(
        config: Config,
        database: Database,
        listener: Listener,
        tasks: Drain,
        proxies: Proxies,
    ) -> Self {
        let (attempts, counting) = Attempts::new(database.clone(), tasks.token().clone());
        tasks.spawn(counting);
        Self {
            config,
            database,
            listener,
            hasher: Hasher::new(PARALLEL_CHECKS),
            attempts,
            tasks,
            feed: Feed::new(),
            requests: Requests::new(),
            proxies,
        }
    }

    /// Reads the rows of the database into the configuration.
    pub(crate) async fn load_rows(&self) -> Result<(), qvd_db::Error> {
        let rows = qvd_db::configs::rows(&self.database).await?;
        self.config.set_rows(rows.into_iter().map(|(tenant, key, value)| Row { tenant, key, value }));
        Ok(())
    }

    pub(crate) fn is_multitenant(&self) -> Result<bool, Error> {
        Ok(self.config.now().flag("wat.multitenant")?)
    }

    pub(crate) fn rules(&self) -> Result<Rules, Error> {
        let values = self.config.now();
        let clock = Clock::now(Zone::named(&values.text("api.timezone")?)?);
        Ok(Rules { case_sensitive: values.flag("model.user.login.case-sensitive")?, clock })
    }
}

/// Settings of tenants as they are stored.
pub(crate) type Stored = HashMap<(TenantId, String), String>;

//! `qa`, the command line of QVD 3 (`spec/cli.md` 4): the same words, columns and messages over the API, so that
//! permissions, tenants and the log hold for it too.

mod arguments;
mod commands;
mod direct;
mod invoke;
mod settings;
mod show;

use std::io::Write;

use qvd_model::filter::Filter;

use crate::api::Api;
use crate::error::Error;
use crate::options::{Options, Settings};
use crate::run::{Context, Mode, write};
use arguments::{Arguments, Fault};

/// A command of `qa` at work.
struct Legacy<'a> {
    arguments: Arguments,
    context: Context<'a>,
}

/// Runs `qa` with its arguments (the first is its name); the result is its exit code.
pub async fn main(
    words: Vec<String>,
    environment: &dyn Fn(&str) -> Option<String>,
    out: &mut dyn Write,
) -> u8 {
    let arguments = match arguments::parse(words.get(1..).unwrap_or_default()) {
        Ok(arguments) => arguments,
        Err(Fault { problems, help }) => {
            for problem in problems {
                eprintln!("Error: {problem}");
            }
            // Where it cannot be written, the exit code still tells.
            let _ = write(out, &help);
            return 1;
        }
    };
    if arguments.help {
        return u8::from(write(out, &arguments.command.help()).is_err());
    }
    let (quiet, strict) = (arguments.quiet, arguments.strict);
    match run(arguments, environment, out).await {
        Ok(()) => 0,
        Err(Error::Unconfirmed(_)) if !strict => 0,
        Err(Error::Ended(code)) => code,
        Err(error) => {
            if !quiet {
                eprintln!("Error: {error}");
            }
            if strict { error.exit_code() } else { 1 }
        }
    }
}

async fn run(
    arguments: Arguments,
    environment: &dyn Fn(&str) -> Option<String>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    if arguments.direct {
        return direct::run(&arguments, environment, out).await;
    }
    let mut options = Options::of_legacy(arguments.quiet, arguments.force);
    (options.strict, options.verbose) = (arguments.strict, arguments.debug);
    let settings = Settings::load(&options, environment)?;
    let mut api = Api::open(&settings).await?;
    let context = Context { api: &mut api, options: &options, out, mode: Mode::Once, pages: None };
    let mut legacy = Legacy { arguments, context };
    legacy.scope().await?;
    legacy.run().await
}

impl Legacy<'_> {
    /// Objects are those of one tenant, for who could see those of all.
    async fn scope(&mut self) -> Result<(), Error> {
        let noun = self.arguments.command.noun();
        let tenancy = qvd_model::action::entity(noun.object).tenancy;
        let has_tenant = tenancy != qvd_model::action::Tenancy::None;
        if has_tenant && self.context.api.identity().await?.is_super() {
            let default = if noun.word == "config" { "-1" } else { "1" };
            let tenant = self.arguments.tenant.clone().unwrap_or_else(|| default.to_owned());
            let number = tenant.parse::<i64>().is_ok();
            let field = if number { "tenant_id" } else { "tenant_name" };
            self.arguments.tenant = Some(tenant.clone());
            self.arguments.scope =
                Some((field, Filter::test(field, qvd_model::filter::Operator::Equal, tenant)));
        }
        Ok(())
    }

    fn say(&mut self, text: &str) -> Result<(), Error> {
        if self.arguments.quiet { Ok(()) } else { write(self.context.out, text) }
    }
}

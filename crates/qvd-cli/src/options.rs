//! Global options, environment and configuration files (`spec/cli.md` 1.3 and 1.4).

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use qvd_model::nearest;
use qvd_runtime::Config;
use secrecy::SecretString;

use crate::error::Error;
use crate::output::{Format, Style};
use crate::pins::Pins;
use crate::proxy::Proxy;
use crate::transport::Address;

/// The options of the program. They may stand anywhere; `--` ends them.
#[derive(Debug, Clone, Parser)]
#[command(name = "qa4", disable_help_flag = true, disable_version_flag = true)]
#[allow(clippy::struct_excessive_bools, reason = "each is an independent flag of the command line")]
pub struct Options {
    /// Address of the API.
    #[arg(short, long)]
    pub url: Option<String>,
    /// Unix socket of the API, for root on its host.
    #[arg(long)]
    pub socket: Option<PathBuf>,
    /// Tenant of the administrator.
    #[arg(short, long)]
    pub tenant: Option<String>,
    /// Administrator.
    #[arg(short, long)]
    pub login: Option<String>,
    /// Password.
    #[arg(short, long)]
    pub password: Option<String>,
    /// Tenant of new objects, for super-administrators.
    #[arg(long)]
    pub for_tenant: Option<String>,
    /// A file whose first line is the password.
    #[arg(long)]
    pub password_file: Option<PathBuf>,
    /// Reads the password from the first line of standard input.
    #[arg(long)]
    pub password_stdin: bool,
    /// A file whose first line is a token of the administrator, in place of a login.
    #[arg(long, conflicts_with_all = ["login", "password", "password_file", "password_stdin"])]
    pub token_file: Option<PathBuf>,
    /// Format of results.
    #[arg(short, long, visible_alias = "output", short_alias = 'o')]
    pub format: Option<String>,
    /// Shows only these columns, in this order.
    #[arg(long, value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Leaves the header of listings out.
    #[arg(long)]
    pub no_headers: bool,
    /// Colors states: auto, always or never.
    #[arg(long, default_value = "auto")]
    pub color: clap::ColorChoice,
    /// At most so many rows, or objects that are changed.
    #[arg(long)]
    pub limit: Option<u32>,
    /// Certificate authority of the API.
    #[arg(long)]
    pub ca: Option<PathBuf>,
    /// Trusts the certificate that the API has the first time, and no other one after that.
    #[arg(long, conflicts_with_all = ["insecure", "ca"])]
    pub pin: bool,
    /// Does not check the certificate of the API.
    #[arg(long)]
    pub insecure: bool,
    /// The API and administrator that `qa.profile.NAME.*` of the configuration files describes.
    #[arg(long)]
    pub profile: Option<String>,
    /// Changes every object without asking.
    #[arg(long, visible_alias = "yes", short_alias = 'y')]
    pub force: bool,
    /// Shows what would change.
    #[arg(long)]
    pub dry_run: bool,
    /// A selection that matches nothing is no failure.
    #[arg(long)]
    pub allow_empty: bool,
    /// Shows a listing again whenever something changes.
    #[arg(long)]
    pub watch: bool,
    /// Waits until VMs have started or stopped, or hosts are empty.
    #[arg(long)]
    pub wait: bool,
    /// Does not wait until an image is imported.
    #[arg(long, conflicts_with = "wait")]
    pub no_wait: bool,
    /// `config ssl`: the paths are on the server.
    #[arg(long)]
    pub server_side: bool,
    /// Neither tolerates slips in the command nor objects that are already as wanted.
    #[arg(long)]
    pub strict: bool,
    /// No remarks on standard error.
    #[arg(short, long)]
    pub quiet: bool,
    /// Tells where the settings come from, and what is sent.
    #[arg(short, long)]
    pub verbose: bool,
    /// How long an answer, or what is waited for, may take: seconds, or 5m, 2h.
    #[arg(long, default_value = "300", value_parser = duration)]
    pub timeout: Duration,
    /// Commands from a file, one a line; `-` is standard input.
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// Goes on after a command of the file that failed.
    #[arg(long)]
    pub keep_going: bool,
    /// Prints the help.
    #[arg(long)]
    pub help: bool,
    /// Prints the version of this program.
    #[arg(long)]
    pub version: bool,
    /// The command.
    #[arg(allow_negative_numbers = true)]
    pub command: Vec<String>,
}

impl Options {
    /// What `qa` knows of them; it reads the same files and variables.
    pub(crate) fn of_legacy(quiet: bool, force: bool) -> Self {
        let mut options = Self::parse_from(["qa"]);
        (options.quiet, options.force) = (quiet, force);
        options
    }
}

/// The layout that arguments ask for, also where they are wrong otherwise.
pub(crate) fn format_of(arguments: &[String]) -> Format {
    let asks = |name: &str| ["-f", "-o", "--format", "--output"].contains(&name);
    let named = arguments.iter().enumerate().find_map(|(at, argument)| match argument.split_once('=') {
        Some((name, format)) if asks(name) => Some(format),
        None if asks(argument) => arguments.get(at + 1).map(String::as_str),
        _ => None,
    });
    named.and_then(|name| name.parse().ok()).unwrap_or(Format::Table)
}

/// `90`, `90s`, `5m`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("expected seconds, or a number with s, m or h".to_owned()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).filter(|n| *n > 0);
    seconds.map(Duration::from_secs).ok_or_else(|| "expected a number greater than 0".to_owned())
}

/// Where the API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On a Unix socket of this machine.
    Socket(PathBuf),
    /// At an address.
    Url(String),
}

/// Who logs in.
#[derive(Clone)]
pub struct Credentials {
    /// Administrator.
    pub login: String,
    /// Tenant of the administrator.
    pub tenant: Option<String>,
    /// Password; asked for if there is none.
    pub password: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { login, tenant, .. } = self;
        f.debug_struct("Credentials").field("login", login).field("tenant", tenant).finish_non_exhaustive()
    }
}

/// Options, environment and files, put together.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the API is.
    pub place: Place,
    /// Who logs in; nobody on a Unix socket, where the kernel says who we are.
    pub credentials: Option<Credentials>,
    /// A token that is shown in place of a login.
    pub token: Option<SecretString>,
    /// A code of the second factor, for where nobody can be asked.
    pub code: Option<String>,
    /// How results are printed.
    pub style: Style,
    /// Certificate authority.
    pub ca: Option<PathBuf>,
    /// The certificate of the API is not checked.
    pub insecure: bool,
    /// Certificates are those that were seen first.
    pub pins: Option<Pins>,
    /// The proxy on the way to the API.
    pub proxy: Option<Proxy>,
    /// Tenant of new objects.
    pub for_tenant: Option<String>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Where the session is kept.
    pub session_file: Option<PathBuf>,
    /// Where the lines that were typed are kept.
    pub history_file: Option<PathBuf>,
    /// The program that shows listings longer than a page.
    pub pager: Option<String>,
    /// What is sent is told.
    pub traced: bool,
    /// A removal of more objects than this is confirmed where somebody can be asked.
    pub many: usize,
}

/// Where the API listens for root when nothing else is said.
const DEFAULT_SOCKET: &str = "/var/run/qvd/api.sock";

impl Settings {
    /// Puts options, environment and files together: the former win.
    pub fn load(options: &Options, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let home = environment("HOME").map(PathBuf::from);
        let files = files(environment("QVD_CONFIG").map(PathBuf::from), home.as_deref());
        if options.verbose {
            for file in &files {
                eprintln!("qa4: settings from {}", file.display());
            }
        }
        let config = if files.is_empty() { Config::parse("none", "") } else { Config::load(&files) };
        let values = config.map_err(|e| Error::Usage(e.to_string()))?.now();
        let stored = |key: &str| {
            let value = values.optional(key).map_err(|e| Error::Usage(e.to_string()))?;
            Ok::<_, Error>(value.filter(|v| !v.is_empty()))
        };
        let profile =
            options.profile.clone().or_else(|| environment("QVD_PROFILE").filter(|p| !p.is_empty()));
        if let Some(name) = &profile {
            check_profile(name, &values.keys())?;
        }
        let file = |key: &str| match (&profile, key.strip_prefix("qa.")) {
            (Some(profile), Some(name)) => match stored(&format!("qa.profile.{profile}.{name}"))? {
                // A password is not shown to another API than the one that it is for.
                None if OF_ONE_API.contains(&name) => Ok(None),
                None => stored(key),
                found => Ok(found),
            },
            _ => stored(key),
        };
        let layered = |option: Option<String>, variable: &str, key: &str| match option {
            Some(value) => Ok(Some(value)),
            None => match environment(variable).filter(|v| !v.is_empty()) {
                Some(value) => Ok(Some(value)),
                None => file(key),
            },
        };
        let place = place(options, environment, &file)?;
        let proxy = match &place {
            Place::Url(url) => {
                let address = Address::parse(url)?;
                Proxy::of(environment, &address.host, address.port)?
            }
            Place::Socket(_) => None,
        };
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let stored_password = file("qa.password")?;
        let stored_token = file("qa.token")?;
        if (stored_password.is_some() || stored_token.is_some()) && !options.quiet {
            warn_about_readable(&files);
        }
        let credentials = match layered(options.login.clone(), "QVD_LOGIN", "qa.login")? {
            Some(login) => Some(Credentials {
                login,
                tenant: layered(options.tenant.clone(), "QVD_TENANT", "qa.tenant")?,
                password: match password(options)? {
                    Some(password) => Some(password),
                    None => environment("QVD_PASSWORD").filter(|v| !v.is_empty()).or(stored_password),
                },
            }),
            None => None,
        };
        let token = match (&options.token_file, &options.login) {
            (Some(file), _) => Some(first_line_of("--token-file", file)?),
            // Somebody else is meant.
            (None, Some(_)) => None,
            (None, None) => environment("QVD_TOKEN").filter(|v| !v.is_empty()).or(stored_token),
        };
        let insecure =
            options.insecure || switch("qa.insecure", layered(None, "QVD_INSECURE", "qa.insecure")?)?;
        // An authority on the command line is meant, whatever is kept in a file.
        let pin =
            options.pin || (options.ca.is_none() && switch("qa.pin", layered(None, "QVD_PIN", "qa.pin")?)?);
        if insecure && !options.quiet {
            eprintln!("qa4: the certificate of the API is not checked");
        }
        let format = layered(options.format.clone(), "QVD_FORMAT", "qa.format")?;
        let style = Style {
            format: format.as_deref().map_or(Format::Table, known_format),
            titles: !options.no_headers,
            colored: is_colored(options, environment),
        };
        Ok(Self {
            place,
            credentials,
            token: token.map(SecretString::from),
            code: environment("QVD_CODE").filter(|code| !code.is_empty()),
            style,
            ca: layered(options.ca.as_ref().map(text), "QVD_CA", "qa.ca")?.map(PathBuf::from),
            insecure,
            pins: match &home {
                Some(home) if pin => Some(Pins::at(home.join(".qvd/qa.pins"))),
                None if pin => {
                    return Err(Error::Usage("--pin: without HOME nothing can be kept".to_owned()));
                }
                _ => None,
            },
            proxy,
            for_tenant: match &options.for_tenant {
                Some(tenant) => Some(tenant.clone()),
                None => file("qa.default_tenant")?,
            },
            timeout: options.timeout,
            session_file: home.as_ref().map(|h| match &profile {
                Some(profile) => h.join(format!(".qvd/qa.session.{profile}")),
                None => h.join(".qvd/qa.session"),
            }),
            history_file: home.map(|h| h.join(".qvd/qa.history")),
            traced: options.verbose,
            pager: environment("PAGER").filter(|p| !p.is_empty()),
            many: match file("confirm.threshold")? {
                None => 20,
                Some(text) => text
                    .parse()
                    .map_err(|_| Error::Usage(format!("confirm.threshold: `{text}` is not a number")))?,
            },
        })
    }
}

/// What a profile has of its own, and does not take over from the settings without one.
const OF_ONE_API: &[&str] =
    &["url", "socket", "login", "password", "token", "tenant", "ca", "insecure", "pin"];

/// A profile is one of those that the files describe.
fn check_profile(name: &str, keys: &[String]) -> Result<(), Error> {
    let described = keys.iter().filter_map(|key| key.strip_prefix("qa.profile.")?.split_once('.'));
    let mut known: Vec<&str> = described.map(|(profile, _)| profile).collect();
    known.sort_unstable();
    known.dedup();
    if known.contains(&name) && !name.contains('/') {
        return Ok(());
    }
    let hint = nearest(name, known.iter().copied());
    let hint = hint.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
    Err(Error::Usage(format!("no profile `{name}`: no file sets qa.profile.{name}.url{hint}")))
}

fn switch(key: &str, value: Option<String>) -> Result<bool, Error> {
    match value.as_deref() {
        None | Some("0" | "false" | "no" | "off") => Ok(false),
        Some("1" | "true" | "yes" | "on") => Ok(true),
        Some(other) => Err(Error::Usage(format!("{key}: `{other}` is neither 1 nor 0"))),
    }
}

/// Old scripts ask for formats that never were, and get a table.
fn known_format(name: &str) -> Format {
    name.parse().unwrap_or_else(|error| {
        eprintln!("qa4: {error}; a table is printed");
        Format::Table
    })
}

fn is_colored(options: &Options, environment: &dyn Fn(&str) -> Option<String>) -> bool {
    match options.color {
        clap::ColorChoice::Always => true,
        clap::ColorChoice::Never => false,
        clap::ColorChoice::Auto => {
            let refused = environment("NO_COLOR").is_some_and(|v| !v.is_empty())
                || environment("TERM").is_some_and(|t| t == "dumb");
            !refused && std::io::stdout().is_terminal()
        }
    }
}

/// The password that options name, from the safest of the places.
fn password(options: &Options) -> Result<Option<String>, Error> {
    if let Some(file) = &options.password_file {
        return first_line_of("--password-file", file).map(Some);
    }
    if options.password_stdin {
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line);
        read.map_err(|e| Error::Usage(format!("--password-stdin: {e}")))?;
        return Ok(Some(first_line(&line)));
    }
    Ok(options.password.clone())
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn first_line_of(option: &str, file: &Path) -> Result<String, Error> {
    let text = std::fs::read_to_string(file);
    text.map(|text| first_line(&text)).map_err(|e| Error::Usage(format!("{option} {}: {e}", file.display())))
}

fn warn_about_readable(files: &[PathBuf]) {
    for file in files {
        let readable = std::fs::metadata(file).is_ok_and(|meta| meta.mode() & 0o077 != 0);
        let holds = |key: &str| std::fs::read_to_string(file).is_ok_and(|text| text.contains(key));
        if readable && ([".password", ".token"].into_iter().any(holds)) {
            eprintln!(
                "qa4: others can read {}, which holds a password or token: chmod 600 it",
                file.display()
            );
        }
    }
}

fn place(
    options: &Options,
    environment: &dyn Fn(&str) -> Option<String>,
    file: &dyn Fn(&str) -> Result<Option<String>, Error>,
) -> Result<Place, Error> {
    let layers = [
        (options.url.clone(), options.socket.clone()),
        (environment("QVD_URL"), environment("QVD_SOCKET").map(PathBuf::from)),
        (file("qa.url")?, file("qa.socket")?.map(PathBuf::from)),
    ];
    for layer in layers {
        match layer {
            (Some(url), _) if !url.is_empty() => return Ok(Place::Url(url)),
            (_, Some(socket)) => return Ok(Place::Socket(socket)),
            _ => {}
        }
    }
    let root = nix::unistd::geteuid().is_root();
    if root && Path::new(DEFAULT_SOCKET).exists() {
        return Ok(Place::Socket(PathBuf::from(DEFAULT_SOCKET)));
    }
    Err(Error::Usage(
        "where is the API? Give --url, or set qa.url in /etc/qvd/qa.conf; root on its host needs neither \
         while it runs"
            .to_owned(),
    ))
}

/// The files that are there and may be trusted, in the order in which they are read.
fn files(only: Option<PathBuf>, home: Option<&Path>) -> Vec<PathBuf> {
    if let Some(only) = only {
        return vec![only];
    }
    let usual = [Some(PathBuf::from("/etc/qvd/qa.conf")), home.map(|h| h.join(".qvd/qa.conf"))];
    let mut files: Vec<PathBuf> = usual.into_iter().flatten().filter(|f| f.exists()).collect();
    // A file in the working directory could have been planted there by somebody else.
    let here = PathBuf::from("qa.conf");
    if let Ok(meta) = std::fs::metadata(&here)
        && meta.uid() == nix::unistd::geteuid().as_raw()
        && meta.mode() & 0o022 == 0
    {
        files.push(here);
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Settings, Error> {
        let options =
            Options::try_parse_from(std::iter::once("qa4").chain(arguments.iter().copied())).unwrap();
        let lookup =
            |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        Settings::load(&options, &lookup)
    }

    #[test]
    fn options_win_over_the_environment_and_that_over_files() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("qa.conf");
        let text =
            "qa.url = https://file/\nqa.login = filed\nqa.tenant = *\nqa.insecure = yes\nqa.format = CSV\n";
        std::fs::write(&file, text).unwrap();
        let config = ("QVD_CONFIG", file.to_str().unwrap());
        let settings = load(&["vm", "get"], &[config]).unwrap();
        assert_eq!(settings.place, Place::Url("https://file/".into()));
        assert_eq!((settings.style.format, settings.insecure), (Format::Csv, true));
        let login = settings.credentials.unwrap();
        assert_eq!((login.login.as_str(), login.tenant.as_deref()), ("filed", Some("*")));

        let settings =
            load(&["vm", "get"], &[config, ("QVD_URL", "https://env/"), ("QVD_LOGIN", "env")]).unwrap();
        assert_eq!(settings.place, Place::Url("https://env/".into()));
        assert_eq!(settings.credentials.unwrap().login, "env");
        // Options may stand anywhere, their values may be words of the language.
        let arguments = ["vm", "-l", "admin", "get", "--socket", "/s", "-f", "json"];
        let settings = load(&arguments, &[config, ("QVD_LOGIN", "env")]).unwrap();
        assert_eq!(settings.place, Place::Socket("/s".into()));
        let login = settings.credentials.unwrap().login;
        assert_eq!((settings.style.format, login.as_str()), (Format::Json, "admin"));
    }

    #[test]
    fn a_password_comes_from_a_file_and_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "s3cr3t\n").unwrap();
        let arguments =
            ["-u", "https://a/", "-l", "x", "--password-file", file.to_str().unwrap(), "vm", "get"];
        let settings = load(&arguments, &[("QVD_CONFIG", "/dev/null")]).unwrap();
        assert_eq!(settings.credentials.as_ref().unwrap().password.as_deref(), Some("s3cr3t"));
        assert!(!format!("{settings:?}").contains("s3cr3t"));
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("90").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("5m").unwrap(), Duration::from_secs(300));
        for bad in ["", "m", "0", "5d", "-1", "99999999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("qa.conf");
        std::fs::write(&file, "qa.url = https://a/\nqa.insecure = perhaps\n").unwrap();
        let error = load(&[], &[("QVD_CONFIG", file.to_str().unwrap())]).unwrap_err();
        assert!(error.to_string().contains("qa.insecure"), "{error}");
        std::fs::write(&file, "no entry\n").unwrap();
        let error = load(&[], &[("QVD_CONFIG", file.to_str().unwrap())]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("qa.conf"), "{error}");
    }
}

//! The command line: the manual's letters, and long names beside them.

use std::path::PathBuf;

use clap::{ArgAction, Parser};
use zeroize::Zeroizing;

const AFTER_HELP: &str = "\
Variables: QVDHOST, QVDPORT, QVDLOGIN, QVDPASSWORD, QVDBEARER, QVDVMID, QVDRECONNECT stand in for -h, -p, -u, -w, -b, \
-s, --reconnect; \
DISPLAY and XAUTHORITY name the X server.
Files: ~/.qvd/certs holds certificates of authorities (PEM); ~/.qvd/pins the exceptions made on a terminal.

Exit codes:
  0  the session ended in order, or the list was printed
  1  wrong arguments
  2  the user has no VM
  3  cannot connect to the router
  4  the certificate of the router is not trusted; its fingerprint is printed
  5  the router gives no list of VMs
  6  the chosen VM is not in the list, or none was chosen
  7  login or password is wrong
  8  the router cannot connect the VM
  9  no X server to draw on, or nxproxy failed
  10 the link was lost, and the desktop could not be had again
  11 another client took the session over
  12 an administrator ended the connection
  13 the VM was stopped
  14 the VM failed
  15 the VM expired
  16 the desktop was not used for too long
  17 the router was stopped
  18 the server that the VM ran on was lost
  129, 130, 143  ended by HUP, INT, TERM";

/// Connects to a QVD desktop.
#[derive(Debug, Parser)]
#[command(
    name = "qvdclient",
    version,
    disable_help_flag = true,
    disable_version_flag = true,
    after_help = AFTER_HELP
)]
pub(crate) struct Arguments {
    /// Show this help.
    #[arg(short = '?', long, action = ArgAction::Help)]
    help: Option<bool>,
    /// Show the version.
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,
    /// Show what happens, and the output of nxproxy.
    #[arg(short = 'd', long)]
    pub(crate) debug: bool,
    /// Host of the router.
    #[arg(short = 'h', long, env = "QVDHOST", value_name = "HOST")]
    pub(crate) host: String,
    /// Port of the router.
    #[arg(short = 'p', long, env = "QVDPORT", default_value_t = 8443, value_name = "PORT")]
    pub(crate) port: u16,
    /// Login.
    #[arg(short = 'u', long, env = "QVDLOGIN", value_name = "USER")]
    #[arg(required_unless_present = "bearer", value_parser = login)]
    pub(crate) user: Option<String>,
    /// Password; better in QVDPASSWORD, or typed when asked, since others can read command lines.
    #[arg(short = 'w', long, env = "QVDPASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    #[arg(value_parser = secret)]
    pub(crate) password: Option<Secret>,
    /// Token in place of login and password, as base64; needs -s.
    #[arg(short = 'b', long, env = "QVDBEARER", hide_env_values = true, value_name = "TOKEN")]
    #[arg(requires = "vm", value_parser = secret)]
    pub(crate) bearer: Option<Secret>,
    /// Size of the desktop.
    #[arg(short = 'g', long, default_value = "800x600", value_name = "WIDTHxHEIGHT")]
    #[arg(value_parser = geometry)]
    pub(crate) geometry: String,
    /// Full screen.
    #[arg(short = 'f', long)]
    pub(crate) fullscreen: bool,
    /// Only list the VMs.
    #[arg(short = 'l', long)]
    pub(crate) list: bool,
    /// Connect to the first VM.
    #[arg(short = 'o', long)]
    pub(crate) one: bool,
    /// Connect to the VM with this id.
    #[arg(short = 's', long = "vm", id = "vm", env = "QVDVMID", value_name = "ID", conflicts_with = "one")]
    pub(crate) vm: Option<i32>,
    /// Do not check the certificate of the router.
    #[arg(short = 'n', long)]
    pub(crate) no_check: bool,
    /// Options of nxproxy, e.g. nx/nx,data=0,delta=0,cache=16384,pack=0:0.
    #[arg(short = 'x', long, value_name = "OPTIONS", value_parser = nx_options)]
    pub(crate) nx: Option<NxOptions>,
    /// Keyboard as model/layout.
    #[arg(short = 'K', long, default_value = "pc105/en", value_name = "MODEL/LAYOUT")]
    pub(crate) keyboard: String,
    /// Link speed: modem, isdn, adsl, wan, lan or local.
    #[arg(long, default_value = "adsl", value_name = "LINK", value_parser = link)]
    pub(crate) link: String,
    /// Client certificate (PEM); needs -k.
    #[arg(short = 'c', long, requires = "key", value_name = "FILE")]
    pub(crate) certificate: Option<PathBuf>,
    /// Key of the client certificate (PEM); needs -c.
    #[arg(short = 'k', long, requires = "certificate", value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Stop the VM first, so that it starts anew.
    #[arg(short = 'r', long)]
    pub(crate) restart: bool,
    /// How long to try to come back by itself to a desktop whose connection was lost; 0 is not at all. The router gives
    /// a ticket for that, which is kept in memory only.
    #[arg(long, env = "QVDRECONNECT", default_value_t = 120, value_name = "SECONDS")]
    pub(crate) reconnect: u64,
    /// Connect a second time when the session has ended.
    #[arg(short = '2', long)]
    pub(crate) twice: bool,
}

/// A secret of the command line or environment. `Debug` hides it.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) Zeroizing<String>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Options of nxproxy, one word each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NxOptions(pub(crate) Vec<String>);

fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret(Zeroizing::new(text.to_owned())))
}

fn login(text: &str) -> Result<String, String> {
    match text {
        "" => Err("a login is not empty".to_owned()),
        text if text.contains(':') => Err("a login has no colon".to_owned()),
        text => Ok(text.to_owned()),
    }
}

fn geometry(text: &str) -> Result<String, String> {
    let number = |part: &str| part.parse::<u16>().is_ok_and(|n| n > 0);
    match text.split_once('x') {
        Some((width, height)) if number(width) && number(height) => Ok(text.to_owned()),
        _ => Err("write it as 1024x768".to_owned()),
    }
}

fn link(text: &str) -> Result<String, String> {
    let known = ["modem", "isdn", "adsl", "wan", "lan", "local"];
    if known.contains(&text) { Ok(text.to_owned()) } else { Err(format!("use one of {}", known.join(", "))) }
}

fn nx_options(text: &str) -> Result<NxOptions, String> {
    let inner = text.strip_prefix("nx/nx").unwrap_or(text);
    let inner = inner.rsplit_once(':').filter(|(_, n)| n.parse::<u16>().is_ok()).map_or(inner, |(i, _)| i);
    let words = inner.split(',').filter(|word| !word.is_empty());
    let checked = words.map(|word| match word.split_once('=') {
        Some((name, value)) if name.bytes().all(|b| b.is_ascii_lowercase()) && !value.is_empty() => {
            Ok(word.to_owned())
        }
        _ => Err(format!("`{word}` is not name=value")),
    });
    checked.collect::<Result<_, _>>().map(NxOptions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once("qvdclient").chain(line.split(' ')))
    }

    #[test]
    fn the_manuals_letters_are_understood() {
        let line = "-d -h qvd.example -p 443 -u joe -w x -g 1024x768 -f -o -n -c crt -k key -r -2 -K pc105/es \
                    -x nx/nx,data=0,delta=0,cache=16384,pack=0:0";
        let arguments = parse(line).unwrap();
        assert_eq!((arguments.host.as_str(), arguments.port), ("qvd.example", 443));
        assert_eq!(arguments.nx.unwrap().0, ["data=0", "delta=0", "cache=16384", "pack=0"]);
        assert!(arguments.one && arguments.no_check && arguments.restart && arguments.twice);
        assert!(!format!("{:?}", parse("-h q -u joe -w t0p").unwrap()).contains("t0p"));
    }

    #[test]
    fn help_and_version_are_no_errors() {
        for flag in ["-?", "-v"] {
            assert!(!parse(flag).unwrap_err().use_stderr(), "{flag}");
        }
    }

    #[test]
    fn half_a_pair_and_nonsense_are_refused() {
        for line in [
            "-u joe",
            "-h q",
            "-h q -u joe -c crt",
            "-h q -u joe -k key",
            "-h q -b token",
            "-h q -u joe -g wide",
            "-h q -u joe -s 1 -o",
            "-h q -u a:b",
            "-h q -u joe -x nx/nx,kill",
            "-h q -u joe --link 5m",
        ] {
            assert!(parse(line).unwrap_err().use_stderr(), "{line}");
        }
    }
}

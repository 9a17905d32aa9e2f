//! The way to the API through an HTTP proxy, as the usual variables say.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::Error;

/// The longest answer of a proxy.
const MAX_ANSWER: usize = 16 << 10;

/// A proxy that makes connections by `CONNECT`.
#[derive(Debug, Clone)]
pub struct Proxy {
    host: String,
    port: u16,
    /// What it wants to be shown.
    authorization: Option<SecretString>,
}

impl Proxy {
    /// The proxy for an API, if there is one: `https_proxy` or `all_proxy`, unless `no_proxy` names the host. Lower case
    /// wins over upper case.
    pub fn of(
        environment: &dyn Fn(&str) -> Option<String>,
        host: &str,
        port: u16,
    ) -> Result<Option<Self>, Error> {
        let variable = |name: &str| {
            let given = environment(name).or_else(|| environment(&name.to_ascii_uppercase()));
            given.filter(|value| !value.is_empty())
        };
        let named = ["https_proxy", "all_proxy"].iter().find_map(|name| Some((*name, variable(name)?)));
        let Some((name, url)) = named else { return Ok(None) };
        let exempt = variable("no_proxy").is_some_and(|list| is_exempt(&list, host, port));
        if exempt { Ok(None) } else { Self::parse(name, &url).map(Some) }
    }

    fn parse(variable: &str, url: &str) -> Result<Self, Error> {
        // The address may hold a password, so it is not shown.
        let wrong = |problem: &str| Error::Usage(format!("{variable}: {problem}"));
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some((scheme, _)) => {
                return Err(wrong(&format!("only http:// proxies are used, not {scheme}://")));
            }
            None => url,
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (who, place) = match authority.rsplit_once('@') {
            Some((who, place)) => (Some(who), place),
            None => (None, authority),
        };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| wrong("its port is not a number"))?)
            }
            _ => (place, 80),
        };
        let host = host.trim_matches(['[', ']']);
        if host.is_empty() {
            return Err(wrong("it names no host"));
        }
        let authorization = who.map(|who| {
            let who = if who.contains(':') { who.to_owned() } else { format!("{who}:") };
            SecretString::from(format!("Basic {}", STANDARD.encode(unescaped(&who))))
        });
        Ok(Self { host: host.to_owned(), port, authorization })
    }

    /// Where it is, for messages.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// A connection through it.
    pub(crate) async fn connect(&self, host: &str, port: u16) -> std::io::Result<TcpStream> {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let mut stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
        if let Some(authorization) = &self.authorization {
            request.push_str(&format!("Proxy-Authorization: {}\r\n", authorization.expose_secret()));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        // Nothing of the API follows before it was spoken to.
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut answer).await? == 0 || answer.len() > MAX_ANSWER {
                return Err(std::io::Error::other("it ends the connection instead of an answer"));
            }
        }
        let line = String::from_utf8_lossy(answer.split(|byte| *byte == b'\r').next().unwrap_or_default());
        let status = line.split(' ').nth(1);
        if status == Some("200") {
            Ok(stream)
        } else {
            Err(std::io::Error::other(format!("it answers {line}")))
        }
    }
}

/// Whether `no_proxy` names a host: itself, a domain that it is in, or everything.
fn is_exempt(list: &str, host: &str, port: u16) -> bool {
    let host = host.trim_matches(['[', ']']);
    let with_port = format!("{host}:{port}");
    list.split([',', ' ']).map(|entry| entry.trim().trim_start_matches('.')).any(|entry| {
        let within = |host: &str| host == entry || host.ends_with(&format!(".{entry}"));
        !entry.is_empty() && (entry == "*" || within(host) || within(&with_port))
    })
}

/// `%41` is `A`.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let (plain, escape) = rest.split_at(at);
        bytes.extend(plain.as_bytes());
        match escape.get(1..3).and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = escape.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(b'%');
                rest = escape.get(1..).unwrap_or_default();
            }
        }
    }
    bytes.extend(rest.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(variables: &[(&str, &str)], host: &str) -> Result<Option<Proxy>, Error> {
        let lookup =
            |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        Proxy::of(&lookup, host, 443)
    }

    #[test]
    fn the_usual_variables_are_heeded() {
        let found = |variables: &[(&str, &str)]| proxy(variables, "api.example").unwrap().map(|p| p.place());
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[("HTTPS_PROXY", "http://p:3128/")]).as_deref(), Some("p:3128"));
        assert_eq!(found(&[("HTTPS_PROXY", "up"), ("https_proxy", "low:1")]).as_deref(), Some("low:1"));
        assert_eq!(found(&[("ALL_PROXY", "http://[::1]:8080")]).as_deref(), Some("::1:8080"));
        assert_eq!(found(&[("http_proxy", "http://p")]), None);
        for exempt in ["*", "api.example", ".example", "other, example", "api.example:443"] {
            assert_eq!(found(&[("https_proxy", "p"), ("no_proxy", exempt)]), None, "{exempt}");
        }
        assert!(found(&[("https_proxy", "p"), ("no_proxy", "i.example,ample,api.example:444")]).is_some());
        for bad in ["socks5://p", "http://", "http://p:x"] {
            assert!(proxy(&[("https_proxy", bad)], "a").is_err(), "{bad}");
        }
    }

    #[test]
    fn who_uses_it_is_kept_secret() {
        let proxy = proxy(&[("https_proxy", "http://me:s%40cr%ZZ@p:1")], "a").unwrap().unwrap();
        let shown = proxy.authorization.as_ref().unwrap().expose_secret();
        assert_eq!(shown, &format!("Basic {}", STANDARD.encode("me:s@cr%ZZ")));
        assert!(!format!("{proxy:?}").contains("Basic"));
    }
}

//! Addresses of names, without the C library's resolver: the program is linked statically.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::TokioResolver;

use crate::error::ConnectError;

/// The addresses of a host in the order to try them. `/etc/hosts` and `/etc/resolv.conf` are heeded.
pub(crate) async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let failed = |detail: String| ConnectError::Name { host: host.to_owned(), detail };
    let resolver = TokioResolver::builder_tokio().map_err(|error| failed(error.to_string()))?.build();
    let found = resolver.lookup_ip(bare).await.map_err(|error| failed(error.to_string()))?;
    let found: Vec<SocketAddr> = found.iter().map(|address| SocketAddr::new(address, port)).collect();
    if found.is_empty() { Err(failed("its entry is empty".to_owned())) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_and_names_of_this_machine_need_no_server() {
        for (host, address) in [("127.0.0.1", "127.0.0.1:8443"), ("[::1]", "[::1]:8443")] {
            assert_eq!(addresses(host, 8443).await.unwrap(), [address.parse().unwrap()]);
        }
        let local = addresses("localhost", 8443).await.unwrap();
        assert!(local.iter().all(|address| address.ip().is_loopback()), "{local:?}");
    }
}

//! The desktop network of a node: bridge, firewall, DHCP and DNS.

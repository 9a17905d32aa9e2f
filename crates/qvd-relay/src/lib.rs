//! TLS, the duplex relay and inherited sockets.

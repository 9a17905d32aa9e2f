//! The server program: qvd and its links qvd-hkd, qvd-l7r, qvd-api, qvd-deploy-db.

fn main() {}

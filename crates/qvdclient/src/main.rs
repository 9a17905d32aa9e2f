//! qvdclient: connect to a desktop from the command line.

fn main() {}

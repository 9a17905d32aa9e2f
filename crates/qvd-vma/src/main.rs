//! qvd-vma: the agent inside each desktop.

fn main() {}

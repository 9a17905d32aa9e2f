//! HKD, the House Keeping Daemon of a node.

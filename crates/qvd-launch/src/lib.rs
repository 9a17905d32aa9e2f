//! Bring a node up and down, explain what runs.

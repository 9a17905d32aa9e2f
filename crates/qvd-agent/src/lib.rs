//! VMA, the agent inside each desktop.

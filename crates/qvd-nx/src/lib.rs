//! nxagent and nxproxy as they are: what they need from whoever runs them, beyond their options.

pub mod housekeeper;

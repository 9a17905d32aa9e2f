//! Desktops and their storage: LXC, images, base trees, overlays, homes.

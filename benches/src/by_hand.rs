//! The floor: what the same programs need when somebody types their names, without any of QVD.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use testbed::{Cluster, Display};

use crate::installation::{Installation, LIMIT, appears};
use crate::table::{Table, spread};

/// First process of the container: an X server that draws through nxproxy, and the desktop of the image.
const SESSION: &str = "#!/bin/sh
export HOME=/root DISPLAY=:99 PATH=/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /tmp/.X11-unix /run/dbus
dbus-uuidgen >/etc/machine-id
dbus-daemon --system --fork --nopidfile
echo 'nx/nx,link=lan,geometry=1024x768,fullscreen=1,listen=4099:99' >/tmp/options
nxagent :99 -nolisten tcp -ac -name hand -display nx/nx,options=/tmp/options:99 >/tmp/nxagent 2>&1 &
until [ -S /tmp/.X11-unix/X99 ]; do sleep 0.01; done
exec /etc/X11/Xsession >/tmp/session 2>&1
";
/// Waits for the X server and draws for it.
const CLIENT: &str = "until grep -q ':1003 .* 0A ' /proc/net/tcp /proc/net/tcp6; do sleep 0.01; done; exec nxproxy -S localhost:99";

/// Measures as often, on the display on which QVD was measured.
pub fn measure(table: &mut Table, installation: &Installation, display: &Display, runs: usize) -> Result<()> {
    let cluster = &installation.cluster;
    installation.order("stop", "stopped")?;
    let (mut firsts, mut wholes) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let (first, whole) = once(cluster, display)?;
        firsts.push(first);
        wholes.push(whole);
        display.wait_for("nothing", LIMIT, |picture| picture.drawn() == 0.0)?;
    }
    let beside = format!("whole desktop: {}", spread(&wholes));
    table.row("floor: mount, lxc-start, nxagent, nxproxy by hand", spread(&firsts), beside, "");
    Ok(())
}

fn once(cluster: &Cluster, display: &Display) -> Result<(Duration, Duration)> {
    let place = cluster.directory().join("by-hand");
    for name in ["upper/usr/local/bin", "upper/etc", "work", "root", "lxc/hand"] {
        fs::create_dir_all(place.join(name))?;
    }
    let session = place.join("upper/usr/local/bin/session");
    fs::write(&session, SESSION)?;
    fs::set_permissions(&session, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    fs::write(place.join("upper/etc/hosts"), "127.0.0.1 localhost hand\n")?;
    let root = place.join("root");
    let config = format!(
        "lxc.uts.name = hand\nlxc.rootfs.path = dir:{}\nlxc.net.0.type = none\nlxc.mount.auto = proc:rw sys:ro\n\
         lxc.cgroup.dir = {}/hand\nlxc.init.cmd = /usr/local/bin/session\nlxc.apparmor.profile = unchanged\n",
        root.display(),
        cluster.bridge()
    );
    fs::write(place.join("lxc/hand/config"), config)?;
    let base = fs::read_dir(cluster.data().join("storage/basefs"))?.flatten().map(|entry| entry.path());
    let base: PathBuf =
        base.filter(|path| path.join("etc").is_dir()).max().context("no image is unpacked")?;

    let begun = Instant::now();
    let at = |name: &str| place.join(name).display().to_string();
    let layers = format!("lowerdir={},upperdir={},workdir={}", base.display(), at("upper"), at("work"));
    let namespace = cluster.namespace();
    namespace.run("/bin/mount", &["-t", "overlay", "overlay", "-o", &layers, &at("root")])?;
    let container = namespace.command("/usr/bin/lxc-start");
    let mut container = start(container, &["-n", "hand", "-P", &at("lxc"), "-F"], &place.join("container"))?;
    let mut client = namespace.command("/bin/sh");
    client.env("DISPLAY", display.name()).env("HOME", &place);
    let mut client = start(client, &["-c", CLIENT], &place.join("client"))?;
    let shown = appears(display, begun);
    let said = ["container", "client", "upper/tmp/nxagent", "upper/tmp/session"]
        .map(|name| format!("{name}: {}\n", fs::read_to_string(place.join(name)).unwrap_or_default()));
    let shown = shown.with_context(|| said.concat())?;

    client.kill()?;
    client.wait()?;
    namespace.run("/usr/bin/lxc-stop", &["-n", "hand", "-P", &at("lxc"), "-k"])?;
    container.wait()?;
    namespace.run("/bin/umount", &[&at("root")])?;
    fs::remove_dir_all(&place)?;
    Ok(shown)
}

fn start(mut command: Command, arguments: &[&str], output: &Path) -> Result<Child> {
    let file = fs::File::create(output)?;
    command.args(arguments).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    command.spawn().with_context(|| format!("cannot run {command:?}"))
}

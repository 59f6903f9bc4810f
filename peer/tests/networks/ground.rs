//! The ground of one case: routers and devices in namespaces, a folder for homes, and an end for every process.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use patchbay::{Device, Firewall, IpSupport, Ix, Lab, Nat, Router, RouterBuilder, RouterPreset};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The hardware address of every bridge. No two bridges are in one network.
const BRIDGE: &str = "02:00:00:00:00:01";

/// Enters a user namespace of this process's own and looks for what the networks are made with. To be called before any
/// thread is started.
///
/// # Errors
/// Why this machine gives no such networks.
pub(crate) fn enter() -> Result<(), String> {
    patchbay::init_userns()
        .map_err(|why| format!("this machine gives no user namespace: {why:#}"))?;
    for tool in ["nft", "tc", "ip"] {
        let found = Command::new(tool)
            .arg("-V")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        found.map_err(|why| format!("`{tool}` does not run: {why}"))?;
    }
    patchbay::check_caps().map_err(|why| format!("no rights over networks: {why:#}"))?;
    let ground = Ground::new()?;
    ground.house("probe", Kind::PortRestricted).map(drop)
}

/// How a peer's provider and router treat its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A public address, no translation.
    Public,
    /// One outer port for all destinations, open to all (endpoint-independent mapping and filtering).
    Open,
    /// One outer port for all destinations, open to those that were written to (the usual home router).
    PortRestricted,
    /// Another outer port for each destination.
    Symmetric,
    /// A home router behind the router of a provider, both port-restricted.
    CarrierGrade,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Public,
        Self::Open,
        Self::PortRestricted,
        Self::Symmetric,
        Self::CarrierGrade,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Public => "none",
            Self::Open => "open",
            Self::PortRestricted => "port-restricted",
            Self::Symmetric => "symmetric",
            Self::CarrierGrade => "carrier-grade",
        }
    }

    /// Whether iroh promises a direct way between the two.
    pub(crate) fn meets(self, other: Self) -> bool {
        let closed = |kind| !matches!(kind, Self::Public | Self::Open);
        let varies = |kind| kind == Self::Symmetric;
        !(varies(self) && closed(other) || varies(other) && closed(self))
    }
}

/// Routers, devices and a folder; the end of it is the end of every process with a home in the folder.
pub(crate) struct Ground {
    runtime: Runtime,
    lab: Lab,
    dir: TempDir,
}

impl Drop for Ground {
    fn drop(&mut self) {
        end_processes(self.dir.path());
        if std::env::var_os("TRIBUTARY_TEST_KEEP").is_some() {
            self.dir.disable_cleanup(true);
            println!("  kept: {}", self.dir.path().display());
        }
    }
}

impl Ground {
    pub(crate) fn new() -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|why| format!("no runtime: {why}"))?;
        let lab = runtime
            .block_on(Lab::builder().build())
            .map_err(|why| format!("this machine gives no network namespace: {why:#}"))?;
        settle(&lab.ix())?;
        let dir = tempfile::tempdir().map_err(|why| format!("no temporary folder: {why}"))?;
        Ok(Self { runtime, lab, dir })
    }

    /// The network in which all routers without a provider meet.
    pub(crate) fn exchange(&self) -> Ix {
        self.lab.ix()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Waits for a change of the network.
    pub(crate) fn change<E: std::fmt::Display>(
        &self,
        what: &str,
        change: impl Future<Output = Result<(), E>>,
    ) -> Result<(), String> {
        self.runtime
            .block_on(change)
            .map_err(|why| format!("{what}: {why:#}"))
    }

    /// A router that reaches the others, with the provider's in front of it where the kind says so.
    pub(crate) fn house(&self, name: &str, kind: Kind) -> Result<Router, String> {
        let builder = self.lab.add_router(name);
        let builder = match kind {
            Kind::Public => builder.preset(RouterPreset::PublicV4),
            Kind::Open => builder.nat(Nat::Open),
            Kind::PortRestricted => builder.nat(Nat::Moderate),
            Kind::Symmetric => builder.nat(Nat::Strict),
            Kind::CarrierGrade => {
                let provider = self.lab.add_router(&format!("{name}-isp"));
                let provider = provider.preset(RouterPreset::IspCgnat);
                // Over IPv6 the two would meet without any translation.
                let provider = provider.ip_support(IpSupport::V4Only);
                let provider = self.built(&format!("{name}-isp"), provider)?;
                builder.nat(Nat::Moderate).upstream(provider.id())
            }
        };
        self.built(name, builder)
    }

    /// A port-restricted router that lets no UDP out but questions to name servers.
    pub(crate) fn house_without_udp(&self, name: &str) -> Result<Router, String> {
        let builder = self.lab.add_router(name).nat(Nat::Moderate);
        self.built(name, builder.firewall(Firewall::CaptivePortal))
    }

    fn built(&self, name: &str, builder: RouterBuilder) -> Result<Router, String> {
        let router = self.runtime.block_on(builder.build());
        let router = router.map_err(|why| format!("router {name}: {why:#}"))?;
        settle(&router)?;
        Ok(router)
    }

    pub(crate) fn device(&self, name: &str, router: &Router) -> Result<Device, String> {
        let built = self.lab.add_device(name).iface("eth0", router.id()).build();
        let built = self.runtime.block_on(built);
        built.map_err(|why| format!("device {name}: {why:#}"))
    }
}

/// A namespace with a bridge.
pub(crate) trait Hub {
    /// Starts a command in it.
    fn start(&self, command: Command) -> Result<Child, String>;
}

impl Hub for Ix {
    fn start(&self, command: Command) -> Result<Child, String> {
        (self.spawn_command_sync(command)).map_err(|why| format!("{why:#}"))
    }
}

impl Hub for Router {
    fn start(&self, command: Command) -> Result<Child, String> {
        (self.spawn_command_sync(command)).map_err(|why| format!("{why:#}"))
    }
}

/// Gives each bridge an address that stays. Of itself a bridge has the lowest address of its ports, so that each house
/// that is added may change it; a router that keeps the old one in its table reaches nobody until it asks again, half a
/// minute and more later.
fn settle(hub: &impl Hub) -> Result<(), String> {
    for (bridge, _) in bridges(hub)? {
        link(hub, &["set", "dev", &bridge, "address", BRIDGE])?;
    }
    Ok(())
}

/// The bridges of a namespace with their hardware addresses.
pub(crate) fn bridges(hub: &impl Hub) -> Result<Vec<(String, String)>, String> {
    let shown = link(hub, &["show", "type", "bridge"])?;
    let shown: Vec<Value> = serde_json::from_slice(&shown).map_err(|why| why.to_string())?;
    let text = |link: &Value, field| link[field].as_str().unwrap_or_default().to_owned();
    let bridges = shown
        .iter()
        .map(|link| (text(link, "ifname"), text(link, "address")));
    Ok(bridges.collect())
}

/// What `ip link` prints.
fn link(hub: &impl Hub, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let mut command = Command::new("ip");
    command.args(["-json", "link"]).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let line = || format!("`ip link {}`", arguments.join(" "));
    let child = (hub.start(command)).map_err(|why| format!("{}: {why}", line()))?;
    let said = child.wait_with_output();
    let said = said.map_err(|why| format!("{}: {why}", line()))?;
    match said.status.success() {
        true => Ok(said.stdout),
        false => Err(format!(
            "{}: {}",
            line(),
            String::from_utf8_lossy(&said.stderr)
        )),
    }
}

/// The address of a device.
pub(crate) fn ip(device: &Device) -> Result<Ipv4Addr, String> {
    device
        .ip()
        .ok_or_else(|| format!("device {} has no address", device.name()))
}

/// Ends every process whose command line names the folder or a path in it: daemons that were started by commands, too.
pub(crate) fn end_processes(folder: &Path) {
    let Some(folder) = folder.to_str().filter(|folder| folder.len() > 5) else {
        return;
    };
    for process in processes_of(folder) {
        let _ = Command::new("kill").args(["-9", &process]).status();
    }
}

fn processes_of(folder: &str) -> BTreeSet<String> {
    let names = |path: PathBuf| {
        let line = fs::read(path.join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut words = line.split('\0');
        let is_ours = words.any(|word| Path::new(word).starts_with(folder));
        is_ours.then(|| path.file_name().map(|id| id.to_string_lossy().into_owned()))?
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let entries = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().bytes().all(|b| b.is_ascii_digit())
    });
    entries.filter_map(|entry| names(entry.path())).collect()
}

//! The ground of one case: routers and devices in namespaces, a folder for homes, and an end for every process.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use patchbay::{Device, Firewall, IpSupport, Lab, Nat, Router, RouterPreset};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Enters a user namespace of this process's own and looks for what the networks are made with. To be called before any
/// thread is started.
///
/// # Errors
/// Why this machine gives no such networks.
pub(crate) fn enter() -> Result<(), String> {
    patchbay::init_userns()
        .map_err(|why| format!("this machine gives no user namespace: {why:#}"))?;
    for tool in ["nft", "tc"] {
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
        let dir = tempfile::tempdir().map_err(|why| format!("no temporary folder: {why}"))?;
        Ok(Self { runtime, lab, dir })
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
                let provider = provider.ip_support(IpSupport::V4Only).build();
                let provider = self.runtime.block_on(provider);
                let provider = provider.map_err(|why| format!("provider {name}: {why:#}"))?;
                builder.nat(Nat::Moderate).upstream(provider.id())
            }
        };
        let built = self.runtime.block_on(builder.build());
        built.map_err(|why| format!("router {name}: {why:#}"))
    }

    /// A port-restricted router that lets no UDP out but questions to name servers.
    pub(crate) fn house_without_udp(&self, name: &str) -> Result<Router, String> {
        let builder = self.lab.add_router(name).nat(Nat::Moderate);
        let built = builder.firewall(Firewall::CaptivePortal).build();
        let built = self.runtime.block_on(built);
        built.map_err(|why| format!("router {name}: {why:#}"))
    }

    pub(crate) fn device(&self, name: &str, router: &Router) -> Result<Device, String> {
        let built = self.lab.add_device(name).iface("eth0", router.id()).build();
        let built = self.runtime.block_on(built);
        built.map_err(|why| format!("device {name}: {why:#}"))
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

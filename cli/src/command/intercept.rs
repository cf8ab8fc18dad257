//! `weft intercept`: redirects a host's or network namespace's traffic to its proxy, by an nftables table of its own.
//!
//! Flags are named as Istio's annotations are (`traffic.sidecar.istio.io/excludeOutboundPorts`).

mod rules;

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use rules::{Interface, Network, Owner, Rules, Selected};

use crate::failure::{Exit, Failure};

/// Options of `weft intercept`.
#[derive(Debug, clap::Args)]
pub struct InterceptArgs {
    /// Take the redirection away again
    #[arg(long)]
    remove: bool,
    /// Print the rules and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Network namespace: a name of `ip netns`, or a path such as /proc/PID/ns/net [default: this one]
    #[arg(long, value_name = "NAME|PATH")]
    netns: Option<String>,
    /// User that the proxy runs as; its own traffic is not captured
    #[arg(long, value_name = "UID", value_delimiter = ',', default_value = "1337")]
    proxy_uid: Vec<Owner>,
    /// Group that the proxy runs as
    #[arg(long, value_name = "GID", value_delimiter = ',')]
    proxy_gid: Vec<Owner>,
    /// Where the proxy takes outbound TCP
    #[arg(long, value_name = "PORT", default_value_t = 15001)]
    outbound_port: u16,
    /// Where the proxy takes inbound TCP
    #[arg(long, value_name = "PORT", default_value_t = 15006)]
    inbound_port: u16,
    /// Where the proxy answers DNS
    #[arg(long, value_name = "PORT", default_value_t = 15053)]
    dns_port: u16,
    /// Leave DNS alone
    #[arg(long)]
    no_dns: bool,
    /// Leave IPv6 alone
    #[arg(long)]
    ipv4_only: bool,
    /// Inbound ports to capture: all (*), some, or none (an empty text)
    #[arg(long, value_name = "PORTS", default_value = "*")]
    include_inbound_ports: Selected<u16>,
    /// Inbound ports to leave alone
    #[arg(long, value_name = "PORTS", value_delimiter = ',', default_value = "22")]
    exclude_inbound_ports: Vec<u16>,
    /// Destinations to capture: all (*), some, or none (an empty text)
    #[arg(long, value_name = "RANGES", default_value = "*")]
    include_outbound_ip_ranges: Selected<Network>,
    /// Destinations to leave alone
    #[arg(long, value_name = "RANGES", value_delimiter = ',')]
    exclude_outbound_ip_ranges: Vec<Network>,
    /// Ports to capture whatever the destination
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    include_outbound_ports: Vec<u16>,
    /// Destination ports to leave alone
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    exclude_outbound_ports: Vec<u16>,
    /// Network interfaces to leave alone
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    exclude_interfaces: Vec<Interface>,
}

/// Sets or removes the table, or prints what would be done.
pub fn run(args: InterceptArgs) -> Result<Exit, Failure> {
    let netns = args.netns.clone().map(namespace);
    let dry_run = args.dry_run;
    let script = if args.remove { rules::removal() } else { args.rules().text() };
    if dry_run {
        // A closed stdout has nobody to tell.
        let _ = std::io::stdout().write_all(script.as_bytes());
        return Ok(Exit::Yes);
    }
    let output = nft(netns.as_ref(), &script)?;
    match output.status.success() {
        true => Ok(Exit::Yes),
        false => Err(refused(&String::from_utf8_lossy(&output.stderr))),
    }
}

impl InterceptArgs {
    fn rules(self) -> Rules {
        Rules {
            proxy_uids: self.proxy_uid,
            proxy_gids: self.proxy_gid,
            outbound_port: self.outbound_port,
            inbound_port: self.inbound_port,
            dns_port: Some(self.dns_port).filter(|_| !self.no_dns),
            inbound: self.include_inbound_ports,
            inbound_except: self.exclude_inbound_ports,
            outbound: self.include_outbound_ip_ranges,
            outbound_except: self.exclude_outbound_ip_ranges,
            outbound_ports: self.include_outbound_ports,
            outbound_ports_except: self.exclude_outbound_ports,
            interfaces_except: self.exclude_interfaces,
            ipv4_only: self.ipv4_only,
        }
    }
}

/// The file of a network namespace.
fn namespace(name: String) -> PathBuf {
    if name.contains('/') { name.into() } else { PathBuf::from("/run/netns").join(name) }
}

/// Gives a script to nft, in a network namespace where one is named.
fn nft(netns: Option<&PathBuf>, script: &str) -> Result<Output, Failure> {
    let mut command = match netns {
        Some(path) => {
            let mut command = Command::new("nsenter");
            let mut net = std::ffi::OsString::from("--net=");
            net.push(path);
            command.arg(net).arg("nft");
            command
        }
        None => Command::new("nft"),
    };
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => missing(&program),
        _ => Failure::usage(format!("cannot run {program}"), error.to_string(), "run it by hand to see why"),
    };
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // What ends before it has read everything says why by itself.
        let _ = stdin.write_all(script.as_bytes());
    }
    child.wait_with_output().map_err(failed)
}

fn missing(program: &str) -> Failure {
    let package = if program == "nft" { "nftables" } else { "util-linux" };
    let hint = format!("install the package {package}; --dry-run prints the rules without it");
    Failure::usage("cannot set the redirection", format!("there is no program `{program}` here"), hint)
}

/// What nft says, as a failure.
fn refused(stderr: &str) -> Failure {
    let what = "cannot set the redirection";
    let why = stderr.lines().find(|line| !line.trim().is_empty()).unwrap_or("nft gave no reason").trim();
    if why.contains("Operation not permitted") || why.contains("Permission denied") {
        return Failure::new(
            Exit::NotAuthorised,
            what,
            why,
            "run it as root, or with the capabilities NET_ADMIN and, for --netns, SYS_ADMIN",
        );
    }
    if why.contains("failed to execute nft") {
        return missing("nft");
    }
    if why.contains("No such file or directory") && why.starts_with("nsenter") {
        return Failure::new(
            Exit::NotFound,
            what,
            why,
            "`ip netns list` shows the namespaces that have names",
        );
    }
    Failure::new(
        Exit::No,
        what,
        why,
        "look at the rules with --dry-run; the kernel needs nftables with inet NAT (5.2)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(stderr: &str, exit: Exit, hint: &str) {
        let failure = refused(stderr);
        assert_eq!(failure.exit, exit, "{stderr}");
        assert!(failure.hint.contains(hint), "{failure:?}");
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        check("Operation not permitted (you must be root)\nnetlink: Error", Exit::NotAuthorised, "NET_ADMIN");
        check(
            "nsenter: cannot open /run/netns/x: No such file or directory",
            Exit::NotFound,
            "ip netns list",
        );
        check(
            "nsenter: reassociate to namespace 'ns/net' failed: Operation not permitted",
            Exit::NotAuthorised,
            "root",
        );
        check("nsenter: failed to execute nft: No such file or directory", Exit::Usage, "nftables");
        check("\n/dev/stdin:3:1-2: Error: Could not process rule", Exit::No, "--dry-run");
        check("", Exit::No, "--dry-run");
    }

    #[test]
    fn a_namespace_is_a_name_or_a_path() {
        assert_eq!(namespace("web".to_owned()), PathBuf::from("/run/netns/web"));
        assert_eq!(namespace("/proc/1/ns/net".to_owned()), PathBuf::from("/proc/1/ns/net"));
    }
}

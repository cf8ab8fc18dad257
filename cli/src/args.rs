//! The command line: every command, the options that all of them share, and the way from there to an exit code.

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{
    command, demo,
    failure::{Exit, Failure},
};

/// Printed below every help text.
const EXIT_CODES: &str = "Exit codes: 0 yes or done; 1 the answer is no; 2 usage or bad input; \
    3 control plane unreachable or timed out; 4 not found; 5 not authorised";

/// A service mesh for services that do not all live in one cluster.
#[derive(Debug, Parser)]
#[command(name = "weft", version, about, after_help = EXIT_CODES, propagate_version = true)]
pub struct Cli {
    /// What to log on stderr, e.g. info or weft_control=debug,warn
    #[arg(long, env = "RUST_LOG", global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// Ends when stdin ends: children of `weft demo` never outlive it.
    #[arg(long, global = true, hide = true)]
    pub exit_with_parent: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the control plane
    Control(command::control::ControlArgs),
    /// Run a proxy: beside a workload, or at the edge
    Proxy(Box<command::proxy::ProxyArgs>),
    /// Run an agent: an identity for an Envoy or an application, told on a unix socket
    Agent(command::agent::AgentArgs),
    /// Redirect this host's traffic to its proxy
    Intercept(Box<command::intercept::InterceptArgs>),
    /// Run an adapter, which tells the control plane what a platform runs
    Adapter(command::adapter::AdapterArgs),
    /// Store documents, and wait until every proxy runs them
    Apply(command::apply::ApplyArgs),
    /// Shift traffic between the versions of a service, and watch how they do
    Canary(command::canary::CanaryArgs),
    /// List documents, services, endpoints, proxies or sources
    Get(command::get::GetArgs),
    /// Remove a document
    Delete(command::delete::DeleteArgs),
    /// Check documents without storing them
    Validate(command::validate::ValidateArgs),
    /// Tell whether proxies are connected and in sync
    #[command(visible_alias = "ps")]
    Status(command::status::StatusArgs),
    /// End a proxy without failing a request
    Drain(command::drain::DrainArgs),
    /// Tell how services do: rate, success and latency of each version
    Stat(command::traffic::TrafficArgs),
    /// Tell who calls whom, how often and how well
    Edges(command::traffic::TrafficArgs),
    /// Work with the sources that feed the registry
    Source(command::source::SourceArgs),
    /// Make tokens with which proxies and adapters join the mesh
    Token(command::token::TokenArgs),
    /// Work with the mesh's certificate authority
    Ca(command::ca::CaArgs),
    /// Run a whole mesh on this machine
    Demo(demo::DemoArgs),
    /// One sample application of the demo
    #[command(hide = true)]
    DemoService(demo::service::ServiceArgs),
    /// Print the version
    Version(command::version::VersionArgs),
    /// Print a completion script for a shell
    Completion(command::completion::CompletionArgs),
}

impl Cli {
    /// Runs the command.
    pub fn run(self) -> Result<Exit, Failure> {
        match self.command {
            Command::Control(args) => command::control::run(args),
            Command::Proxy(args) => command::proxy::run(*args),
            Command::Agent(args) => command::agent::run(args),
            Command::Intercept(args) => command::intercept::run(*args),
            Command::Adapter(args) => command::adapter::run(args),
            Command::Apply(args) => command::wait_for(command::apply::run(args)),
            Command::Canary(args) => command::wait_for(command::canary::run(args)),
            Command::Get(args) => command::wait_for(command::get::run(args)),
            Command::Delete(args) => command::wait_for(command::delete::run(args)),
            Command::Validate(args) => command::wait_for(command::validate::run(args)),
            Command::Status(args) => command::wait_for(command::status::run(args)),
            Command::Drain(args) => command::wait_for(command::drain::run(args)),
            Command::Stat(args) => command::wait_for(command::traffic::stat(args)),
            Command::Edges(args) => command::wait_for(command::traffic::edges(args)),
            Command::Source(args) => command::wait_for(command::source::run(args)),
            Command::Token(args) => command::wait_for(command::token::run(args)),
            Command::Ca(args) => command::wait_for(command::ca::run(args)),
            Command::Demo(args) => command::wait_for(demo::run(args)),
            Command::DemoService(args) => command::wait_for(demo::service::run(args)),
            Command::Version(args) => command::version::run(args),
            Command::Completion(args) => command::completion::run(args, Self::command()),
        }
    }
}

#[cfg(test)]
mod deployed;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[track_caller]
    fn check(line: &str, taken: bool) {
        let parsed = Cli::try_parse_from(line.split_whitespace());
        assert_eq!(parsed.is_ok(), taken, "{line}: {:?}", parsed.err().map(|error| error.to_string()));
    }

    #[test]
    fn every_documented_usage_is_taken() {
        check("weft control --insecure-loopback --data-dir /var/lib/weft", true);
        check("weft proxy --service web --upstream 127.0.0.1:9001=api:8080", true);
        check("weft proxy --gateway --label istio=ingressgateway --port 80=8080", true);
        check("weft agent --control https://control:15012 --workload-socket /run/weft/agent.sock", true);
        check("weft drain --admin 127.0.0.1:15000 --timeout 30s", true);
        check("weft drain --timeout 30s --no-wait", false);
        check("weft intercept", true);
        check("weft intercept --remove --netns web", true);
        check("weft intercept --dry-run --proxy-uid 101,weft --exclude-outbound-ports 3306,5432", true);
        check("weft intercept --include-inbound-ports= --exclude-outbound-ip-ranges 10.0.0.0/8", true);
        check("weft demo", true);
        check("weft demo --script --requests 2000 --keep", true);
        check("weft adapter files --dir facts --control http://127.0.0.1:15010 --name files/a", true);
        check("weft adapter consul --address http://127.0.0.1:8500", true);
        check("weft adapter consul --check -o json", true);
        check("weft apply -f routes.yaml", true);
        check("weft apply -f a.yaml -f dir --wait --dry-run", true);
        check("weft apply -f a.yaml b.yaml --wait=30s -o json", true);
        check("weft apply -f - --address http://10.0.0.1:15014", true);
        check("weft get services", true);
        check("weft canary status api", true);
        check("weft canary status api -n shop --window 5m --watch -o wide", true);
        check("weft canary set api v2=5", true);
        check("weft canary set api v1=50 v2=50 --no-wait", true);
        check("weft canary set api v2=5 --dry-run", true);
        check("weft canary promote api", true);
        check("weft canary promote api v2 --wait 1m", true);
        check("weft canary abort api -o json", true);
        check("weft get vs reviews -n shop -o yaml", true);
        check("weft get VirtualService -A --no-headers", true);
        check("weft delete virtualservice reviews -n shop", true);
        check("weft validate a.yaml b.yaml --live", true);
        check("weft status --wait", true);
        check("weft status --wait=5s -o jsonl", true);
        check("weft ps", true);
        check("weft stat", true);
        check("weft stat api -n shop --window 5m -o wide", true);
        check("weft edges -o json", true);
        check("weft source confirm consul/dc1", true);
        check("weft token create -n shop --service-account web --ttl 24h", true);
        check("weft token create --adapter consul/dc1 -o json", true);
        check("weft ca rotate", true);
        check("weft version -o json", true);
        check("weft completion bash", true);
        check("weft get services --log debug", true);
    }

    #[test]
    fn wrong_usage_is_refused() {
        check("weft", false);
        check("weft proxy --port 80=8080", false);
        check("weft proxy --upstream api", false);
        check("weft intercept --exclude-outbound-ports all", false);
        check("weft intercept --proxy-uid 1;", false);
        check("weft demo --requests 2000", false);
        check("weft adapter", false);
        check("weft adapter punchcards", false);
        check("weft apply", false);
        check("weft apply -f a.yaml --wait=soon", false);
        check("weft get pods", false);
        check("weft canary set api", false);
        check("weft canary set api v2", false);
        check("weft canary set api v2=101", false);
        check("weft canary abort", false);
        check("weft canary set api v2=5 --wait 1s --no-wait", false);
        check("weft get vs reviews -n shop -A", false);
        check("weft delete vs", false);
        check("weft delete services api", false);
        check("weft validate", false);
        check("weft edges --window soon", false);
        check("weft source confirm", false);
        check("weft token create", false);
        check("weft token create --service-account web --adapter files", false);
        check("weft token create --service-account web --ttl 1", false);
        check("weft get services -o xml", false);
        check("weft completion cobol", false);
    }
}

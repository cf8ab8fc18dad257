//! Hosts as network namespaces, on one bridge that is in a namespace of its own: nothing of the machine's network is
//! touched. Needs root and iproute2, and says so.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::AsFd,
    path::PathBuf,
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};

/// Group of the proxies, by which `weft intercept` knows their traffic.
pub const PROXY_GID: u32 = 1337;

/// The first three numbers of every host's address.
const NET: [u8; 3] = [10, 77, 0];
/// The last number of the address that is nobody's host: the way to everywhere else.
const OUTSIDE: u8 = 254;

/// A bridge, its hosts, and what is outside.
pub struct Network {
    outside: Host,
}

/// One host; its namespace is gone when this is dropped.
pub struct Host {
    /// Name of its network namespace.
    pub netns: String,
    /// Its address.
    pub ip: Ipv4Addr,
    tasks: JoinSet<()>,
}

impl Network {
    /// A network without hosts.
    pub fn new() -> Self {
        let root = run("id", &["-u"]);
        assert!(
            root.trim() == "0",
            "network namespaces need root: run this test as root, in a container say"
        );
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let outside = Host::add(format!("weft-{}-{count}", std::process::id()), OUTSIDE);
        let on = |arguments: &str| ip(&format!("-n {} {arguments}", outside.netns));
        on("link add bridge type bridge");
        on("link set bridge up");
        on(&format!("address add {}/24 dev bridge", outside.ip));
        Self { outside }
    }

    /// What is outside of the mesh: every address that is no host's leads here.
    pub fn outside(&mut self) -> &mut Host {
        &mut self.outside
    }

    /// Gives what is outside one more address.
    pub fn outside_address(&self, address: &str) {
        ip(&format!("-n {} address add {address}/32 dev bridge", self.outside.netns));
    }

    /// Adds a host, from 1 to 253. It asks what is outside for names.
    pub fn host(&self, number: u8) -> Host {
        let (bridge, port) = (&self.outside.netns, format!("host{number}"));
        let host = Host::add(format!("{bridge}-{number}"), number);
        ip(&format!("link add eth0 netns {} type veth peer name {port} netns {bridge}", host.netns));
        ip(&format!("-n {bridge} link set {port} master bridge up"));
        let on = |arguments: &str| ip(&format!("-n {} {arguments}", host.netns));
        on(&format!("address add {}/24 dev eth0", host.ip));
        on("link set eth0 up");
        on(&format!("route add default via {}", self.outside.ip));
        let folder = host.files();
        std::fs::create_dir_all(&folder).expect("root can write /etc/netns");
        let text = format!("nameserver {}\n", self.outside.ip);
        std::fs::write(folder.join("resolv.conf"), text).expect("root can write /etc/netns");
        host
    }

    /// Cuts a host off, as a pulled cable does, or connects it again.
    pub fn connect(&self, host: &Host, connected: bool) {
        let (bridge, state) = (&self.outside.netns, if connected { "up" } else { "down" });
        ip(&format!("-n {bridge} link set host{} {state}", host.ip.octets()[3]));
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    fn add(netns: String, number: u8) -> Self {
        ip(&format!("netns add {netns}"));
        ip(&format!("-n {netns} link set lo up"));
        Self { netns, ip: Ipv4Addr::new(NET[0], NET[1], NET[2], number), tasks: JoinSet::new() }
    }

    /// The address and a port.
    pub fn at(&self, port: u16) -> SocketAddr {
        (self.ip, port).into()
    }

    fn files(&self) -> PathBuf {
        PathBuf::from("/etc/netns").join(&self.netns)
    }

    fn handle(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.netns)
    }

    /// Runs something on a thread of this host. Sockets that it makes stay on this host.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(self.handle()).expect("the namespace is there");
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("root can enter a namespace");
                work()
            });
            thread.join().expect("the work does not panic")
        })
    }

    /// Listens on this host.
    pub fn listen(&self, address: SocketAddr) -> TcpListener {
        let listener = self.run(|| std::net::TcpListener::bind(address)).expect("the port is free");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        TcpListener::from_std(listener).expect("the runtime takes a socket")
    }

    /// Opens a datagram socket on this host.
    pub fn datagrams(&self, address: SocketAddr) -> UdpSocket {
        let socket = self.run(|| std::net::UdpSocket::bind(address)).expect("the port is free");
        socket.set_nonblocking(true).expect("a socket can be made non-blocking");
        UdpSocket::from_std(socket).expect("the runtime takes a socket")
    }

    /// Leads a loopback address of this host to the same address of the machine: how a proxy here reaches a control
    /// plane that serves loopback alone.
    pub fn relay(&mut self, address: SocketAddr) {
        let listener = self.listen(address);
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                connections.spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(address).await {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
    }

    /// Answers every name with one address, and nothing else: the world's DNS.
    pub fn resolver(&mut self, answer: Ipv4Addr) {
        let socket = self.datagrams(SocketAddr::new(IpAddr::V4(self.ip), 53));
        self.tasks.spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((size, peer)) = socket.recv_from(&mut buffer).await {
                let _ = socket.send_to(&told(&buffer[..size], answer), peer).await;
            }
        });
    }

    /// A command as one of this host's processes; the proxy's ones are run in its group.
    pub fn proxy(&self, command: &Command) -> Command {
        let mut entered = Command::new("ip");
        entered.args(["netns", "exec", &self.netns, "setpriv", "--clear-groups"]);
        entered.arg(format!("--regid={PROXY_GID}")).arg(command.get_program()).args(command.get_args());
        entered
    }

    /// Runs a line of shell as a process of this host that knows nothing of the mesh.
    pub fn shell(&self, line: &str) -> Output {
        self.command(line).output().expect("iproute2 is installed (tests/peers/install)")
    }

    /// The same, to be started.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.netns, "bash", "-c", line]);
        command
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.netns]).status();
        let _ = std::fs::remove_dir_all(self.files());
    }
}

/// The answer to a query of one question: the address, or no data of another type. The question's name ends at its empty label.
fn told(query: &[u8], address: Ipv4Addr) -> Vec<u8> {
    const HEADER: usize = 12;
    let name = query.iter().skip(HEADER).position(|byte| *byte == 0).unwrap_or(0);
    let end = (HEADER + name + 5).min(query.len());
    let found = u8::from(query[..end].ends_with(&[0, 1, 0, 1]));
    let mut reply = [&query[..2], &[0x81, 0x80, 0, 1, 0, found, 0, 0, 0, 0], &query[HEADER..end]].concat();
    if found == 1 {
        // The name of the question, type A, class IN, a minute, four bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        reply.extend(address.octets());
    }
    reply
}

fn ip(arguments: &str) {
    run("ip", &arguments.split(' ').collect::<Vec<_>>());
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; run tests/peers/install"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {errors}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

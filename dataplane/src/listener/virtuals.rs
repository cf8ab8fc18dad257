//! Listeners without a socket, to which others hand the connections that were meant for their addresses.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
};

use super::Door;
use crate::spec::ListenAddress;

/// The listeners without a socket of one worker, by address.
#[derive(Default)]
pub(super) struct Virtuals {
    by_address: RefCell<HashMap<SocketAddr, Rc<Door>>>,
}

impl Virtuals {
    /// Takes those of all listeners that have no socket.
    pub(super) fn replace(&self, doors: impl Iterator<Item = Rc<Door>>) {
        let address = |door: Rc<Door>| match door.spec.address {
            ListenAddress::Tcp(address) if !door.spec.has_socket => Some((address, door)),
            ListenAddress::Tcp(_) | ListenAddress::Unix(_) => None,
        };
        self.by_address.replace(doors.filter_map(address).collect());
    }

    /// The listener at an address, else the one at its port of every address of the family.
    pub(super) fn find(&self, address: SocketAddr) -> Option<Rc<Door>> {
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let known = self.by_address.borrow();
        known.get(&address).or_else(|| known.get(&SocketAddr::new(any, address.port()))).cloned()
    }
}

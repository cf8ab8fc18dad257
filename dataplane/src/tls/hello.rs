//! What the first bytes of a connection say of its TLS, without taking part in it. Pure.

use rustls::server::Acceptor;

/// Longest client hello that is waited for, bytes; as Envoy.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;

/// What a client hello asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Server's name, lower case.
    pub server_name: Option<String>,
    /// Protocols offered, in the client's order.
    pub alpn: Vec<Vec<u8>>,
}

/// What is known after some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// Not enough yet.
    Unclear,
    /// This is not TLS.
    Plain,
    /// A whole client hello.
    Tls(Hello),
    /// It begins as TLS does, but is broken or too long.
    Malformed,
}

/// Reads a client hello piece by piece.
#[derive(Default)]
pub struct HelloReader {
    acceptor: Acceptor,
    fed: usize,
}

impl HelloReader {
    /// Looks at all bytes that came so far, which begin with those of the last call.
    pub fn look(&mut self, bytes: &[u8]) -> First {
        // A handshake record, any version 3.x, and in it a client hello.
        let expected: [fn(u8) -> bool; 6] =
            [|b| b == 0x16, |b| b == 3, |b| b <= 4, |_| true, |_| true, |b| b == 1];
        if !bytes.iter().zip(expected).all(|(&byte, fits)| fits(byte)) {
            return First::Plain;
        }
        if bytes.len() < expected.len() {
            return First::Unclear;
        }
        let known = bytes.len().min(HELLO_BYTES_MAX);
        while self.fed < known {
            match self.acceptor.read_tls(&mut &bytes[self.fed..known]) {
                Ok(0) | Err(_) => return First::Malformed,
                Ok(read) => self.fed += read,
            }
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    return First::Tls(Hello {
                        server_name: hello.server_name().map(str::to_ascii_lowercase),
                        alpn: hello.alpn().map_or_else(Vec::new, |all| all.map(<[u8]>::to_vec).collect()),
                    });
                }
                Err(_) => return First::Malformed,
            }
        }
        if bytes.len() >= HELLO_BYTES_MAX { First::Malformed } else { First::Unclear }
    }
}

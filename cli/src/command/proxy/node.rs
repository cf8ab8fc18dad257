//! How a proxy's flags are written: `127.0.0.1:9001=api:80`, `127.0.0.1:15006=127.0.0.1:8080/http`, `80=8080`. Pure.

use weft_proto::node::{Address, Inbound, Upstream};

/// Words for what a workload speaks.
const PROTOCOLS: [&str; 4] = ["http", "http2", "grpc", "tcp"];

/// Reads `ADDRESS=SERVICE[:PORT]`: a local port that leads to a service.
pub fn upstream(text: &str) -> Result<Upstream, String> {
    let wrong = |what: &str| format!("{text:?}: {what}; write it like 127.0.0.1:9001=api:80");
    let (bind, service) = text.split_once('=').ok_or_else(|| wrong("there is no ="))?;
    let (service, port) = service_port(service).ok_or_else(|| wrong("the port is no number"))?;
    if service.is_empty() {
        return Err(wrong("the service has no name"));
    }
    Ok(Upstream { bind: bind.parse().map_err(|_| wrong("no address to listen on"))?, service, port })
}

/// Reads `[ADDRESS=][SERVICE[:PORT]@]ADDRESS[/PROTOCOL]`: a port that the mesh reaches the workload by. Without a service
/// it is the workload's own, which the caller fills in; without an address to listen on it is captured.
pub fn inbound(text: &str) -> Result<Inbound, String> {
    let wrong = |what: &str| format!("{text:?}: {what}; write it like 127.0.0.1:15006=127.0.0.1:8080/http");
    let (bind, rest) = text.split_once('=').map_or((None, text), |(bind, rest)| (Some(bind), rest));
    let (service, rest) = rest.split_once('@').unwrap_or(("", rest));
    // The path of a unix socket has slashes too; the protocol is a word after the last.
    let (app, protocol) = match rest.rsplit_once('/') {
        Some((app, protocol)) if !rest.starts_with("unix:") || PROTOCOLS.contains(&protocol) => {
            (app, protocol)
        }
        _ => (rest, ""),
    };
    if !protocol.is_empty() && !PROTOCOLS.contains(&protocol) {
        return Err(wrong("the protocol is none of http, http2, grpc, tcp"));
    }
    let (service, port) = service_port(service).ok_or_else(|| wrong("the port is no number"))?;
    let address = |part: &str, what| part.parse::<Address>().map_err(|_| wrong(what));
    Ok(Inbound {
        bind: bind.map(|bind| address(bind, "no address to listen on")).transpose()?,
        service,
        port,
        app: address(app, "no address of the workload")?,
        protocol: protocol.to_owned(),
        workload: String::new(),
    })
}

/// Reads `PORT=PORT`: a gateway's port and the one that is really bound.
pub fn gateway_port(text: &str) -> Result<(u16, u16), String> {
    let port = |part: &str| part.parse::<u16>().ok().filter(|port| *port > 0);
    text.split_once('=')
        .and_then(|(from, to)| Some((port(from)?, port(to)?)))
        .ok_or_else(|| format!("{text:?} is no pair of ports; write it like 80=8080"))
}

/// Reads `KEY=VALUE`.
pub fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is no label; write it like version=v1")),
    }
}

/// `api:80` or `api`; port 0 is the service's first.
fn service_port(text: &str) -> Option<(String, u16)> {
    match text.rsplit_once(':') {
        None => Some((text.to_owned(), 0)),
        Some((service, port)) => Some((service.to_owned(), port.parse().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_names_a_port_and_a_service() {
        let read = upstream("127.0.0.1:9001=api:80").unwrap();
        assert_eq!((read.bind.port(), read.service.as_str(), read.port), (Some(9001), "api", 80));
        assert_eq!(upstream("unix:/run/api.sock=api").unwrap().bind.to_string(), "unix:/run/api.sock");
        assert_eq!(upstream("127.0.0.1:9001=api.shop").unwrap().port, 0);
        for wrong in ["", "127.0.0.1:9001", "9001=api", "127.0.0.1:9001=", "127.0.0.1:9001=api:x"] {
            assert!(upstream(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_inbound_port_leads_to_the_workload() {
        let read = inbound("127.0.0.1:15006=127.0.0.1:8080/http").unwrap();
        assert_eq!(read.bind.and_then(|bind| bind.port()), Some(15006));
        assert_eq!(
            (read.app.port(), read.protocol.as_str(), read.service.as_str()),
            (Some(8080), "http", "")
        );
        let other = inbound("[::1]:15006=db:5432@[::1]:5432").unwrap();
        assert_eq!((other.service.as_str(), other.port, other.protocol.as_str()), ("db", 5432, ""));
        let captured = inbound("web:80@127.0.0.1:8080/http").unwrap();
        assert_eq!((captured.bind, captured.service.as_str(), captured.port), (None, "web", 80));
        for (text, app, protocol) in [
            ("unix:/run/in=unix:/run/web.sock/grpc", "unix:/run/web.sock", "grpc"),
            ("127.0.0.1:1=unix:/run/web.sock", "unix:/run/web.sock", ""),
        ] {
            let read = inbound(text).unwrap();
            assert_eq!((read.app.to_string().as_str(), read.protocol.as_str()), (app, protocol));
        }
        for wrong in ["", "127.0.0.1", "127.0.0.1:1=8080", "127.0.0.1:1=127.0.0.1:2/smtp"] {
            assert!(inbound(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn gateway_ports_and_labels_are_pairs() {
        assert_eq!(gateway_port("80=8080"), Ok((80, 8080)));
        assert!(gateway_port("80").is_err() && gateway_port("80=0").is_err());
        assert_eq!(label("version=v1"), Ok(("version".to_owned(), "v1".to_owned())));
        assert!(label("=x").is_err() && label("x").is_err());
    }
}

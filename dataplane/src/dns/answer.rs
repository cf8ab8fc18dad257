//! What becomes of one DNS query: an answer of the mesh, a refusal, or a question to the host's own resolvers. Pure.

use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME},
    },
};

use std::{net::IpAddr, str::FromStr};

use super::table::{Meaning, Table};
use crate::spec::MeshHost;

/// How long answers of the mesh may be kept, seconds; as Istio.
const TTL_S: u32 = 30;
/// Largest message over UDP that we send or say that we take, bytes: it needs no fragments (DNS flag day 2020).
const UDP_BYTES_MAX: u16 = 1232;
/// Length of a message's header, bytes.
const HEADER_BYTES: usize = 12;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram: an answer that is too long is cut.
    Udp,
    /// On a connection.
    Tcp,
}

/// What becomes of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To be sent.
    Answer(Vec<u8>, Outcome),
    /// It is not the mesh's: the host's resolvers know. A name of the mesh exists whatever they say of its other types.
    Forward {
        /// Whether the mesh has the name.
        ours: bool,
    },
    /// It is no query.
    Drop,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With addresses.
    Answered,
    /// The name is ours, and has no address of that family.
    NoData,
    /// It cannot be read, or asks for what nobody here does.
    Refused,
}

/// Decides on a message.
pub fn decide(bytes: &[u8], table: &Table, transport: Transport) -> Verdict {
    let Ok(query) = Message::from_vec(bytes) else { return unreadable(bytes) };
    if query.metadata.message_type == MessageType::Response {
        return Verdict::Drop;
    }
    if query.metadata.op_code != OpCode::Query {
        return refuse(&query, ResponseCode::NotImp);
    }
    let [question] = query.queries.as_slice() else { return refuse(&query, ResponseCode::FormErr) };
    if query.version() > 0 {
        return refuse(&query, ResponseCode::BADVERS);
    }
    let name = question.name().to_ascii().to_ascii_lowercase();
    let meaning = table.find(name.trim_end_matches('.'));
    let Some(meaning) = meaning.filter(|_| question.query_class() == DNSClass::IN) else {
        return Verdict::Forward { ours: false };
    };
    let (target, host) = match &meaning {
        Meaning::Host(host) => (None, *host),
        Meaning::Searched(target, host) => (Some(*target), *host),
    };
    match question.query_type() {
        // With what these say a client would pass by the mesh's addresses.
        RecordType::A | RecordType::AAAA | RecordType::ANY | RecordType::HTTPS | RecordType::SVCB => {
            answer(&query, target, host, transport)
        }
        _ => Verdict::Forward { ours: true },
    }
}

/// `ours`: the resolvers do not know that the name exists. To a client their "no such name" would mean that it has no
/// address either.
pub fn correct(mut reply: Vec<u8>, ours: bool) -> Vec<u8> {
    const NX_DOMAIN: u8 = 3;
    if let Some(codes) = reply.get_mut(3).filter(|codes| ours && **codes & 0x0f == NX_DOMAIN) {
        *codes &= 0xf0;
    }
    reply
}

/// The answer to a query that nobody answered.
pub fn failure(bytes: &[u8]) -> Option<Vec<u8>> {
    let query = Message::from_vec(bytes).ok()?;
    match refuse(&query, ResponseCode::ServFail) {
        Verdict::Answer(reply, _) => Some(reply),
        Verdict::Forward { .. } | Verdict::Drop => None,
    }
}

fn answer(query: &Message, target: Option<&str>, host: &MeshHost, transport: Transport) -> Verdict {
    let question = &query.queries[0];
    let wanted = question.query_type();
    let mut reply = reply_to(query);
    reply.metadata.authoritative = true;
    reply.metadata.recursion_available = true;
    let mut owner = question.name().clone();
    if let Some(Ok(target)) = target.map(|target| Name::from_str(&format!("{target}."))) {
        let alias = RData::CNAME(CNAME(target.clone()));
        reply.add_answer(Record::from_rdata(owner, TTL_S, alias));
        owner = target;
    }
    let mut addresses = 0;
    for address in &host.addresses {
        let (kind, data) = match address {
            IpAddr::V4(ip) => (RecordType::A, RData::A(A(*ip))),
            IpAddr::V6(ip) => (RecordType::AAAA, RData::AAAA(AAAA(*ip))),
        };
        if wanted == kind || wanted == RecordType::ANY {
            reply.add_answer(Record::from_rdata(owner.clone(), TTL_S, data));
            addresses += 1;
        }
    }
    let outcome = if addresses > 0 { Outcome::Answered } else { Outcome::NoData };
    let Ok(bytes) = reply.to_vec() else { return refuse(query, ResponseCode::ServFail) };
    let most = usize::from(query.max_payload().min(UDP_BYTES_MAX));
    if transport == Transport::Tcp || bytes.len() <= most {
        return Verdict::Answer(bytes, outcome);
    }
    match reply.truncate().to_vec() {
        Ok(cut) => Verdict::Answer(cut, outcome),
        Err(_) => refuse(query, ResponseCode::ServFail),
    }
}

fn reply_to(query: &Message) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&query.metadata);
    reply.add_queries(query.queries.iter().cloned());
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_BYTES_MAX);
        reply.set_edns(edns);
    }
    reply
}

fn refuse(query: &Message, code: ResponseCode) -> Verdict {
    let mut reply = reply_to(query);
    reply.metadata.response_code = code;
    if let Some(edns) = &mut reply.edns {
        edns.set_rcode_high(code.high());
    }
    reply.to_vec().map_or(Verdict::Drop, |bytes| Verdict::Answer(bytes, Outcome::Refused))
}

/// What cannot be read is told so, if at least its header says that it is a query.
fn unreadable(bytes: &[u8]) -> Verdict {
    const RESPONSE: u8 = 0x80;
    match bytes.get(..HEADER_BYTES) {
        Some(header) if header[2] & RESPONSE == 0 => {
            let id = u16::from_be_bytes([header[0], header[1]]);
            let reply = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
            reply.to_vec().map_or(Verdict::Drop, |bytes| Verdict::Answer(bytes, Outcome::Refused))
        }
        _ => Verdict::Drop,
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;

    use super::{
        super::table::tests::{host, table},
        *,
    };

    fn names() -> Table {
        let many: Vec<String> = (0..80).map(|i| format!("240.240.1.{i}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        table(&[
            host("shop", "db", &["db.shop.svc.cluster.local", "db.shop"], &["240.240.0.1"]),
            host("shop", "", &["six.test"], &["2001:db8::1"]),
            host("shop", "", &["many.test"], &many),
        ])
    }

    fn query(name: &str, kind: RecordType) -> Message {
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(Name::from_str(name).unwrap(), kind));
        query
    }

    fn told(query: &Message, transport: Transport) -> (Message, Outcome) {
        match decide(&query.to_vec().unwrap(), &names(), transport) {
            Verdict::Answer(bytes, outcome) => (Message::from_vec(&bytes).unwrap(), outcome),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_host_of_the_mesh_has_its_addresses_and_no_data_of_the_other_family() {
        use Outcome::{Answered, NoData};
        for (name, kind, outcome, expected) in [
            ("db.shop.", RecordType::A, Answered, "240.240.0.1"),
            ("DB.Shop.SVC.cluster.local.", RecordType::A, Answered, "240.240.0.1"),
            ("db.", RecordType::A, Answered, "240.240.0.1"),
            ("db.shop.", RecordType::AAAA, NoData, ""),
            ("db.shop.", RecordType::HTTPS, NoData, ""),
            ("db.shop.", RecordType::ANY, Answered, "240.240.0.1"),
            ("six.test.", RecordType::AAAA, Answered, "2001:db8::1"),
            ("six.test.", RecordType::A, NoData, ""),
            ("db.corp.test.", RecordType::A, Answered, "db.,240.240.0.1"),
            ("db.corp.test.", RecordType::AAAA, NoData, "db."),
        ] {
            let (reply, found) = told(&query(name, kind), Transport::Udp);
            let shown: Vec<String> = reply.answers.iter().map(|answer| answer.data.to_string()).collect();
            assert_eq!((found, shown.join(",").as_str()), (outcome, expected), "{name} {kind}");
            let head = reply.metadata;
            assert_eq!(head.response_code, ResponseCode::NoError, "{name} {kind}");
            assert!(head.id == 7 && head.authoritative && head.recursion_desired && head.recursion_available);
            assert!(reply.edns.is_none() && reply.queries.len() == 1);
        }
    }

    #[test]
    fn what_is_not_the_meshs_is_forwarded() {
        for (name, kind, ours) in [
            ("example.com.", RecordType::A, false),
            ("db.shop.", RecordType::MX, true),
            ("other.shop.svc.cluster.local.", RecordType::A, false),
            (".", RecordType::NS, false),
        ] {
            let bytes = query(name, kind).to_vec().unwrap();
            assert_eq!(decide(&bytes, &names(), Transport::Udp), Verdict::Forward { ours }, "{name} {kind}");
        }
    }

    #[test]
    fn a_datagram_is_as_long_as_the_client_takes_and_no_longer() {
        for (payload, transport, cut) in [
            (None, Transport::Udp, true),
            (Some(512), Transport::Udp, true),
            (Some(4096), Transport::Udp, true),
            (None, Transport::Tcp, false),
        ] {
            let mut asked = query("many.test.", RecordType::A);
            if let Some(payload) = payload {
                let mut edns = Edns::new();
                edns.set_max_payload(payload);
                asked.set_edns(edns);
            }
            let (reply, _) = told(&asked, transport);
            assert_eq!((reply.metadata.truncation, reply.answers.is_empty()), (cut, cut), "{payload:?}");
            assert_eq!(reply.edns.map(|edns| edns.max_payload()), payload.map(|_| UDP_BYTES_MAX));
        }
    }

    #[test]
    fn strange_messages_are_refused_or_dropped() {
        let code = |bytes: &[u8]| match decide(bytes, &names(), Transport::Udp) {
            Verdict::Answer(reply, Outcome::Refused) => {
                Some(Message::from_vec(&reply).unwrap().metadata.response_code)
            }
            Verdict::Drop => None,
            other => panic!("{other:?}"),
        };
        let mut update = query("db.shop.", RecordType::A);
        update.metadata.op_code = OpCode::Update;
        assert_eq!(code(&update.to_vec().unwrap()), Some(ResponseCode::NotImp));
        let mut twice = query("db.shop.", RecordType::A);
        twice.add_query(Query::query(Name::root(), RecordType::A));
        assert_eq!(code(&twice.to_vec().unwrap()), Some(ResponseCode::FormErr));
        let mut later = query("db.shop.", RecordType::A);
        let mut edns = Edns::new();
        edns.set_version(1);
        later.set_edns(edns);
        // The number has two names.
        assert_eq!(code(&later.to_vec().unwrap()).map(u16::from), Some(u16::from(ResponseCode::BADVERS)));
        let response = query("db.shop.", RecordType::A).into_response();
        assert_eq!(code(&response.to_vec().unwrap()), None);
        assert_eq!(code(&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 255]), Some(ResponseCode::FormErr));
        assert_eq!(code(&[0, 7, 1]), None);
        assert_eq!(code(&[]), None);
    }

    #[test]
    fn no_cut_or_flipped_message_panics() {
        let whole = query("db.corp.test.", RecordType::A).to_vec().unwrap();
        for end in 0..=whole.len() {
            decide(&whole[..end], &names(), Transport::Udp);
        }
        for place in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[place / 8] ^= 1 << (place % 8);
            decide(&flipped, &names(), Transport::Udp);
        }
    }

    #[test]
    fn a_name_of_the_mesh_exists_whatever_the_resolvers_say() {
        let mut denial = query("db.shop.", RecordType::MX).into_response();
        denial.metadata.response_code = ResponseCode::NXDomain;
        let bytes = denial.to_vec().unwrap();
        let code = |ours| Message::from_vec(&correct(bytes.clone(), ours)).unwrap().metadata.response_code;
        assert_eq!((code(true), code(false)), (ResponseCode::NoError, ResponseCode::NXDomain));
        let asked = query("db.shop.", RecordType::MX).to_vec().unwrap();
        let failed = Message::from_vec(&failure(&asked).unwrap()).unwrap();
        assert_eq!((failed.metadata.response_code, failed.metadata.id), (ResponseCode::ServFail, 7));
    }
}

//! Header changes: removals, sets and adds, with the values checked.

use http::{HeaderName, HeaderValue};
use weft_proto::xds::envoy::config::core::v3::{HeaderValueOption, header_value_option::HeaderAppendAction};

use super::{At, Refusal};
use crate::spec::HeaderMutation;

/// The names of the two fields of a message, for refusals.
pub(super) struct Fields(pub &'static str, pub &'static str);

/// Field names of request changes.
pub(super) const REQUEST: Fields = Fields("request_headers_to_add", "request_headers_to_remove");
/// Field names of response changes.
pub(super) const RESPONSE: Fields = Fields("response_headers_to_add", "response_headers_to_remove");

pub(super) fn mutation(
    fields: &Fields,
    add: Vec<HeaderValueOption>,
    remove: Vec<String>,
) -> Result<HeaderMutation, Refusal> {
    let mut mutation = HeaderMutation::default();
    for (i, option) in add.into_iter().enumerate() {
        add_option(&mut mutation, option).at_index(fields.0, i)?;
    }
    for (i, text) in remove.iter().enumerate() {
        mutation.remove.push(removable(text).at_index(fields.1, i)?);
    }
    Ok(mutation)
}

/// `inner` after `outer`: what the route says is applied before what its table says, so the outer one has the last word,
/// which is Envoy's order unless `most_specific_header_mutations_wins`.
pub(super) fn append(inner: &mut HeaderMutation, outer: &HeaderMutation) {
    inner.remove.extend(outer.remove.iter().cloned());
    inner.set.extend(outer.set.iter().cloned());
    inner.add.extend(outer.add.iter().cloned());
    if outer.host.is_some() {
        inner.host.clone_from(&outer.host);
    }
}

fn add_option(mutation: &mut HeaderMutation, option: HeaderValueOption) -> Result<(), Refusal> {
    let header = option.header.ok_or_else(|| Refusal::new("header", "missing"))?;
    let appends = option.append;
    let overwrite = match appends {
        Some(append) => !append.value,
        None => match HeaderAppendAction::try_from(option.append_action) {
            Ok(HeaderAppendAction::AppendIfExistsOrAdd) => false,
            Ok(HeaderAppendAction::OverwriteIfExistsOrAdd) => true,
            _ => return Err(Refusal::new("append_action", "not supported by this proxy")),
        },
    };
    let text = if header.raw_value.is_empty() { header.value.into_bytes() } else { header.raw_value };
    if text.is_empty() && !option.keep_empty_value {
        // By definition of the field an empty value is not added.
        return Ok(());
    }
    let value = literal(&text).at("header.value")?;
    let key = header.key.to_ascii_lowercase();
    if key == ":authority" || key == "host" {
        mutation.host = Some(value);
        return Ok(());
    }
    let name = name(&key).at("header.key")?;
    if overwrite {
        mutation.set.push((name, value))
    } else {
        mutation.add.push((name, value))
    }
    Ok(())
}

/// Values are literal; `%%` is a percent sign. A command (`%REQ(..)%`) is refused, not sent as text.
fn literal(text: &[u8]) -> Result<HeaderValue, Refusal> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        if byte == b'%' && rest.next() != Some(b'%') {
            return Err(Refusal::new("", "format commands (%...%) are not supported by this proxy"));
        }
        plain.push(byte);
    }
    HeaderValue::from_bytes(&plain).map_err(|_| Refusal::new("", "not a valid header value"))
}

fn name(text: &str) -> Result<HeaderName, Refusal> {
    HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| Refusal::new("", format!("{text:?} is no header name")))
}

fn removable(text: &str) -> Result<HeaderName, Refusal> {
    if text.starts_with(':') || text.eq_ignore_ascii_case("host") {
        return Err(Refusal::new("", format!("{text:?} cannot be removed")));
    }
    name(&text.to_ascii_lowercase())
}

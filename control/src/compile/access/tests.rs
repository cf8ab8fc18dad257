//! How values are read: as written where holding allows, in every way where it does not.

use super::*;

fn allows(wide: bool) -> Reading {
    Reading { wide, grants: !wide }
}

#[test]
fn a_denied_host_is_denied_at_any_port_and_with_a_dot() {
    let exact = TextPattern::Exact("a.b".into());
    assert_eq!(texts::host(&exact, allows(false)), [Text::Exact("a.b".into())]);
    assert_eq!(
        texts::host(&exact, allows(true)),
        [
            Text::Exact("a.b".into()),
            Text::Prefix("a.b:".into()),
            Text::Exact("a.b.".into()),
            Text::Prefix("a.b.:".into()),
        ]
    );
    // Who names a port means it.
    let port = TextPattern::Exact("a.b:80".into());
    assert_eq!(texts::host(&port, allows(true)), [Text::Exact("a.b:80".into())]);
}

#[test]
fn names_are_taken_as_they_are_written() {
    // What would mean something in a regular expression means itself.
    for name in ["a.b", "a[1]", "a+b$", "^a|b"] {
        let found = namespace(&TextPattern::Exact(name.into()), "td", allows(false));
        let whole = format!("spiffe://td/ns/{name}/sa/");
        assert_eq!(found, Condition::Is(Doer::Principal(Text::Prefix(whole.into()))));
    }
}

#[test]
fn a_star_does_not_let_other_trust_domains_in() {
    let is = |text| Condition::Is(Doer::Principal(text));
    assert_eq!(principal(&TextPattern::Any, "td", allows(false)), is(Text::Prefix("spiffe://td/".into())));
    assert_eq!(principal(&TextPattern::Any, "td", allows(true)), is(Text::Prefix("spiffe://".into())));
    let own = TextPattern::Exact("cluster.local/ns/a/sa/b".into());
    assert_eq!(principal(&own, "td", allows(false)), is(Text::Exact("spiffe://td/ns/a/sa/b".into())));
    let other = TextPattern::Exact("cluster.local.org/ns/a/sa/b".into());
    assert_eq!(
        principal(&other, "td", allows(false)),
        is(Text::Exact("spiffe://cluster.local.org/ns/a/sa/b".into()))
    );
}

#[test]
fn an_issuer_and_a_subject_meet_at_any_slash() {
    let claim =
        |name: &str, text: &str| Condition::Is(Doer::Claim(vec![name.into()], Text::Exact(text.into())));
    let found = texts::request_principal(&TextPattern::Exact("a/b/c".into()));
    let both = |issuer, subject| Condition::All(vec![claim("iss", issuer), claim("sub", subject)]);
    assert_eq!(found, Condition::Some(vec![both("a", "b/c"), both("a/b", "c")]));
    assert_eq!(texts::request_principal(&TextPattern::Exact("nobody".into())), Condition::never());
}

//! Match conditions of routes: paths, headers, query parameters, strings, regular expressions and shares.

use std::mem::take;

use regex::bytes::{Regex, RegexBuilder};
use weft_proto::xds::envoy::{
    config::{
        core::v3::RuntimeFractionalPercent,
        route::v3::{
            HeaderMatcher, QueryParameterMatcher, RouteMatch as RawMatch,
            header_matcher::HeaderMatchSpecifier, query_parameter_matcher::QueryParameterMatchSpecifier,
            route_match::PathSpecifier,
        },
    },
    r#type::{
        matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern},
        v3::{FractionalPercent, fractional_percent::DenominatorType},
    },
};

use super::{At, Refusal, nothing_left, required};
use crate::spec::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, ValueMatch};

/// Largest compiled regular expression, bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;
/// One whole, in millionths.
pub(super) const ALL_PPM: u32 = 1_000_000;

pub(super) fn route_match(mut raw: RawMatch) -> Result<RouteMatch, Refusal> {
    let ignore_case = raw.case_sensitive.take().is_some_and(|sensitive| !sensitive.value);
    let path = match raw.path_specifier.take() {
        Some(PathSpecifier::Prefix(prefix)) => PathMatch::Prefix(prefix),
        Some(PathSpecifier::Path(path)) => PathMatch::Exact(path),
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => {
            if !prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains(['?', '#']) {
                return Err(Refusal::new("path_separated_prefix", "must begin with / and not end with it"));
            }
            PathMatch::SegmentPrefix(prefix)
        }
        Some(PathSpecifier::SafeRegex(matcher)) => PathMatch::Regex(regex(&matcher).at("safe_regex")?),
        Some(PathSpecifier::ConnectMatcher(_)) => {
            return Err(Refusal::new("connect_matcher", "not supported by this proxy"));
        }
        Some(PathSpecifier::PathMatchPolicy(_)) => {
            return Err(Refusal::new("path_match_policy", "not supported by this proxy"));
        }
        None => return Err(Refusal::new("path_specifier", "missing; a prefix \"/\" matches every path")),
    };
    let fraction_ppm = fraction(raw.runtime_fraction.take()).at("runtime_fraction")?;
    let headers = take(&mut raw.headers).into_iter().enumerate();
    let headers = headers.map(|(i, m)| header(m).at_index("headers", i)).collect::<Result<_, _>>()?;
    let query = take(&mut raw.query_parameters).into_iter().enumerate();
    let query = query.map(|(i, m)| parameter(m).at_index("query_parameters", i)).collect::<Result<_, _>>()?;
    nothing_left(&raw)?;
    Ok(RouteMatch { path, ignore_case, headers, query, fraction_ppm })
}

/// A share in millionths; none given is all.
pub(super) fn fraction(raw: Option<RuntimeFractionalPercent>) -> Result<u32, Refusal> {
    // A runtime key names an override in Envoy's runtime, which we do not have: the default value holds.
    match raw.and_then(|raw| raw.default_value) {
        None => Ok(ALL_PPM),
        share => percentage(share).at("default_value"),
    }
}

/// A share in millionths; none given is nothing.
pub(super) fn percentage(raw: Option<FractionalPercent>) -> Result<u32, Refusal> {
    let Some(FractionalPercent { numerator, denominator }) = raw else { return Ok(0) };
    let scale = match DenominatorType::try_from(denominator) {
        Ok(DenominatorType::Hundred) => 10_000,
        Ok(DenominatorType::TenThousand) => 100,
        Ok(DenominatorType::Million) => 1,
        Err(_) => return Err(Refusal::new("denominator", "an unknown value")),
    };
    Ok(numerator.saturating_mul(scale).min(ALL_PPM))
}

pub(super) fn header(raw: HeaderMatcher) -> Result<HeaderMatch, Refusal> {
    let name = required(raw.name, "name")?.to_ascii_lowercase();
    let value = match raw.header_match_specifier {
        None => ValueMatch::Present(true),
        Some(HeaderMatchSpecifier::PresentMatch(present)) => ValueMatch::Present(present),
        Some(HeaderMatchSpecifier::StringMatch(matcher)) => string(matcher).at("string_match")?,
        Some(HeaderMatchSpecifier::ExactMatch(text)) => ValueMatch::Exact { text, ignore_case: false },
        Some(HeaderMatchSpecifier::PrefixMatch(text)) => ValueMatch::Prefix { text, ignore_case: false },
        Some(HeaderMatchSpecifier::SuffixMatch(text)) => ValueMatch::Suffix { text, ignore_case: false },
        Some(HeaderMatchSpecifier::ContainsMatch(text)) => ValueMatch::Contains { text, ignore_case: false },
        Some(HeaderMatchSpecifier::SafeRegexMatch(matcher)) => {
            ValueMatch::Regex(regex(&matcher).at("safe_regex_match")?)
        }
        Some(HeaderMatchSpecifier::RangeMatch(range)) => {
            ValueMatch::Range { start: range.start, end: range.end }
        }
    };
    Ok(HeaderMatch {
        name,
        value,
        invert: raw.invert_match,
        missing_as_empty: raw.treat_missing_header_as_empty,
    })
}

fn parameter(raw: QueryParameterMatcher) -> Result<QueryMatch, Refusal> {
    let name = required(raw.name, "name")?;
    let value = match raw.query_parameter_match_specifier {
        None => ValueMatch::Present(true),
        Some(QueryParameterMatchSpecifier::PresentMatch(present)) => ValueMatch::Present(present),
        Some(QueryParameterMatchSpecifier::StringMatch(matcher)) => string(matcher).at("string_match")?,
    };
    Ok(QueryMatch { name, value })
}

/// A condition on a text.
pub(super) fn string(raw: StringMatcher) -> Result<ValueMatch, Refusal> {
    let ignore_case = raw.ignore_case;
    let fold = |text: String| if ignore_case { text.to_ascii_lowercase() } else { text };
    Ok(match raw.match_pattern {
        Some(MatchPattern::Exact(text)) => ValueMatch::Exact { text: fold(text), ignore_case },
        Some(MatchPattern::Prefix(text)) => ValueMatch::Prefix { text: fold(text), ignore_case },
        Some(MatchPattern::Suffix(text)) => ValueMatch::Suffix { text: fold(text), ignore_case },
        Some(MatchPattern::Contains(text)) => ValueMatch::Contains { text: fold(text), ignore_case },
        // `ignore_case` has no effect on a regular expression, by Envoy's definition.
        Some(MatchPattern::SafeRegex(matcher)) => ValueMatch::Regex(regex(&matcher).at("safe_regex")?),
        Some(MatchPattern::Custom(_)) => return Err(Refusal::new("custom", "not supported by this proxy")),
        None => return Err(Refusal::new("match_pattern", "missing")),
    })
}

/// A regular expression that must match the whole subject.
pub(super) fn regex(raw: &RegexMatcher) -> Result<Regex, Refusal> {
    build(&format!("^(?:{})$", raw.regex))
}

/// A regular expression that may match any part of the subject.
pub(super) fn partial_regex(raw: &RegexMatcher) -> Result<Regex, Refusal> {
    build(&raw.regex)
}

/// RE2's substitution (`\1`, `\\`) in the words of the regex crate.
pub(super) fn substitution(text: &str) -> Result<String, Refusal> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('\\') => out.push('\\'),
                Some(digit) if digit.is_ascii_digit() => {
                    out.push_str("${");
                    out.push(digit);
                    out.push('}');
                }
                _ => return Err(Refusal::new("", "a backslash is followed by a digit or a backslash")),
            },
            '$' => out.push_str("$$"),
            c => out.push(c),
        }
    }
    Ok(out)
}

/// A regular expression of our own making.
pub(super) fn pattern(pattern: &str) -> Result<Regex, Refusal> {
    build(pattern)
}

fn build(pattern: &str) -> Result<Regex, Refusal> {
    RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build().map_err(|error| {
        Refusal::new("regex", error.to_string().lines().last().unwrap_or("not valid").trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substitutions_are_re2s() {
        for (text, becomes) in
            [("/x", "/x"), ("/\\2/\\1", "/${2}/${1}"), ("\\10", "${1}0"), ("$1", "$$1"), ("\\\\", "\\")]
        {
            assert_eq!(substitution(text).unwrap(), becomes, "{text}");
        }
        for text in ["\\", "\\x"] {
            assert!(substitution(text).is_err(), "{text}");
        }
    }
}

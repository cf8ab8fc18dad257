//! Documents that someone or something broke: nothing panics, and what stands beside them is not disturbed. Covers every
//! kind that a golden file has.

use std::{fs, sync::LazyLock};

use proptest::{prelude::*, sample::Index};
use weft_proto::node::Role;

use super::*;

/// Every document of the golden files.
static CORPUS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let texts = files.iter().map(|file| fs::read_to_string(file).unwrap());
    let documents = texts.flat_map(|text| {
        let input = text.split(golden::MARK).next().unwrap_or_default();
        input.split("\n---\n").skip(1).map(str::to_owned).collect::<Vec<_>>()
    });
    documents.collect()
});

/// What a value becomes.
const VALUES: [&str; 16] = [
    "",
    "null",
    "[]",
    "{}",
    "true",
    "-1",
    "0",
    "65536",
    "4294967296",
    "1e400",
    "\"\"",
    "'*'",
    "\"*.\"",
    "{a: 1}",
    "\"a\\u0000b\"",
    "9999999h",
];

/// One thing that is broken.
#[derive(Clone, Debug)]
enum Mutation {
    /// A line is gone.
    Drop(Index),
    /// A line is there twice.
    Repeat(Index),
    /// A line moves in or out.
    Indent(Index, bool),
    /// The text ends early.
    Cut(Index),
    /// A word is another.
    Word(Index, usize),
    /// A word takes the place of another of the text.
    Swap(Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        1 => any::<Index>().prop_map(Mutation::Drop),
        1 => any::<Index>().prop_map(Mutation::Repeat),
        1 => (any::<Index>(), any::<bool>()).prop_map(|(at, more)| Mutation::Indent(at, more)),
        1 => any::<Index>().prop_map(Mutation::Cut),
        4 => (any::<Index>(), 0..VALUES.len()).prop_map(|(at, value)| Mutation::Word(at, value)),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(at, from)| Mutation::Swap(at, from)),
    ]
}

/// Where words begin and end.
fn words(text: &str) -> Vec<std::ops::Range<usize>> {
    let (mut found, mut start) = (Vec::new(), None);
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        let inside = !c.is_whitespace() && !"{}[],:".contains(c);
        match (inside, start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                found.push(from..at);
                start = None;
            }
            _ => {}
        }
    }
    found
}

fn mutate(text: &str, mutation: &Mutation) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let words = words(text);
    if lines.is_empty() || words.is_empty() {
        return text.to_owned();
    }
    match mutation {
        Mutation::Drop(at) => drop(lines.remove(at.index(lines.len()))),
        Mutation::Repeat(at) => {
            let at = at.index(lines.len());
            lines.insert(at, lines[at].clone());
        }
        Mutation::Indent(at, more) => {
            let line = &mut lines[at.index(text.lines().count())];
            *line = if *more { format!("  {line}") } else { line.trim_start().to_owned() };
        }
        Mutation::Cut(at) => {
            let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            return text[..starts[at.index(starts.len())]].to_owned();
        }
        Mutation::Word(at, value) => {
            let mut text = text.to_owned();
            text.replace_range(words[at.index(words.len())].clone(), VALUES[*value]);
            return text;
        }
        Mutation::Swap(at, from) => {
            let mut changed = text.to_owned();
            let from = text[words[from.index(words.len())].clone()].to_owned();
            changed.replace_range(words[at.index(words.len())].clone(), &from);
            return changed;
        }
    }
    lines.join("\n") + "\n"
}

const GOOD: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: good, namespace: good}
spec: {hosts: [good], http: [{route: [{destination: {host: good.default}}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: good, namespace: good}
spec:
  parentRefs: [{group: '', kind: Service, name: good, namespace: default}]
  rules: [{timeouts: {request: 1s}}]
";

fn everything(documents: Vec<Document>) -> Vec<(Arc<str>, u64)> {
    let services = ["good", "a", "api", "reviews"].map(|name| {
        service(name, &[(80, Protocol::Http), (9000, Protocol::Tcp), (81, Protocol::Grpc)], &["v1", "v2"])
    });
    let world = Compiler::default().update(mesh(&services), Arc::new(documents.into_iter().collect()));
    let gateway = NodeMetadata { role: Role::Gateway, ..sidecar() };
    let sets = [sidecar(), upstream("good"), gateway].map(|node| world.resources(&node));
    let all = sets.iter().flat_map(|set| Kind::ALL.map(|kind| set.of(kind)).into_iter().flatten());
    all.map(|resource| (resource.name.clone(), resource.version)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_broken_document_neither_panics_nor_disturbs_a_good_one(
        which in any::<Index>(),
        mutations in proptest::collection::vec(mutation(), 1..4),
    ) {
        let text = &CORPUS[which.index(CORPUS.len())];
        let broken = mutations.iter().fold(text.clone(), |text, mutation| mutate(&text, mutation));
        let (good, problems) = documents::parse(GOOD, "good.yaml", 1);
        prop_assert_eq!(problems, []);
        let (both, problems) = documents::parse(&format!("{GOOD}---\n{broken}"), "good.yaml", 1);
        prop_assert_eq!(&both[..good.len()], &good[..]);
        let found = everything(both.clone());
        if both.len() == good.len() {
            prop_assert_eq!(found, everything(good));
            prop_assert!(!problems.is_empty() || !broken.lines().any(|line| line.starts_with("kind")), "{}", broken);
        }
    }
}

//! Reads the documents that a command is given: files, directories, or `-` for stdin.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use weft_proto::admin::v1::Manifest;

use crate::failure::Failure;

/// Largest text taken from one file: far above any real policy, far below what hurts.
const MANIFEST_BYTES_MAX: u64 = 16 << 20;

/// File name endings that a directory is searched for.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// Reads everything named, in the order given; files of a directory in the order of their names.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Manifest>, Failure> {
    let mut manifests = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            manifests.push(text("-", io::stdin().lock())?);
        } else if path.is_dir() {
            for file in files_of(path)? {
                manifests.push(file_text(&file)?);
            }
        } else {
            manifests.push(file_text(path)?);
        }
    }
    if manifests.is_empty() {
        return Err(Failure::usage(
            "there is nothing to read",
            "the directories given hold no .yaml, .yml or .json file",
            "name a file, a directory with documents, or - for stdin",
        ));
    }
    Ok(manifests)
}

fn files_of(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(directory).map_err(|error| unreadable(&directory.display(), &error))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(&directory.display(), &error))?.path();
        let fits = path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
        if fits && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn file_text(path: &Path) -> Result<Manifest, Failure> {
    let file = fs::File::open(path).map_err(|error| unreadable(&path.display(), &error))?;
    text(&path.display().to_string(), file)
}

fn text(origin: &str, reader: impl io::Read) -> Result<Manifest, Failure> {
    let mut yaml = String::new();
    let read = io::Read::take(reader, MANIFEST_BYTES_MAX + 1);
    io::Read::read_to_string(&mut { read }, &mut yaml).map_err(|error| unreadable(&origin, &error))?;
    if yaml.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(Failure::usage(
            format!("{origin} is too large"),
            format!("more than {MANIFEST_BYTES_MAX} bytes"),
            "split it into several files",
        ));
    }
    Ok(Manifest { yaml, origin: origin.to_owned() })
}

fn unreadable(origin: &dyn std::fmt::Display, error: &io::Error) -> Failure {
    Failure::usage(format!("cannot read {origin}"), error.to_string(), "check the path and its permissions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_gives_its_documents_by_name() {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in [("b.yaml", "b: 1\n"), ("a.yml", "a: 1\n"), ("notes.txt", "no")] {
            fs::write(directory.path().join(name), content).unwrap();
        }
        let manifests = read(&[directory.path().to_owned()]).unwrap();
        let texts: Vec<&str> = manifests.iter().map(|manifest| manifest.yaml.as_str()).collect();
        assert_eq!(texts, ["a: 1\n", "b: 1\n"]);
        assert!(manifests[0].origin.ends_with("a.yml"));
    }

    #[test]
    fn a_missing_file_is_bad_input() {
        let failure = read(&["/nowhere/at/all.yaml".into()]).unwrap_err();
        assert_eq!(failure.exit.code(), 2);
        assert!(failure.what.contains("/nowhere/at/all.yaml"));
    }

    #[test]
    fn an_empty_directory_is_bad_input() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(&[directory.path().to_owned()]).unwrap_err().exit.code(), 2);
    }
}

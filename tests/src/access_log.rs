//! Access logs of both dataplanes in one form: the format that the mesh is given, and reading what was written.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Value as Json, json};

/// One request, as its proxy saw it.
#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    /// `x-echo-id` of the request.
    pub case: Option<String>,
    /// Status.
    pub code: u16,
    /// Response flags.
    pub flags: String,
    /// Response code details.
    pub details: Option<String>,
    /// Route.
    pub route: Option<String>,
    /// Cluster.
    pub cluster: Option<String>,
    /// Path as it came.
    pub path: Option<String>,
    /// Method.
    pub method: Option<String>,
    /// Host as it went upstream.
    pub authority: Option<String>,
    /// Protocol.
    pub protocol: Option<String>,
    /// Bytes of body received.
    pub received: u64,
}

/// Settings of a control plane whose proxies log in this form, to their output.
pub fn settings() -> Json {
    let format = json!({
        "case": "%REQ(X-ECHO-ID)%",
        "code": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "route": "%ROUTE_NAME%",
        "cluster": "%UPSTREAM_CLUSTER_RAW%",
        "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
        "method": "%REQ(:METHOD)%",
        "authority": "%REQ(:AUTHORITY)%",
        "protocol": "%PROTOCOL%",
        "received": "%BYTES_RECEIVED%",
    });
    json!({
        "access_log_file": "/dev/stdout",
        "access_log_encoding": "json",
        "access_log_format": format.to_string(),
    })
}

/// What a proxy has logged, by case.
pub struct AccessLog {
    path: PathBuf,
    read: u64,
    rest: String,
    entries: HashMap<String, Vec<Entry>>,
}

impl AccessLog {
    /// Of a program whose output is in this file.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read: 0, rest: String::new(), entries: HashMap::new() }
    }

    /// What was logged of a case so far.
    pub fn of(&mut self, case: &str) -> &[Entry] {
        self.entries.get(case).map_or(&[], Vec::as_slice)
    }

    /// Reads what was added.
    pub fn refresh(&mut self) -> std::io::Result<()> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        self.read += file.read_to_end(&mut bytes)? as u64;
        self.rest.push_str(&String::from_utf8_lossy(&bytes));
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let rest = self.rest.split_off(whole);
        for line in std::mem::replace(&mut self.rest, rest).lines() {
            // The file has the program's other words, too.
            if let Ok(entry) = serde_json::from_str::<Entry>(line)
                && let Some(case) = entry.case.clone()
            {
                self.entries.entry(case).or_default().push(entry);
            }
        }
        Ok(())
    }
}

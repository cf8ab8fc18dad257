//! Flags about how a platform's API is reached. Each platform gives them its own words, variables and default.

use std::path::PathBuf;

use weft_adapters::settings::RawAccess;

use super::{over, over_list};

/// Options of every adapter that asks an API over HTTP.
#[derive(Debug, clap::Args)]
pub(super) struct AccessArgs {
    /// Its servers; when one does not answer the next is asked
    #[arg(long, value_delimiter = ',', value_name = "URL")]
    address: Vec<String>,
    /// File with the token; read anew for every question
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The token, for where there is no file
    #[arg(long, hide_env_values = true, conflicts_with = "token_file")]
    token: Option<String>,
    /// PEM file with the CA of the servers' certificates [default: the host's roots]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// PEM file with the client's certificate and key
    #[arg(long, value_name = "FILE")]
    client_cert_file: Option<PathBuf>,
}

impl AccessArgs {
    /// Flags over what the file says.
    pub(super) fn over(self, access: &mut RawAccess) {
        over_list(&mut access.address, self.address);
        // A token given by hand takes the place of the file's, wherever that is.
        if self.token.is_some() || self.token_file.is_some() {
            (access.token, access.token_file) = (self.token, self.token_file);
        }
        over(&mut access.ca_file, self.ca_file);
        over(&mut access.client_cert_file, self.client_cert_file);
    }
}

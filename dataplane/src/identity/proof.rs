//! What a platform gives its workloads to prove who they are: a token in a file that the platform keeps fresh.

use std::{path::PathBuf, str::FromStr};

use weft_proto::identity::v1::sign_request::Credential;

/// A platform that gives such tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// Projected service account tokens.
    Kubernetes,
    /// Workload identities.
    Nomad,
    /// ACL tokens.
    Consul,
}

/// A platform's token: which platform's, and the file, which is read whenever it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    platform: Platform,
    file: PathBuf,
}

impl FromStr for Proof {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || format!("{text:?}: write kubernetes:FILE, nomad:FILE or consul:FILE");
        let (platform, file) = text.split_once(':').ok_or_else(wanted)?;
        let platform = match platform {
            "kubernetes" => Platform::Kubernetes,
            "nomad" => Platform::Nomad,
            "consul" => Platform::Consul,
            _ => return Err(wanted()),
        };
        if file.is_empty() {
            return Err(wanted());
        }
        Ok(Self { platform, file: file.into() })
    }
}

impl Proof {
    /// The token as it is now.
    pub async fn credential(&self) -> Result<Credential, String> {
        let read = tokio::fs::read_to_string(&self.file).await;
        let token = read.map_err(|error| format!("{}: {error}", self.file.display()))?.trim().to_owned();
        Ok(match self.platform {
            Platform::Kubernetes => Credential::KubernetesToken(token),
            Platform::Nomad => Credential::NomadToken(token),
            Platform::Consul => Credential::ConsulToken(token),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_read_when_it_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let proof: Proof = format!("kubernetes:{}", file.display()).parse().unwrap();
        assert!(proof.credential().await.unwrap_err().contains("token"));
        for token in ["first", "second"] {
            std::fs::write(&file, format!("{token}\n")).unwrap();
            let found = proof.credential().await.unwrap();
            assert_eq!(found, Credential::KubernetesToken(token.to_owned()));
        }
        for wrong in ["", "kubernetes", "kubernetes:", "mesos:/a", "/a"] {
            assert!(wrong.parse::<Proof>().is_err(), "{wrong}");
        }
    }
}

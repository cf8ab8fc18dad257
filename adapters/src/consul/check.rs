//! One look at Consul: does it answer, may we read, and what would be told.

use super::http::Http;
use super::wire::{Instance, Names};
use super::{CONSUL_ITSELF, WAIT, advice, map};
use crate::blocking::Ask;
use crate::report::{Report, Trouble};
use crate::settings::{ConsulSettings, Token};

/// Asks for every name and every instance once.
pub async fn check(settings: &ConsulSettings, report: &mut Report) {
    let at = &settings.access.servers[0];
    let http = match Http::new(settings) {
        Ok(http) => http,
        Err(error) => return report.bad(Trouble::Platform, error.to_string()),
    };
    let names = match http.get::<Names>(&["v1", "catalog", "services"], Ask::Now, WAIT).await {
        Ok(answer) => answer,
        Err(error) => {
            return report.bad(Trouble::of(&error), format!("consul at {at} {error}{}", advice(&error)));
        }
    };
    report.good(format!("consul at {at} answers"));
    let token = match &settings.access.token {
        Token::Anonymous => "no token is given".to_owned(),
        Token::Value(_) => "the token is taken".to_owned(),
        Token::File(file) => format!("the token of {} is taken", file.display()),
    };
    if names.body.is_empty() {
        let hidden =
            "no service is visible, not even Consul's own; give a token that may read services and nodes";
        report.bad(Trouble::NotAuthorised, format!("{token}: {hidden}"));
    } else {
        report.good(token);
    }
    if !names.doubt.is_empty() {
        report.bad(Trouble::Content, format!("consul at {at}: {}", names.doubt));
    }
    for name in names.body.keys().filter(|name| *name != CONSUL_ITSELF) {
        let path = ["v1", "health", "service", name.as_str()];
        match http.get::<Vec<Instance>>(&path, Ask::Now, WAIT).await {
            Ok(answer) => {
                let (items, refused) = map::map(name, &settings.namespace, &settings.region, &answer.body);
                report.items.extend(items);
                for invalid in refused {
                    report
                        .bad(Trouble::Content, format!("service {name}: an instance is left out: {invalid}"));
                }
            }
            // What stops one question stops the others.
            Err(error) => {
                return report
                    .bad(Trouble::of(&error), format!("service {name}: consul {error}{}", advice(&error)));
            }
        }
    }
}

//! The contract of the control API as an OpenAPI document, from the routes and types themselves.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{Modify, OpenApi};

use super::server::routes;
use super::types::event::EventView;
use crate::problem::{Code, Problem};

/// Name of the bearer token in the document.
const TOKEN: &str = "token";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tributary control API",
        description = "How programs of this machine reach its peer. It listens on a loopback address; \
                       `control.json` in the home, readable by its owner alone, holds the address and the token.",
    ),
    paths(
        routes::status,
        routes::runs,
        routes::run,
        routes::books,
        routes::create,
        routes::join,
        routes::leave,
        routes::disputes,
        routes::dispute,
        routes::appeal,
        routes::base,
        routes::fetch_base,
        routes::reach,
        routes::invite,
        routes::invitations,
        routes::revoke,
        routes::ticket,
        routes::events,
        routes::adapters,
        routes::export,
        routes::fetch,
        routes::verify,
        routes::statement,
        routes::explain,
        routes::proof,
        routes::prove_holdout,
        routes::check_holdout,
        routes::why,
        routes::stop,
        routes::metrics,
    ),
    components(schemas(EventView, Problem, Code)),
    modifiers(&Token, &Meanings),
    security(("token" = [])),
)]
struct Contract;

/// Every request carries the token.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(TOKEN, SecurityScheme::Http(scheme));
    }
}

/// Each code with its meaning: a list of bare names would tell a reader little.
struct Meanings;

impl Modify for Meanings {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        if let Some(RefOr::T(Schema::Object(codes))) = components.schemas.get_mut("Code") {
            let mut text = codes.description.take().unwrap_or_default();
            for (code, meaning) in Code::ALL {
                let name = serde_json::to_string(code).expect("a bare name always serialises");
                let name = name.trim_matches('"');
                text.push_str(&format!("\n- `{name}`: {}", meaning.trim()));
            }
            codes.description = Some(text);
        }
    }
}

/// The document.
pub fn document() -> utoipa::openapi::OpenApi {
    Contract::openapi()
}

/// The document as `docs/openapi.json` has it.
pub fn text() -> String {
    let text = document().to_pretty_json();
    let mut text = text.expect("a document of strings and maps always serialises");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_checked_in_contract_is_what_the_code_gives() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        let checked_in = std::fs::read_to_string(file).unwrap();
        assert!(
            checked_in == text(),
            "the API has changed: write its contract again with `tributary api openapi > docs/openapi.json`"
        );
    }

    #[test]
    fn every_route_is_documented_and_every_documented_route_is_served() {
        let router = include_str!("server.rs");
        let served: BTreeSet<&str> = (router.split("routes::").skip(1))
            .filter_map(|rest| Some(rest.split_once("::<H>")?.0))
            .collect();
        let document = serde_json::to_value(document()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let mut described = BTreeSet::new();
        for (path, methods) in paths {
            assert!(
                router.contains(&format!("\"{path}\"")),
                "{path} is not served"
            );
            for (method, operation) in methods.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(
                    router.contains(&format!("{method}(routes::{name}::<H>)")),
                    "{method} {path}"
                );
                described.insert(name);
            }
        }
        assert_eq!(described, served);
    }

    #[test]
    fn every_code_has_its_meaning_in_the_contract() {
        let document = serde_json::to_value(document()).unwrap();
        let codes = &document["components"]["schemas"]["Code"];
        let text = codes["description"].as_str().unwrap();
        let names = codes["enum"].as_array().unwrap();
        assert_eq!(names.len(), Code::ALL.len());
        for (name, (_, meaning)) in names.iter().zip(Code::ALL) {
            let line = format!("- `{}`: {}", name.as_str().unwrap(), meaning.trim());
            assert!(text.contains(&line), "{line}");
        }
    }
}

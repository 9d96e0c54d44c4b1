//! `GET /v1/models`: what answers here.

use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::Serialize;

use super::Api;
use super::refusal::Refusal;
use crate::access::{Guests, has_key, unauthorized};

#[derive(Serialize, JsonSchema)]
pub struct List {
    object: &'static str,
    data: Vec<Model>,
}

/// A name that the model is served under.
#[derive(Serialize, JsonSchema)]
pub struct Model {
    id: String,
    object: &'static str,
    /// In seconds since 1970: since when it is served.
    created: u64,
    owned_by: &'static str,
    /// The model's length in positions, of which a picture takes 3.
    max_model_len: u32,
    input_modalities: [&'static str; 2],
    output_modalities: [&'static str; 1],
}

impl Api {
    fn models(&self) -> Vec<Model> {
        let status = self.exchanges.hub.shared.status();
        let names = self.names().into_iter();
        let each = names.map(|id| Model {
            id,
            object: "model",
            created: self.since,
            owned_by: "glimpse",
            max_model_len: status.model.max_positions,
            input_modalities: ["text", "image"],
            output_modalities: ["text"],
        });
        each.collect()
    }
}

/// The models, for who may know of them.
fn models_for(request: &HttpRequest, api: &Api, guests: &Guests) -> Result<Vec<Model>, Refusal> {
    if !has_key(request, guests) {
        return Err(unauthorized().into());
    }
    Ok(api.models())
}

/// All names.
pub async fn list(
    request: HttpRequest,
    api: web::Data<Api>,
    guests: web::Data<Guests>,
) -> HttpResponse {
    match models_for(&request, &api, &guests) {
        Ok(data) => HttpResponse::Ok().json(List {
            object: "list",
            data,
        }),
        Err(refusal) => refusal.response(),
    }
}

/// One of them. Names may have slashes in them.
pub async fn show(
    request: HttpRequest,
    api: web::Data<Api>,
    guests: web::Data<Guests>,
    name: web::Path<String>,
) -> HttpResponse {
    let found = models_for(&request, &api, &guests).and_then(|models| {
        let found = models.into_iter().find(|model| model.id == *name);
        found.ok_or_else(|| Refusal::no_model(&name))
    });
    match found {
        Ok(model) => HttpResponse::Ok().json(model),
        Err(refusal) => refusal.response(),
    }
}

//! HTTP for scraping: `GET /stats`, `GET /translations`, `GET /metrics`. Read only.

mod listener;
mod translations;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;

use super::appliance::Appliance;
use super::{metrics, stats};
use listener::BoundedListener;

/// Where HTTP listens unless the operator says otherwise: this host only.
pub const DEFAULT_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9187);

/// The open HTTP port.
#[derive(Debug)]
pub struct HttpServer {
    listener: TcpListener,
}

impl HttpServer {
    /// Listens on `address`.
    ///
    /// # Errors
    /// The system's refusal: the address is taken, or not this host's.
    pub async fn open(address: SocketAddr) -> io::Result<HttpServer> {
        Ok(HttpServer {
            listener: TcpListener::bind(address).await?,
        })
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves scrapers until the future is dropped.
    ///
    /// # Errors
    /// Never in practice; failures of one connection end that connection only.
    pub async fn serve(self, appliance: Arc<Appliance>) -> io::Result<()> {
        let limits = appliance.parts.limits;
        let listener = BoundedListener::new(self.listener, limits.clients, limits.idle);
        axum::serve(listener, router(appliance)).await
    }
}

fn router(appliance: Arc<Appliance>) -> Router {
    Router::new()
        .route("/stats", get(get_stats))
        .route("/translations", get(get_translations))
        .route("/metrics", get(get_metrics))
        .fallback(async |uri: Uri| {
            let reason = format!(
                "{} is not here; there are /stats, /translations and /metrics",
                uri.path()
            );
            refuse(StatusCode::NOT_FOUND, reason)
        })
        .method_not_allowed_fallback(async || {
            refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered")
        })
        .with_state(appliance)
}

/// What a refused request is answered with.
#[derive(Serialize)]
struct Refusal {
    error: String,
}

fn refuse(status: StatusCode, reason: impl Into<String>) -> Response {
    let error = reason.into();
    (status, Json(Refusal { error })).into_response()
}

async fn get_stats(State(appliance): State<Arc<Appliance>>) -> Response {
    Json(stats::stats(&appliance).await).into_response()
}

async fn get_metrics(State(appliance): State<Arc<Appliance>>) -> Response {
    match metrics::encode(appliance) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn get_translations(
    State(appliance): State<Arc<Appliance>>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Response {
    let wanted = match query {
        Ok(Query(query)) => {
            translations::Wanted::new(&query).and_then(|wanted| wanted.with_vrf(&appliance))
        }
        Err(error) => Err(error.body_text()),
    };
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(reason) => return refuse(StatusCode::BAD_REQUEST, reason),
    };
    match translations::page(&appliance, &wanted).await {
        Ok(page) => Json(page).into_response(),
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

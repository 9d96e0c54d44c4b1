//! The log, to stderr, and spans to an OpenTelemetry collector when asked. Without a collector there is nothing of it:
//! no thread, no buffer, no filter.

use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{ExportArgs, LogArgs, LogFormat};
use gateway::telemetry::SPANS;

/// How long the collector may take for one request, and for the last spans at the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// What must be ended before the process.
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Sends what is left to the collector.
    pub fn finish(self) {
        if let Some(provider) = self.0 {
            // Whoever does not listen any more has been told of in the log.
            let _ = provider.shutdown_with_timeout(PATIENCE);
        }
    }
}

/// Where spans go, and in whose name.
pub struct Export {
    collector: String,
    service: &'static str,
}

impl Export {
    /// What the settings ask for, if anything. `service` is what this process is called there, unless OpenTelemetry's own
    /// variables call it something else.
    pub fn of(settings: &ExportArgs, service: &'static str) -> Option<Self> {
        let collector = collector(settings.otlp_endpoint.as_deref())?;
        Some(Export { collector, service })
    }
}

/// The collector's address for spans: what the command line says, else what OpenTelemetry's own variables say.
fn collector(asked: Option<&str>) -> Option<String> {
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let is = |name, value: &str| variable(name).is_some_and(|v| v.eq_ignore_ascii_case(value));
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return None;
    }
    let below = |address: &str| match address.ends_with("/v1/traces") {
        true => address.to_owned(),
        false => format!("{}/v1/traces", address.trim_end_matches('/')),
    };
    asked
        .map(below)
        .or_else(|| variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
        .or_else(|| {
            variable("OTEL_EXPORTER_OTLP_ENDPOINT")
                .as_deref()
                .map(below)
        })
}

/// Starts the log, at level `usual` unless asked otherwise, and the export.
///
/// # Errors
/// A filter that can't be read, or an address that is none.
pub fn start(settings: &LogArgs, usual: &str, export: Option<Export>) -> Result<Telemetry, String> {
    let filter = settings.log.as_deref().unwrap_or(usual);
    let filter =
        EnvFilter::try_new(filter).map_err(|problem| format!("--log {filter:?}: {problem}"))?;
    // Below that it writes whole messages, with the texts and pictures in them.
    let quiet = "rmcp=warn".parse();
    let filter =
        filter.add_directive(quiet.map_err(|problem: ParseError| format!("rmcp=warn: {problem}"))?);
    let Some(export) = export else {
        let registry = tracing_subscriber::registry().with(filter);
        registry.with(log(settings.log_format)).init();
        return Ok(Telemetry(None));
    };
    let provider = provider(export)?;
    // For spans that are written when they are over.
    opentelemetry::global::set_tracer_provider(provider.clone());
    let targets = Targets::new().with_target(SPANS, LevelFilter::DEBUG);
    #[cfg(feature = "cluster")]
    let targets = targets.with_target(crate::spans::SPANS, LevelFilter::DEBUG);
    // Nothing else is exported: not the log, and nothing of texts and pictures.
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("glimpse"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(targets);
    tracing_subscriber::registry()
        .with(log(settings.log_format).with_filter(filter))
        .with(spans)
        .init();
    Ok(Telemetry(Some(provider)))
}

/// Lines on stderr: stdout is for answers.
fn log<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let log = tracing_subscriber::fmt::layer()
        // Each stage tells when it begins and how long it took: see gateway::telemetry.
        // A log that can't be written (a full disk) must not end the server, as saying so on stderr would.
        .log_internal_errors(false)
        .with_span_events(FmtSpan::NEW | FmtSpan::CLOSE)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.boxed(),
        LogFormat::Json => log.json().boxed(),
    }
}

/// Sends spans in batches, from a thread of its own.
fn provider(export: Export) -> Result<SdkTracerProvider, String> {
    let address = export.collector;
    let client = Collector {
        agent: ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .into(),
        deaf: AtomicBool::new(false),
    };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(&address)
        .build()
        .map_err(|problem| {
            format!("--otlp-endpoint {address}: {problem}; give an address such as http://127.0.0.1:4318")
        })?;
    let mut resource = Resource::builder();
    let named = |name: &str, part: &str| env::var(name).is_ok_and(|value| value.contains(part));
    if !named("OTEL_SERVICE_NAME", "") && !named("OTEL_RESOURCE_ATTRIBUTES", "service.name=") {
        resource = resource.with_service_name(export.service);
    }
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.with_attribute(version).build())
        .build())
}

/// The way to the collector. It blocks: the exporter has a thread of its own.
#[derive(Debug)]
struct Collector {
    agent: ureq::Agent,
    /// The last request failed, and that was told.
    deaf: AtomicBool,
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.agent.run(request.map(|body| body.to_vec()));
        let (problem, answer) = match answer {
            Ok(answer) if answer.status().is_success() => (None, Ok(answer)),
            Ok(answer) => (Some(answer.status().to_string()), Ok(answer)),
            Err(problem) => (Some(problem.to_string()), Err(problem)),
        };
        let deaf = self.deaf.swap(problem.is_some(), Ordering::Relaxed);
        match &problem {
            Some(problem) if !deaf => {
                tracing::warn!(
                    problem,
                    "the collector takes no spans: they are lost until it does"
                );
            }
            None if deaf => tracing::info!("the collector takes spans again"),
            _ => {}
        }
        let (parts, mut body) = answer?.into_parts();
        Ok(Response::from_parts(parts, body.read_to_vec()?.into()))
    }
}

"""Traces and metrics for those who collect them: OpenTelemetry, set up by its own environment variables. Without them nothing is loaded or sent.

A trace is one VM's run, with a span for each stage. Its names follow OpenTelemetry's conventions; no secret, no guest's text but its name, and no
traceback is in it. Source: the OpenTelemetry specification, "Environment Variable Specification".
"""

import functools
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from migrate.errors import MigrateError, NotMigratable, Stopped, UsageError
from migrate.run import Event, Note, Run, StageBegan, StageDone
from migrate.text import shown

if TYPE_CHECKING:
    from opentelemetry.metrics import Counter, Histogram
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES, METRICS = "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"
SENT_MS = 5000


class Unobserved:
    """What is told to nobody."""

    def sent(self, count: int) -> None:
        """So many bytes were sent."""


class _Observed(Unobserved):
    """The spans of one VM's run. Safe from several threads."""

    def __init__(self, telemetry: "_Telemetry", root: "Span", labels: Mapping[str, str]) -> None:
        self._telemetry = telemetry
        self._root = root
        self._labels = labels
        self._stages: dict[str, Span] = {}
        self._lock = threading.Lock()

    def sent(self, count: int) -> None:
        self._telemetry.sent.add(count)

    def take(self, event: Event) -> None:
        from opentelemetry import trace

        match event:
            case StageBegan(stage=name):
                context = trace.set_span_in_context(self._root)
                with self._lock:
                    self._stages[name] = self._telemetry.tracer.start_span(name, context, attributes={**self._labels})
            case StageDone(stage=name, seconds=seconds):
                with self._lock:
                    span = self._stages.pop(name, None)
                if span is not None:
                    span.end()
                self._telemetry.stage.record(seconds, {"stage": name})
            case Note(text=text, level=level):
                self._root.add_event("note", {"text": shown(text), "level": level})

    def end(self, error: MigrateError | None) -> None:
        from opentelemetry.trace import Status, StatusCode

        with self._lock:
            open_stages = list(self._stages.values())
            self._stages.clear()
        for span in (*open_stages, self._root):
            if error is not None and not isinstance(error, Stopped):
                span.set_status(Status(StatusCode.ERROR, shown(error.message)))
                span.set_attribute("error.type", type(error).__name__)
            span.end()
        self._telemetry.vms.add(1, {"result": _result(error)})


class _Telemetry:
    def __init__(self, tracer: "Tracer", sent: "Counter", stage: "Histogram", vms: "Counter") -> None:
        self.tracer = tracer
        self.sent = sent
        self.stage = stage
        self.vms = vms


@contextmanager
def observed(run: Run, name: str, **labels: str) -> Iterator[tuple[Run, Unobserved]]:
    """Yield the run to use in the block, whose stages are spans of one trace, and what is told of bytes that are sent.

    Raise UsageError where the environment asks for what is not installed or not known.
    """
    telemetry = _telemetry()
    if telemetry is None:
        yield run, Unobserved()
        return
    spans = _Observed(telemetry, telemetry.tracer.start_span(name, attributes=labels), labels)

    def told(event: Event) -> None:
        spans.take(event)
        run.tell(event)

    failed: MigrateError | None = None
    try:
        yield Run(run.work, told, run.stop), spans
    except MigrateError as error:
        failed = error
        raise
    finally:
        spans.end(failed)


def _result(error: MigrateError | None) -> str:
    match error:
        case None:
            return "done"
        case NotMigratable():
            return "refused"
        case Stopped():
            return "stopped"
    return "failed"


@functools.cache
def _telemetry() -> _Telemetry | None:
    """Return what the environment asks for; None where it asks for nothing. Asked once: exporters have threads of their own."""
    traces, metrics = _asked(TRACES, "TRACES"), _asked(METRICS, "METRICS")
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or (traces, metrics) == ("none", "none"):
        return None
    try:
        from opentelemetry.metrics import NoOpMeterProvider
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise UsageError(
            "the environment asks for OpenTelemetry, which is not installed",
            hint="pip install 'magalu-migrate[otel]', or unset the OTEL_* variables.",
        ) from error
    resource = Resource.create({"service.name": "magalu-migrate", "service.version": version("magalu-migrate")})
    tracers = TracerProvider(resource=resource)
    if (spans := _span_exporter(traces)) is not None:
        tracers.add_span_processor(BatchSpanProcessor(spans))
    measured = _metric_exporter(metrics)
    meters = (
        NoOpMeterProvider()
        if measured is None
        else MeterProvider([PeriodicExportingMetricReader(measured, export_timeout_millis=SENT_MS)], resource)
    )
    meter = meters.get_meter("magalu-migrate")
    return _Telemetry(
        tracers.get_tracer("magalu-migrate"),
        meter.create_counter("magalu_migrate.sent", "By", "Bytes of images that were sent to object storage"),
        meter.create_histogram("magalu_migrate.stage.duration", "s", "How long a stage of one VM took"),
        meter.create_counter("magalu_migrate.vms", "{vm}", "VMs that came to an end, by result"),
    )


def _asked(variable: str, signal: str) -> str:
    """Return what a signal goes to: "otlp", "console" or "none". An endpoint alone asks for otlp. Raise UsageError."""
    has_endpoint = os.environ.get(ENDPOINT) or os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    said = os.environ.get(variable, "otlp" if has_endpoint else "none")
    if said not in ("otlp", "console", "none"):
        raise UsageError(f"{variable}={shown(said)}: otlp, console and none are known")
    protocol = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if said == "otlp" and protocol not in (None, "http/protobuf"):
        raise UsageError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL={shown(protocol)}: only http/protobuf is spoken here",
            hint="Collectors listen for it on port 4318.",
        )
    return said


def _span_exporter(asked: str) -> "SpanExporter | None":
    match asked:
        case "otlp":
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            return OTLPSpanExporter()
        case "console":
            from opentelemetry.sdk.trace.export import ConsoleSpanExporter

            return ConsoleSpanExporter(out=open(2, "w", closefd=False))
    return None


def _metric_exporter(asked: str) -> "MetricExporter | None":
    match asked:
        case "otlp":
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

            return OTLPMetricExporter()
        case "console":
            from opentelemetry.sdk.metrics.export import ConsoleMetricExporter

            return ConsoleMetricExporter(out=open(2, "w", closefd=False))
    return None

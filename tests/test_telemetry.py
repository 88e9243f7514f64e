"""Traces and metrics as a collector receives them: OpenTelemetry over HTTP, asked for by the environment only."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

RUN = """
import sys, tempfile
from pathlib import Path
from migrate.errors import TargetError
from migrate.run import Note, Run
from migrate.telemetry import observed

with tempfile.TemporaryDirectory() as folder:
    outer = Run(Path(folder))
    with observed(outer, "migrate vm", **{"vm.name": "erp01-1a2b"}) as (run, telemetry):
        with run.stage("transfer"):
            telemetry.sent(300)
            telemetry.sent(42)
        run.tell(Note("part 18 sent"))
    try:
        with observed(outer, "migrate vm", **{"vm.name": "web11-3c4d"}) as (run, telemetry), run.stage("import"):
            raise TargetError("409 name exists")
    except TargetError:
        pass
print("opentelemetry" in sys.modules)
"""


class Collector(ThreadingHTTPServer):
    """Takes what is exported; `asked` are the paths, `spans` and `metrics` what came by name."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.spans: list[Any] = []
        self.metrics: dict[str, Any] = {}


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(self.path)
        if self.path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    self.server.spans += scope.spans
        else:
            for measured in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for part in measured.scope_metrics:
                    self.server.metrics |= {metric.name: metric for metric in part.metrics}
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def collector() -> Iterator[Collector]:
    with Collector() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def ran(**env: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run([sys.executable, "-c", RUN], env=clean | env, capture_output=True, text=True, check=False)


def test_a_vm_is_a_trace_its_stages_are_spans_and_its_bytes_are_counted() -> None:
    with collector() as server:
        done = ran(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{server.server_port}")
    assert (done.returncode, done.stderr) == (0, "")
    spans = {(span.name, span.attributes[0].value.string_value): span for span in server.spans}
    whole, transfer = spans["migrate vm", "erp01-1a2b"], spans["transfer", "erp01-1a2b"]
    assert transfer.parent_span_id == whole.span_id
    assert transfer.trace_id == whole.trace_id != spans["migrate vm", "web11-3c4d"].trace_id
    assert [event.name for event in whole.events] == ["note"]
    sent = server.metrics["magalu_migrate.sent"].sum.data_points[0]
    assert sent.as_int == 342
    results = {
        point.attributes[0].value.string_value: point.as_int
        for point in server.metrics["magalu_migrate.vms"].sum.data_points
    }
    assert results == {"done": 1, "failed": 1}


def test_a_failure_is_told_in_its_words_without_a_traceback() -> None:
    with collector() as server:
        ran(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{server.server_port}")
    failed = [span for span in server.spans if span.status.message]
    assert {span.name for span in failed} == {"migrate vm", "import"}
    assert {span.status.message for span in failed} == {"409 name exists"}
    assert not any("Traceback" in str(span) for span in server.spans)


def test_without_the_environments_word_nothing_is_loaded_or_sent() -> None:
    with collector() as server:
        done = ran()
        disabled = ran(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{server.server_port}", OTEL_SDK_DISABLED="true")
    assert done.stdout.strip() == disabled.stdout.strip() == "False"
    assert server.asked == []


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "jaeger"}, "OTEL_TRACES_EXPORTER=jaeger"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "only http/protobuf"),
    ],
)
def test_what_is_not_known_is_refused(env: dict[str, str], said: str) -> None:
    assert said in ran(**env).stderr

"""The JSON Schema of a preview, made of the models. schema.json beside this file is it, as published."""

from migrate.preview.values import PreviewValue


def schema() -> dict[str, object]:
    """Return the schema (JSON Schema 2020-12)."""
    made: dict[str, object] = PreviewValue.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}

"""What is generated is committed, and holds together."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from openapi_spec_validator import validate

from shared.events.registry import EVENTS, SERVICES, TOPICS, topic_of
from tools.cli import generate_events, generate_openapi, generated


def test_event_documents_are_what_the_code_makes() -> None:
    swept = {generate_events.FOLDER: "*"}
    assert generated.differing(generate_events.files(), generated.ROOT, swept=swept) == []


def test_a_stale_or_missing_file_is_noticed(tmp_path: Path) -> None:
    files = {"a/one.json": "1", "a/two.json": "2"}
    assert generated.write(files, tmp_path, swept={"a": "*"}) == ["a/one.json", "a/two.json"]
    assert generated.differing(files, tmp_path, swept={"a": "*"}) == []
    (tmp_path / "a/old.json").write_text("x")
    (tmp_path / "a/two.json").unlink()
    (tmp_path / "a/one.json").write_text("changed")
    changed = ["a/old.json", "a/one.json", "a/two.json"]
    assert generated.differing(files, tmp_path, swept={"a": "*"}) == changed
    assert generated.write(files, tmp_path, swept={"a": "*"}) == changed
    assert generated.differing(files, tmp_path, swept={"a": "*"}) == []


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_event_schemas_are_json_schema(name: str) -> None:
    schema = json.loads(generate_events.files()[f"{generate_events.FOLDER}/{name}.schema.json"])
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"].endswith(name)


def _references(value: Any) -> set[str]:
    return set(re.findall(r"\$ref: '?([^'\s]+)'?", yaml.safe_dump(value)))


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    files = generate_events.files()
    document = yaml.safe_load(files["deploy/events/asyncapi.yaml"])
    assert document["asyncapi"] == "3.0.0"
    for reference in _references(document):
        if reference.startswith("./"):
            assert f"deploy/events/{reference[2:]}" in files
            continue
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def test_the_asyncapi_document_has_every_event_on_its_topic() -> None:
    channels = generate_events.asyncapi()["channels"]
    told = {
        (channel["address"], message)
        for channel in channels.values()
        for message in channel["messages"]
    }
    for name, model in EVENTS.items():
        writers = [s for s in SERVICES if model.TOPIC.format(service=s) in TOPICS]
        for writer in writers:
            topic = TOPICS[model.TOPIC.format(service=writer)]
            assert (topic.name, name.replace(".", "_")) in told
            assert topic_of(model, topic.owner) == topic.name


def test_each_topic_has_one_writer_and_everybody_reads() -> None:
    acls = generate_events.acls()
    for topic in TOPICS.values():
        writers = {
            row["principal"]
            for row in acls
            if row["operation"] == "write" and row["name"] == topic.name
        }
        assert writers == {f"User:{topic.owner}"}
    assert not [row for row in acls if row["operation"] == "write" and row["pattern"] != "literal"]


def test_the_openapi_document_is_valid_and_committed() -> None:
    files = generate_openapi.files()
    validate(json.loads(files[generate_openapi.FILE]))
    assert generated.differing(files, generated.ROOT, swept={}) == []

import json
from pathlib import Path

import pytest
from toy_encoders import save_whisper

from benchmarks import usefulness
from benchmarks.judges import REGRESSION
from evaluation.results import render_table
from evaluation.tables import ENHANCER, RECORDINGS, RERANKED_SHIFT


@pytest.fixture(scope="module")
def measured(run, tmp_path_factory):
    """Arguments of a quick measurement, and its records."""
    folder = tmp_path_factory.mktemp("useful")
    encoder = save_whisper(folder / "whisper")
    arguments = ["--runs", str(run), "--work", str(folder / "work"), "--encoder", str(encoder)]
    arguments += ["--output", str(folder / "usefulness.json"), "--train_limit", "24"]
    arguments += ["--num_inference_steps", "1", "--num_noises", "1"]
    usefulness.main(arguments)
    return arguments, json.loads((folder / "usefulness.json").read_text())


def test_who_learned_from_what_is_asked_about_real_people(measured):
    records = measured[1]
    assert {(r["system"], r["data"]) for r in records} == {
        (RECORDINGS, "original"),
        *((RERANKED_SHIFT, data) for data in ("converted", "converted_heard", "converted_added")),
        *((ENHANCER, data) for data in ("converted", "converted_heard", "converted_added")),
    }
    for record in records:
        assert (record["task"], record["judge"]) == ("usefulness", REGRESSION)
        low, high = record["metrics"]["UA_ci95"]
        assert low <= record["metrics"]["UA"] <= high
    table = render_table("usefulness", records)
    assert table.count("\n") == 1 + len(records)
    assert "| Toy emotions | recordings | original |" in table


def test_what_was_measured_otherwise_is_not_gone_on_with(measured):
    arguments, records = measured
    with pytest.raises(ValueError, match=r"was measured with other \['train_limit'\]"):
        usefulness.main([*arguments, "--train_limit", "12"])
    usefulness.main([*arguments, "--collect_only"])
    output = Path(arguments[arguments.index("--output") + 1])
    assert json.loads(output.read_text()) == records

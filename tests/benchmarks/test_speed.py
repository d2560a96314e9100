"""Size and latency of a classifier, the pipeline beside its ONNX files."""

from toy_enhancer import get_dummy_components

from benchmarks.speed import main
from evaluation import read_records
from evaluation.results import render_table
from pipelines import EmotionEnhancementPipeline


def test_an_enhancer_is_timed_by_both_methods(model_folder, tmp_path):
    pipe = EmotionEnhancementPipeline(**get_dummy_components())
    pipe.save_pretrained(tmp_path / "enhancer")
    arguments = ["--model", str(model_folder), "--corpus", "toy_emotions"]
    arguments += ["--limit", "1", "--rounds", "1", "--output", str(tmp_path / "speed.json")]
    main([*arguments, "--enhancer", str(tmp_path / "enhancer")])
    records = read_records(tmp_path)
    (metrics,) = [r["metrics"] for r in records if r["system"] == "emotion-enhancer"]
    assert metrics["diffusion_seconds_a_second"] > metrics["shift_seconds_a_second"] > 0
    table = render_table("enhancer_speed", records)
    assert "| emotion-enhancer | shift |" in table
    assert "emotion-resnet" not in table


def test_record_compares_the_pipeline_with_files_that_say_the_same(model_folder, tmp_path):
    arguments = ["--model", str(model_folder), "--corpus", "toy_emotions"]
    main([*arguments, "--limit", "2", "--rounds", "1", "--output", str(tmp_path / "speed.json")])
    (record,) = read_records(tmp_path)
    assert (record["task"], record["system"]) == ("speed", "emotion-resnet")
    metrics = record["metrics"]
    assert (metrics["recordings"], metrics["threads"]) == (2, 1)
    assert metrics["onnx_largest_difference"] < 1e-4
    assert metrics["onnx_half_largest_difference"] < 1e-2
    for name in ("pipeline", "onnx", "onnx_half"):
        assert metrics[f"{name}_ms"] > 0
        assert metrics[f"{name}_MB"] > 0

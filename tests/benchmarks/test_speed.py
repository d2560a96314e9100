"""Size and latency of a classifier, the pipeline beside its ONNX files."""

from benchmarks.speed import main
from evaluation import read_records


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

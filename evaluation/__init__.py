"""Measuring: recognition scores, results files and their tables, plots and model cards.

Names are imported on first use, so that scores do not wait for matplotlib.
"""

from importlib import import_module
from typing import Any

_MODULE_OF = {
    "load_metric": "metrics",
    "recognition_metrics": "metrics",
    "Record": "results",
    "enhancement_table": "tables",
    "make_record": "results",
    "markdown_table": "tables",
    "paper_records": "tables",
    "provenance": "results",
    "read_records": "results",
    "update_between_markers": "results",
    "write_records": "results",
    "Prediction": "predictions",
    "read_predictions": "predictions",
    "write_predictions": "predictions",
    "calibration_table": "tables",
    "robustness_table": "tables",
    "parse_condition": "conditions",
    "plot_calibration": "comparison_plots",
    "plot_robustness": "comparison_plots",
    "plot_attention": "plots",
    "plot_confusion": "plots",
    "plot_dataset_distribution": "plots",
    "plot_history": "plots",
    "plot_mel_gallery": "plots",
    "plot_per_emotion": "plots",
    "plot_reliability": "plots",
    "plot_enhancement": "enhancement_plots",
    "plot_losses": "enhancement_plots",
    "plot_pitch": "enhancement_plots",
    "plot_trade_off": "enhancement_plots",
    "enhancer_card": "cards",
    "model_card": "cards",
}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)

"""What the configurations of all emotion classifiers share: labels, temperature, saving."""

from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

EMOTIONS = ("neutral", "happiness", "sadness", "anger", "fear", "disgust")


class EmotionClassifierConfig(PretrainedConfig):
    """Base of the configurations of emotion classifiers.

    Args:
        score_temperature: Logits are divided by it in evaluation, so that scores are probabilities.
        kwargs: `id2label` or `label2id` (either gives the other) and whatever `PretrainedConfig`
            takes. Six emotions by default.

    Raises:
        ValueError: A temperature that is not positive.
    """

    def __init__(self, score_temperature: float = 1.0, **kwargs: Any) -> None:
        if score_temperature <= 0:
            raise ValueError(f"Bad score_temperature {score_temperature}, expected more than 0")
        self.score_temperature = score_temperature
        if kwargs.keys().isdisjoint({"id2label", "label2id", "num_labels"}):
            kwargs["id2label"] = dict(enumerate(EMOTIONS))
        if "id2label" in kwargs:
            kwargs.setdefault("label2id", {name: int(i) for i, name in kwargs["id2label"].items()})
        elif "label2id" in kwargs:
            kwargs["id2label"] = {i: name for name, i in kwargs["label2id"].items()}
        super().__init__(**kwargs)

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
        """Save as `PretrainedConfig` does, but name only pipelines whose code is in the folder.

        A pipeline saves its code first, and then the model. Who saves the model alone saves none,
        and `transformers.pipeline` would look for it in vain when the copy is loaded.
        """
        named = getattr(self, "custom_pipelines", None)
        if named is not None:
            self.custom_pipelines = {
                task: entry
                for task, entry in named.items()
                if Path(save_directory, entry["impl"].split(".")[0] + ".py").is_file()
            }
        try:
            super().save_pretrained(save_directory, *args, **kwargs)
        finally:
            if named is not None:
                self.custom_pipelines = named

import json

import pytest
import yaml
from toy_enhancer import get_dummy_components

from pipelines import EmotionEnhancementPipeline
from training.config import DiffusionConfig
from training.run import as_plain

TOY = {"toy_emotions": {"speakers": 8, "repetitions": 1}}


@pytest.fixture(scope="package")
def run(tmp_path_factory):
    """What `train_diffusion.py` leaves, with networks of random weights."""
    folder = tmp_path_factory.mktemp("runs") / "fold_0"
    components = get_dummy_components()
    components["feature_extractor"].set_statistics(-5.0, 2.0, corpus="toy_emotions")
    EmotionEnhancementPipeline(**components).save_pretrained(folder / "model")
    config = as_plain(DiffusionConfig(corpora=TOY))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    history = [{"stage": "denoiser", "validation_loss": 0.25}]
    (folder / "history.json").write_text(json.dumps(history))
    return folder

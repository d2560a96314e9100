"""Other people's pretrained models as judges of emotion: as they are, or a regression on them."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from datasets_scripts import EMOTIONS
from evaluation.label_maps import (
    CLASSIFICATION,
    EMBEDDINGS,
    KnownModel,
    find_model,
    read_label_maps,
)
from pipelines.audio_inputs import resample

from .baseline import Baseline
from .whisper_logistic_regression import (
    SHORTEST,
    build_regression,
    hidden_states,
    weights_digest,
)

MODULE: Final = "benchmarks.pretrained"
# Learned in pretraining, of no use afterwards: published checkpoints leave it out.
DISPENSABLE: Final = "masked_spec_embed"
# Of the regression: validation speakers of EmoDB get the same UA from 0.01 to 1, but below this
# probabilities that are much too cautious (log loss 0.84 at 0.003, 0.41 at 0.1).
INVERSE_PENALTY: Final = 0.1


class UnusableModelError(ValueError):
    """A model whose verdicts would mean nothing; the message says why."""


class AsItIs:
    """Where a baseline has its classifier: learns nothing, the features are probabilities."""

    classes_ = np.arange(len(EMOTIONS))

    def fit(self, features: np.ndarray, labels: np.ndarray) -> "AsItIs":
        """Nothing to learn."""
        return self

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """The features themselves, `(rows, emotions)`."""
        return features

    def predict(self, features: np.ndarray) -> np.ndarray:
        """The likeliest emotion's id of each row."""
        return features.argmax(axis=1)


class PretrainedJudge:
    """A model that scores emotions in waveforms; every recording is heard alone, without padding.

    A classifier is used as it is: the probabilities of labels that stand for one emotion are added,
    those of labels without counterpart are left out, and the rest is made to sum to 1. Of any other
    model the mean over time of the encoder's last hidden state is what a logistic regression learns
    from (`fit`).

    Args:
        name: What records call it.
        known: How it is used, and what its labels stand for.
        model: A classifier, or an encoder.
        extractor: Its front end.
    """

    # Columns of `predict_proba`; see `emotions` for those that it can name.
    classes = EMOTIONS

    def __init__(self, name: str, known: KnownModel, model: Any, extractor: Any) -> None:
        self.name = name
        self.known = known
        self.model = model.eval()
        self.extractor = extractor
        self.sampling_rate = known.sampling_rate or extractor.sampling_rate
        self.regression: Any = AsItIs() if known.use == CLASSIFICATION else None
        if known.use == CLASSIFICATION:
            targets = {i: known.labels[label] for i, label in model.config.id2label.items()}
            mapped = {int(i): EMOTIONS.index(e) for i, e in targets.items() if e is not None}
            self._labels, self._emotions = list(mapped), list(mapped.values())

    @classmethod
    def load(
        cls,
        name_or_path: str,
        label_map: KnownModel | Mapping[str, str | None] | None = None,
        *,
        revision: str | None = None,
        trust_remote_code: bool = False,
        device: str = "cpu",
    ) -> "PretrainedJudge":
        """Load a model, in single precision.

        Args:
            name_or_path: Hub id or folder of a speech model of transformers with its front end.
            label_map: One of the six emotions, or None, for each of its labels, or all that is
                known of the model. When not given, what `evaluation/label_maps.json` knows; a model
                that is not in there is used by its encoder's embeddings.
            revision: Branch, tag or commit on the Hub.
            trust_remote_code: Run the code that comes with the model, of that revision.
            device: Where it runs.

        Raises:
            UnusableModelError: Weights are missing from the checkpoint, so that they would be
                random, or the map does not fit the labels.
            ValueError: Remote code without a revision.
            OSError: There is no such model.
        """
        if trust_remote_code and revision is None:
            raise ValueError(
                "Bad revision None, expected the commit whose code is run with trust_remote_code"
            )
        known = _describe(name_or_path, label_map)
        path = os.path.expanduser(name_or_path)
        options = {"revision": revision, "trust_remote_code": trust_remote_code}
        load = _load_classifier if known.use == CLASSIFICATION else _load_encoder
        model = load(path, known, options)
        extractor = AutoFeatureExtractor.from_pretrained(path, **options)
        return cls(system_name(name_or_path), known, model.to(device), extractor)

    @property
    def emotions(self) -> tuple[str, ...]:
        """Those that it can name."""
        return self.known.emotions

    @torch.no_grad()
    def hear(self, wave: np.ndarray, rate: int) -> np.ndarray:
        """Probabilities `(6,)` of the emotions, or the embedding `(size,)`.

        Args:
            wave: Mono `(samples,)`, -1 to 1.
            rate: In Hz.

        Returns:
            float32; NaN for a recording of less than 25 ms.
        """
        samples = torch.from_numpy(np.asarray(wave, dtype=np.float32))
        sound = resample(samples, rate, self.sampling_rate).numpy()
        if len(sound) < SHORTEST:
            return np.full(len(EMOTIONS) if self.known.use == CLASSIFICATION else 1, np.nan)
        heard = self._judge(sound) if self.known.use == CLASSIFICATION else self._embed(sound)
        return heard.float().cpu().numpy()

    def _judge(self, sound: np.ndarray) -> torch.Tensor:
        logits = self.model(**self._inputs(sound)).logits[0]
        # Of the labels that count only: the same as leaving the others out afterwards, and finite.
        shares = logits[self._labels].softmax(dim=0)
        places = torch.tensor(self._emotions, device=shares.device)
        return shares.new_zeros(len(EMOTIONS)).index_add(0, places, shares)

    def _embed(self, sound: np.ndarray) -> torch.Tensor:
        if isinstance(self.model, WhisperEncoder):
            *_, last = hidden_states(self.extractor, self.model, sound)
            return self.model.layer_norm(last).mean(dim=1)[0]
        return self.model(**self._inputs(sound)).last_hidden_state.mean(dim=1)[0]

    def _inputs(self, sound: np.ndarray) -> Any:
        inputs = self.extractor(sound, sampling_rate=self.sampling_rate, return_tensors="pt")
        return inputs.to(self.model.device)

    def fit(
        self, waves: Sequence[np.ndarray], sampling_rate: int, labels: Sequence[str]
    ) -> "PretrainedJudge":
        """Train the regression on embeddings of recordings.

        Args:
            waves: Mono `(samples,)` each.
            sampling_rate: In Hz.
            labels: One of the six emotions each.

        Raises:
            ValueError: A classifier, which is not trained; a recording that is too short.
        """
        if self.known.use == CLASSIFICATION:
            raise ValueError(f"Bad judge '{self.name}' to train, expected one used by embeddings")
        ids = np.array([EMOTIONS.index(label) for label in labels])
        features = self._features(waves, sampling_rate)
        self.regression = build_regression(INVERSE_PENALTY).fit(features, ids)
        return self

    def predict_proba(self, waves: Sequence[np.ndarray], sampling_rate: int) -> np.ndarray:
        """Probability of each of `classes` for recordings.

        Args:
            waves: Mono `(samples,)` each.
            sampling_rate: In Hz.

        Returns:
            `(recordings, 6)` float32; rows sum to 1, emotions that it cannot name have 0.

        Raises:
            ValueError: No regression was trained, no recordings, or one that is too short.
        """
        if self.regression is None:
            raise ValueError(f"Bad judge '{self.name}' without a regression, expected `fit` before")
        said = self.regression.predict_proba(self._features(waves, sampling_rate))
        probabilities = np.zeros((len(waves), len(EMOTIONS)), dtype=np.float32)
        probabilities[:, self.regression.classes_] = said
        return probabilities

    def _features(self, waves: Sequence[np.ndarray], rate: int) -> np.ndarray:
        if len(waves) == 0:
            raise ValueError("Bad waves of length 0, expected at least one recording")
        features = [self.hear(wave, rate) for wave in waves]
        for index, (wave, row) in enumerate(zip(waves, features, strict=True)):
            if not np.isfinite(row).all():
                seconds = f"{len(wave) / rate:.3f} s"
                raise ValueError(f"Bad recording {index} of {seconds}, expected a longer one")
        return np.stack(features)

    def baseline(self) -> Baseline:
        """The same model, to be tested on the folds of corpora."""
        second = np.zeros(self.sampling_rate, dtype=np.float32)
        learn = partial(build_regression, INVERSE_PENALTY)
        labels = sorted(self.known.labels.items())
        return Baseline(
            system=self.name,
            module=MODULE,
            title=self.name,
            version=f"{weights_digest(self.model)} {self.known.use} {labels} {self.sampling_rate}",
            shape=(1, len(self.hear(second, self.sampling_rate))),
            compute=lambda wave, rate: self.hear(wave, rate)[None],
            build=AsItIs if self.known.use == CLASSIFICATION else learn,
            emotions=self.emotions,
            notes=self.notes,
        )

    def notes(self, corpus: str) -> dict[str, Any]:
        """How it is used, what trained it, and whether the corpus did: None where nobody knows."""
        trained_on = self.known.trained_on
        return {
            "use": self.known.use,
            "trained_on": None if trained_on is None else list(trained_on),
            "contaminated": self.known.knows(corpus),
        }


def system_name(name_or_path: str) -> str:
    """The Hub id, or the name of the folder."""
    path = Path(name_or_path).expanduser()
    return path.resolve().name if path.is_dir() else name_or_path


def _describe(
    name_or_path: str, label_map: KnownModel | Mapping[str, str | None] | None
) -> KnownModel:
    if isinstance(label_map, KnownModel):
        return label_map
    if label_map is not None:
        return KnownModel(name_or_path, CLASSIFICATION, label_map)
    known = find_model(name_or_path, read_label_maps().values())
    return known or KnownModel(name_or_path, EMBEDDINGS)


def _load_classifier(path: str, known: KnownModel, options: Mapping[str, Any]) -> Any:
    model, loading = AutoModelForAudioClassification.from_pretrained(
        path, output_loading_info=True, dtype=torch.float32, **options
    )
    _check_weights(path, loading["missing_keys"])
    own, mapped = set(model.config.id2label.values()), set(known.labels)
    if own != mapped:
        raise UnusableModelError(
            f"Bad label map of '{path}', expected its labels {sorted(own)}: "
            f"not in the map {sorted(own - mapped)}, not in the model {sorted(mapped - own)}"
        )
    return model


def _load_encoder(path: str, known: KnownModel, options: Mapping[str, Any]) -> Any:
    model, loading = AutoModel.from_pretrained(
        path, output_loading_info=True, dtype=torch.float32, **options
    )
    if not model.config.is_encoder_decoder:
        _check_weights(path, loading["missing_keys"])
        return model
    _check_weights(path, [key for key in loading["missing_keys"] if key.startswith("encoder.")])
    return model.get_encoder()


def _check_weights(path: str, missing_keys: Sequence[str]) -> None:
    missing = sorted(key for key in missing_keys if not key.endswith(DISPENSABLE))
    if missing:
        raise UnusableModelError(
            f"Bad checkpoint '{path}', expected all weights, missing {missing}: they would be "
            "random, and so would what the model says"
        )

from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml

from training.config import (
    AugmentationConfig,
    ClassifierConfig,
    DiffusionConfig,
    StageConfig,
    load_config,
)
from training.ranges import check_ranges

CONFIGS = Path(__file__).parents[2] / "configs"
BASE = {
    "corpora": {"emodb": None, "ravdess": None},
    "batch_size": 8,
    "model": {"depths": [1, 1], "dropout": 0.1},
    "stages": [{"name": "first", "epochs": 2}, {"name": "second", "augmentation": {"level": 3}}],
}


@pytest.fixture
def write(tmp_path):
    def write_yaml(content, name="base.yaml"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    return write_yaml


@pytest.fixture
def base(write):
    return write(BASE)


def test_base_alone(base):
    config = load_config(ClassifierConfig, [base])
    assert config.batch_size == 8
    assert config.stages[0] == StageConfig(name="first", epochs=2)
    assert config.stages[1].augmentation == AugmentationConfig(level=3.0)
    assert config.tracker is None


def test_later_files_and_overrides_win_key_by_key(base, write):
    delta = write({"model": {"dropout": 0.2}, "seed": 3, "batch_size": 16}, "delta.yaml")
    config = load_config(ClassifierConfig, [base, delta], ["batch_size=4", "model.width=7"])
    assert config.batch_size == 4
    assert config.seed == 3
    assert config.model == {"depths": [1, 1], "dropout": 0.2, "width": 7}
    assert [stage.name for stage in config.stages] == ["first", "second"]


def test_delta_replaces_corpora_and_stages(base, write):
    delta = write({"corpora": {"toy_emotions": {}}, "stages": [{"epochs": 5}]}, "delta.yaml")
    config = load_config(ClassifierConfig, [base, delta])
    assert config.corpora == {"toy_emotions": {}}
    assert config.stages == [StageConfig(epochs=5)]


def test_override_changes_one_setting_of_one_stage(base):
    overrides = ["stages.1.augmentation.tempo=0.2", "corpora.emodb={data_dir: /data, url: x}"]
    config = load_config(ClassifierConfig, [base], overrides)
    assert config.stages[0] == StageConfig(name="first", epochs=2)
    assert config.stages[1].augmentation == AugmentationConfig(level=3.0, tempo=0.2)
    assert config.corpora == {"emodb": {"data_dir": "/data", "url": "x"}, "ravdess": None}


def test_values_are_read_as_yaml(base):
    overrides = [
        "stages.0.learning_rate=1e-3",
        "tracker=null",
        "push_to_hub=true",
        "stages.0.augmentation.noise_snr=[5, 10]",
        "weight_decay=1",
        "mixed_precision=no",
        "output_dir=a=b",
    ]
    config = load_config(ClassifierConfig, [base], overrides)
    assert config.stages[0].learning_rate == 1e-3
    assert config.push_to_hub is True
    assert config.stages[0].augmentation.noise_snr == (5.0, 10.0)
    assert isinstance(config.weight_decay, float)
    assert config.mixed_precision == "no"
    assert config.output_dir == "a=b"


def test_given_files_are_not_changed_by_overrides(base):
    before = base.read_text()
    load_config(ClassifierConfig, [base], ["model.depths=[2, 2]", "stages.0.epochs=9"])
    assert base.read_text() == before
    assert load_config(ClassifierConfig, [base]).stages[0].epochs == 2


def test_shipped_settings_load():
    base = load_config(ClassifierConfig, [CONFIGS / "classifier.yaml"])
    assert set(base.corpora) == {"emodb", "ravdess"}
    toy = load_config(ClassifierConfig, [CONFIGS / "classifier.yaml", CONFIGS / "toy.yaml"])
    assert set(toy.corpora) == {"toy_emotions"}
    assert toy.balance == base.balance


def test_shipped_settings_of_the_enhancer_load():
    base = load_config(DiffusionConfig, [CONFIGS / "diffusion.yaml"])
    assert set(base.corpora) == {"emodb", "ravdess"}
    check_ranges(base)
    names = ("diffusion.yaml", "toy_diffusion.yaml")
    toy = load_config(DiffusionConfig, [CONFIGS / name for name in names])
    assert set(toy.corpora) == {"toy_emotions"}
    assert toy.scheduler == base.scheduler
    check_ranges(toy)


SHARES = [
    field.name
    for field in fields(DiffusionConfig)
    if field.name.endswith(("_dropout", "_probability"))
]


@pytest.mark.parametrize("name", SHARES)
def test_every_share_of_the_enhancer_is_one(name):
    config = DiffusionConfig(corpora={"toy_emotions": {}})
    for value in (0.0, 1.0):
        check_ranges(replace(config, **{name: value}))
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=rf"Bad {name} {value}, expected 0 to 1"):
            check_ranges(replace(config, **{name: value}))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("batchsize=3", r"Unknown setting batchsize, expected \[.*'batch_size'"),
        ("stages.1.augmentation.reverb=1", r"Unknown setting stages\.1\.augmentation\.reverb"),
        ("batch_size=many", "Bad setting batch_size='many', expected int"),
        ("batch_size=1.5", r"Bad setting batch_size=1\.5, expected int"),
        ("batch_size=true", "Bad setting batch_size=True, expected int"),
        ("push_to_hub=1", "Bad setting push_to_hub=1, expected bool"),
        ("balance=half", "Bad setting balance='half', expected float"),
        ("tracker=1", "Bad setting tracker=1, expected str"),
        ("model=null", "Bad setting model=None, expected dict"),
        ("stages=all", "Bad setting stages='all', expected list"),
        ("stages.0=3", r"Bad setting stages\.0=3, expected StageConfig"),
        ("stages.0.augmentation.noise_snr=[1]", r"noise_snr=\[1\], expected tuple"),
        ("stages.2.epochs=1", r"Bad override 'stages\.2\.epochs=1', expected an index below 2"),
        ("stages.first.epochs=1", "expected an index below 2"),
        ("batch_size.x=1", "'x' lies below a plain value"),
        ("batch_size", "Bad override 'batch_size', expected key=value"),
        ("model=[1", r"Bad override 'model=\[1'"),
    ],
)
def test_bad_override_is_named(base, override, message):
    with pytest.raises(ValueError, match=message):
        load_config(ClassifierConfig, [base], [override])


def test_settings_without_corpora_are_incomplete(write):
    with pytest.raises(ValueError, match=r"incomplete.*corpora"):
        load_config(ClassifierConfig, [write({"seed": 1})])


def test_unreadable_files_are_named(write, tmp_path):
    with pytest.raises(ValueError, match=r"Cannot read the settings '.*absent\.yaml'"):
        load_config(ClassifierConfig, [tmp_path / "absent.yaml"])
    with pytest.raises(ValueError, match=r"Cannot read the settings '.*broken\.yaml'"):
        load_config(ClassifierConfig, [write("a: [1", "broken.yaml")])
    with pytest.raises(ValueError, match=r"list\.yaml', expected a mapping at the top"):
        load_config(ClassifierConfig, [write("- 1", "list.yaml")])

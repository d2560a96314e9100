# `make demo` and `make test` set up .venv themselves and use it again afterwards.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := benchmarks datasets_scripts evaluation modeling pipelines pretrained/__init__.py space \
	speech_emotion training app.py train_classifier.py train_diffusion.py enhance_dataset.py
ENHANCER := outputs/toy_enhancer
# Recordings of yours for `make demo`.
RECORDINGS ?=

.PHONY: demo demo-train test quality style clean

demo: .venv/.demo
	$(BIN)/python -m evaluation.demo $(RECORDINGS)

demo-train: .venv/.demo
	$(BIN)/python train_classifier.py --config configs/classifier.yaml --config configs/toy.yaml --overwrite
	$(BIN)/python train_diffusion.py --config configs/diffusion.yaml --config configs/toy_diffusion.yaml --overwrite
	rm -rf $(ENHANCER)/judged
	$(BIN)/python -m benchmarks.enhancement --runs $(ENHANCER) --work $(ENHANCER)/judged \
		--output $(ENHANCER)/enhancement.json --plots $(ENHANCER)/plots --num_inference_steps 10 \
		--judges opensmile-svm emotion-tdnn --judge_seeds 0 --num_noises 1 --limit 24
	$(BIN)/python -m evaluation.report outputs/toy --enhancer $(ENHANCER)

test: .venv/.test
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

quality: .venv/.quality
	$(BIN)/ruff check $(SOURCES) tests
	$(BIN)/ruff format --check $(SOURCES) tests
	$(BIN)/mypy $(SOURCES)
	@if $(BIN)/python -c "from urllib.request import urlopen; urlopen('https://pypi.org/pypi/pip/json', timeout=9)" 2> /dev/null; \
	then $(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --progress-spinner off; \
	else echo "Nothing was audited: the database of vulnerabilities on pypi.org cannot be reached."; fi

style: .venv/.quality
	$(BIN)/ruff check --fix $(SOURCES) tests
	$(BIN)/ruff format $(SOURCES) tests

clean:
	rm -rf .venv outputs build *.egg-info

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.demo: EXTRAS :=
.venv/.test: EXTRAS := [test,baselines]
.venv/.quality: EXTRAS := [test,baselines,quality]
.venv/.demo .venv/.test .venv/.quality: setup.cfg constraints.txt | .venv/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable ".$(EXTRAS)"
	touch $@

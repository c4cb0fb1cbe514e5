# Two commands do all the set-up: `make run` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export GX_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: run test test-slow lint format docs pipeline-local ui bench data-push data-pull clean

run: .venv/run  ## the whole graph on the embedded default, then the comparison
	dvc repro
	segops register --missing
	segops leaderboard

test: .venv/test  ## the fast tests, with coverage
	pytest -n $(or $(WORKERS),2) --dist loadfile --cov --cov-report=term

test-slow: .venv/test  ## tests that take minutes or need ../shared/data
	pytest -m "slow and not gpu and not docker"

lint: .venv/test  ## style, types, import arrows, generated files
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	python -m segops.params_table --check
	python -m segops.models_table --check
	python -m components.readmes --check
	python -m pipelines compile --check

format: .venv/test
	ruff check --fix .
	ruff format .

docs: .venv/test  ## write what is generated: the README's table, the models' page, the components' READMEs, the compiled pipeline
	python -m segops.params_table
	python -m segops.models_table
	python -m components.readmes
	python -m pipelines compile

pipeline-local: .venv/test  ## the graph by Kubeflow's local runner
	python -m pipelines run-local

ui: .venv/run  ## MLflow's UI on the project's own store: make ui PORT=5000
	segops ui --port $(or $(PORT),5000)

bench: .venv/test  ## ratios between variants, measured in one run
	python benchmarks/train_step.py
	python benchmarks/prepare_memory.py
	python -m benchmarks.s3_ingest

data-push data-pull: .venv/run  ## raw archives and outputs to and from SEGOPS_DVC_REMOTE=s3://bucket/prefix
	@test -n "$(SEGOPS_DVC_REMOTE)" || { echo "set SEGOPS_DVC_REMOTE, such as s3://bucket/prefix, and the AWS variables" >&2; exit 1; }
	dvc remote add --quiet --local --force segops "$(SEGOPS_DVC_REMOTE)"
	dvc $(@:data-%=%) --remote segops

clean:  ## remove outputs, checkpoints and tool caches; keeps .venv, DVC's cache and MLflow's store
	rm -rf data models reports .segops .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* .import_linter_cache

# The stamp files are made anew when the project's dependencies change; offline they cost nothing.
.venv/run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[train,local]"
	touch $@

.venv/test: .venv/run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[train,local,kubeflow,test]"
	touch $@

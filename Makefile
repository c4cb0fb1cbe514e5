# Two commands do all the set-up: `make run` and `make test`.
PYTHON ?= python3
COMPOSE := docker compose --project-directory infra/compose
BIN := .venv/bin
RUN_EXTRAS := train,local
TEST_EXTRAS := $(RUN_EXTRAS),volumes,kubeflow,test
SLOW_EXTRAS := export,servers,weights
comma := ,
LOCKED_EXTRAS := $(subst $(comma), ,$(TEST_EXTRAS),$(SLOW_EXTRAS),registry,postgresql)
# What looks after the dependencies, in an environment of its own.
TOOLS := pip==26.3 uv==0.13.9 pip-audit==2.10.1 cyclonedx-bom==7.5.0
# Files in the order that tests/conftest.py gives them, the longest first.
PYTEST_PARALLEL := pytest -n $(or $(WORKERS),2) --dist loadfile --no-loadscope-reorder
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export GX_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true

# Bytecode is written at a module's first import; pip would compile all modules in one process, and slowly.
unexport PYTHONDONTWRITEBYTECODE

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
ifdef LOCKED  # files alone whose hashes are in requirements.lock; torch is PyPI's
define install
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python infra/docker/requirements.py setuptools > .venv/build.txt
	$(BIN)/python infra/docker/requirements.py $(foreach extra,$(subst $(comma), ,$(1)),--extra $(extra)) > .venv/locked.txt
	$(PIP_INSTALL) --require-hashes --no-deps -r .venv/build.txt
	$(PIP_INSTALL) --require-hashes --no-deps --no-build-isolation -r .venv/locked.txt
	$(PIP_INSTALL) --no-deps --no-build-isolation -e .
endef
else
define install
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP_INSTALL) -c constraints.txt -e ".[$(1)]"
endef
endif

.PHONY: run test coverage test-slow test-bf16 mutants lint lint-types lint-style lint-generated lock audit sbom licences format docs docs-site pipeline-local pipeline-submit ui up down backup restore images image-code bench gpu-check chaos \
	data-push data-pull clean kubernetes-secrets kubernetes-render kubernetes-schemas kubernetes-apply policy-scan

run: .venv/run  ## the whole graph on the embedded default, then the comparison
	segops warm sh -ec "dvc repro; segops register --missing; segops leaderboard"

test: .venv/test  ## the fast tests
	$(PYTEST_PARALLEL)

coverage: .venv/test  ## the fast tests, and what they don't reach
	$(PYTEST_PARALLEL) --cov --cov-report=term

test-slow: .venv/export  ## tests that take minutes, need a server's program or real data
	pytest -m "slow and not gpu and not docker"

# Tests of whatever trains, searches, predicts or scores, as they run where bf16 is native and where it isn't.
TRAINS := segops\.(training|tuning|inference|export)|stages\.(train|tune|predict|evaluate|batch|noise|drift)|test_train
test-bf16: .venv/test  ## tests of training and inference, the processor's bf16 faked off and on, and no question for it allowed
	for answer in absent native refused; do \
	  SEGOPS_TEST_BF16=$$answer $(PYTEST_PARALLEL) $$(grep -rlE "$(TRAINS)" tests --include="test_*.py") || exit 1; done

lint: .venv/test  ## style, types, import arrows, generated files
	$(MAKE) --no-print-directory --jobs 2 --output-sync lint-types lint-style lint-generated

lint-types:
	mypy

lint-style:
	ruff check .
	ruff format --check .
	lint-imports
	python -m tools.house

lint-generated:
	python -m tools.params_table --check
	python -m tools.params_schema --check
	python -m tools.models_table --check
	python -m tools.plan_page --check
	python -m tools.cli_page --check
	python -m components.readmes --check
	python -m tools.licences --check
	python -m pipelines compile --check

# All platforms and Pythons from 3.11 on; constraints.txt says which versions, and hashes are those of PyPI's files.
COMPILE = .venv-tools/bin/uv pip compile --no-config --default-index https://pypi.org/simple --universal --python-version 3.11 \
	--generate-hashes --custom-compile-command "make lock" --quiet
lock: .venv-tools/installed  ## requirements.lock and requirements-docs.lock, after pyproject.toml or constraints.txt
	$(COMPILE) pyproject.toml $(foreach extra,$(LOCKED_EXTRAS),--extra $(extra)) -c constraints.txt -o requirements.lock
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])' \
	  | $(COMPILE) - -o requirements-docs.lock

# diskcache unpickles what is in its folder, and has no release without: dvc's cache is kept where nobody else writes.
KNOWN := --ignore-vuln CVE-2025-69872
# --strict: what can't be asked about is a failure.
audit: .venv-tools/installed  ## known vulnerabilities of what is locked
	.venv-tools/bin/pip-audit --strict --require-hashes --disable-pip $(KNOWN) -r requirements.lock

# pip's reports hold metadata; Windows' own packages are asked for by name.
REPORT = $(abspath .venv-tools/bin/python) -m pip install --quiet --dry-run --ignore-installed --no-deps --report
licences: .venv-tools/installed  ## docs/reference/licences.md, after make lock
	sed -nE 's/^([a-z0-9.-]+==[^ ;]+)( ; .*| \\)$$/\1/p' requirements.lock > .venv-tools/all.txt
	grep -E '^(pywin32|tzdata|waitress)==' .venv-tools/all.txt > .venv-tools/windows.txt
	grep -vE '^(pywin32|tzdata|waitress)==' .venv-tools/all.txt > .venv-tools/linux.txt
	$(REPORT) .venv-tools/linux.json -r .venv-tools/linux.txt
	$(REPORT) .venv-tools/windows.json -r .venv-tools/windows.txt \
	  --platform win_amd64 --only-binary :all: --target .venv-tools/none
	python -m tools.licences .venv-tools/linux.json .venv-tools/windows.json

sbom: .venv-tools/installed  ## what each image holds of Python's packages, as CycloneDX, into sbom/
	mkdir -p sbom
	for image in data-python train-python mlflow serve; do \
	  $(PYTHON) infra/docker/requirements.py --image $$image \
	    | .venv-tools/bin/cyclonedx-py requirements --output-reproducible --output-file sbom/$$image.cdx.json - || exit 1; done

mutants: .venv/test  ## change the code that decides, place by place: does a test fail?
	python -m tools.mutants --workers $(or $(WORKERS),2) --sample $(or $(SAMPLE),170)

format: .venv/test
	ruff check --fix .
	ruff format .

docs: .venv/test  ## write what is generated: the pages of params, models and commands, the schema of params.yaml, the components' READMEs, the compiled pipeline
	python -m tools.params_table
	python -m tools.params_schema
	python -m tools.models_table
	python -m tools.plan_page
	python -m tools.cli_page
	python -m components.readmes
	python -m pipelines compile
	if command -v kubectl > /dev/null; then $(MAKE) --no-print-directory kubernetes-render; fi

docs-site: .venv-docs/bin/mkdocs  ## docs/ as a site in site/, with no broken link; nothing is fetched while it is built
	.venv-docs/bin/mkdocs build --strict

pipeline-local: .venv/test  ## the graph by Kubeflow's local runner
	python -m pipelines run-local

pipeline-submit: .venv/test  ## the graph on a cluster, followed to its end: make pipeline-submit HOST=https://...
	@test -n "$(HOST)" || { echo "set HOST, the URL of the pipelines' API" >&2; exit 1; }
	python -m pipelines submit --host "$(HOST)" --wait

ui: .venv/run  ## MLflow's UI on the project's own store: make ui PORT=5000
	segops ui --port $(or $(PORT),5000)

bench: .venv/test  ## ratios between variants, measured in one run
	python -m benchmarks

chaos: .venv/test  ## kills, full disks, pairs at once, broken servers and bad inputs: what becomes of each; SHARE=0.1 for a tenth
	python -m benchmarks.chaos --share $(or $(SHARE),1)

gpu-check: .venv/test  ## what a first run on a GPU must show, in ten minutes; a line where there is no GPU
	python -m benchmarks.gpu_check

# `change-me` becomes a random text; an .env that is there stays as it is.
infra/compose/.env:
	@umask 077; while read -r line; do case "$$line" in \
	  *=change-me) echo "$${line%change-me}$$($(PYTHON) -c 'import secrets; print(secrets.token_hex(24))')";; \
	  *=change-me-to-32-bytes) echo "$${line%change-me-to-32-bytes}$$($(PYTHON) -c \
	    'import base64, secrets; print(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())')";; \
	  *) echo "$$line";; esac; done < $@.example > $@.new
	@mv $@.new $@

up: infra/compose/.env  ## a team's MLflow, PostgreSQL and S3 in containers on this machine
	$(COMPOSE) up --detach --build --wait
	@echo "export MLFLOW_TRACKING_URI=http://127.0.0.1:$$(sed -n 's/^MLFLOW_PORT=//p' infra/compose/.env)"
	@echo "export MLFLOW_TRACKING_USERNAME=pipeline  # or promoter; the passwords stand in infra/compose/.env"
	@echo "export MLFLOW_TRACKING_PASSWORD=.."

down:  ## end them; their data stays in volumes
	$(COMPOSE) down

# Of `make up`'s servers; PLAIN=1: of those that PG.. and AWS_.. name, with this machine's programs of PostgreSQL.
FOLDER ?= infra/compose/backup
export DATABASES ?= mlflow_auth mlflow
export BUCKETS ?= mlflow
SCRIPTS := $(if $(PLAIN),infra/kubernetes/base/backup,/scripts)
PLACE := $(if $(PLAIN),$(FOLDER),/backup)
AS_SELF = $(if $(PLAIN),,$(COMPOSE) run --rm --no-deps --user "$$(id -u):$$(id -g)" --volume "$(abspath $(FOLDER)):/backup" $(1))
backup:  ## MLflow's databases and artifacts, into FOLDER
	@mkdir -p $(FOLDER) && rm -rf $(FOLDER)/.dumps
	$(call AS_SELF,postgresql-client) sh $(SCRIPTS)/dump.sh $(PLACE)/.dumps
	$(call AS_SELF,mlflow-client) python3 $(SCRIPTS)/backup.py copy $(PLACE)/.dumps $(PLACE)/segops
	@rm -rf $(FOLDER)/.dumps

restore:  ## the newest backup of FOLDER, or NAME, into servers that are empty
	@rm -rf $(FOLDER)/.dumps
	$(if $(PLAIN),,$(COMPOSE) stop mlflow watch && $(COMPOSE) up --detach --wait postgres s3)
	$(call AS_SELF,mlflow-client) python3 $(SCRIPTS)/backup.py restore $(PLACE)/.dumps $(PLACE)/segops $(NAME)
	$(call AS_SELF,postgresql-client) sh $(SCRIPTS)/restore.sh $(PLACE)/.dumps
	@rm -rf $(FOLDER)/.dumps

# TORCH_INDEX: another torch than PyPI's, such as https://download.pytorch.org/whl/cpu; `serve` takes that by itself.
BUILD = docker build --file infra/docker/Dockerfile $(if $(TORCH_INDEX),--build-arg TORCH_INDEX="$(TORCH_INDEX)") \
	--build-arg GIT_COMMIT=$$(git rev-parse HEAD) \
	--build-arg GIT_DIRTY=$$(test -z "$$(git status --porcelain)" && echo false || echo true)
images: image-code  ## the images of the pipeline's steps, of a team's MLflow, and the one that serves the champion
	$(BUILD) --target mlflow --tag segops/mlflow:0.1.0 .
	$(BUILD) --target serve --tag segops/serve:0.1.0 .

image-code:  ## those of the steps alone: after a change of the code one small layer each
	$(BUILD) --target data --tag segops/data-python:0.1.0 .
	$(BUILD) --target train --tag segops/train-python:0.1.0 .

data-push data-pull: .venv/run  ## raw archives and outputs to and from SEGOPS_DVC_REMOTE=s3://bucket/prefix
	@test -n "$(SEGOPS_DVC_REMOTE)" || { echo "set SEGOPS_DVC_REMOTE, such as s3://bucket/prefix, and the AWS variables" >&2; exit 1; }
	dvc remote add --quiet --local --force segops "$(SEGOPS_DVC_REMOTE)"
	dvc $(@:data-%=%) --remote segops

OVERLAY ?= local
kubernetes-secrets: .venv/run  ## random passwords for an overlay, once: make kubernetes-secrets OVERLAY=production
	python -m infra.kubernetes.manifests secrets $(OVERLAY)

kubernetes-render: .venv/run  ## write infra/kubernetes/rendered/, which tests and the policy scan read
	python -m infra.kubernetes.manifests render

kubernetes-schemas: .venv/test  ## the schemas of the manifests' kinds that tests hold them against, from kubernetes-validate
	$(PYTHON) -m venv .venv-schemas
	.venv-schemas/bin/pip install --quiet --disable-pip-version-check kubernetes-validate==1.37.0
	python -m tools.kubernetes_schemas "$$(.venv-schemas/bin/python -c \
	  'from importlib.resources import files; print(files("kubernetes_validate") / "kubernetes-json-schema")')"
	rm -rf .venv-schemas

# The overlay `production` is asked together with `serving`; ALONE=1 leaves that out, on a cluster without KServe.
kubernetes-apply: .venv/run  ## to kubectl's current cluster, once nothing in the overlay is left open
	python -m infra.kubernetes.manifests ready $(OVERLAY) $(if $(ALONE),--alone)
	kubectl apply -k infra/kubernetes/overlays/$(OVERLAY)

policy-scan: .venv-checkov/bin/checkov  ## checkov over manifests and Dockerfile; exceptions in infra/kubernetes/checkov.yaml
	.venv-checkov/bin/checkov --config-file infra/kubernetes/checkov.yaml

clean:  ## remove outputs, checkpoints and tool caches; keeps .venv, DVC's cache and MLflow's store
	rm -rf data models reports .segops .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* .import_linter_cache

# The stamp files are made anew when the project's dependencies change; offline they cost nothing.
.venv/run: pyproject.toml $(if $(LOCKED),requirements.lock,constraints.txt)
	$(call install,$(RUN_EXTRAS))
	$(BIN)/python -m compileall -q -j 0 -x '/tests?/' .venv/lib src > /dev/null 2>&1 || true
	touch $@

.venv/test: pyproject.toml $(if $(LOCKED),requirements.lock,constraints.txt)
	$(call install,$(TEST_EXTRAS))
	touch .venv/run $@

.venv/export: .venv/test  # what `segops export` needs beside ONNX, and the servers of the slow tests
	$(call install,$(SLOW_EXTRAS))
	touch $@

# In an environment of its own: the site needs nothing of the project.
.venv-docs/bin/mkdocs: requirements-docs.lock
	test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.lock
	touch $@

.venv-tools/installed: Makefile
	test -x .venv-tools/bin/python || $(PYTHON) -m venv .venv-tools
	.venv-tools/bin/python -m pip install --quiet --disable-pip-version-check $(TOOLS)
	touch $@

# In an environment of its own: its dependencies don't go together with the project's.
.venv-checkov/bin/checkov:
	$(PYTHON) -m venv .venv-checkov
	.venv-checkov/bin/pip install --quiet --disable-pip-version-check checkov==3.3.30

PYTHON ?= python3
VENV   := .venv
# First on the PATH, so that the tests find this project's uwsgi and not another one.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

# A path to a kubeconfig; without it everything happens on the simulated cluster, whatever KUBECONFIG the shell exports.
CLUSTER ?=
cluster = $(if $(CLUSTER),--cluster '$(CLUSTER)')
# Where `make run` serves, on 127.0.0.1.
PORT ?= 8080
# How long `make soak` takes, and the seed of a run to repeat.
MINUTES ?= 10
SEED ?=

.PHONY: run test bench soak screenshots requirements clean

run: $(VENV)/.runs
	python -m tests.run --port '$(PORT)' $(cluster)

test: $(VENV)/.tests
	ruff check .
	ruff format --check .
	zizmor --offline --persona pedantic --quiet .github
	hadolint Dockerfile
	shellcheck .github/actions/deploy/*.sh .ci/run
	python -m pytest -q --numprocesses 6 --dist loadfile

bench: $(VENV)/.runs
	python -m tests.bench $(cluster)

soak: $(VENV)/.runs
	python -m tests.soak --minutes '$(MINUTES)' $(if $(SEED),--seed '$(SEED)')

# Needs a Chromium; writes docs/images/.
screenshots: $(VENV)/.tests
	python -m tests.screenshots

# Run it after a change of an .in file; it needs uv (`pip install uv`). It changes only the versions that the .in files
# ask to change. To take the newest version of every other package, delete the .txt files first. uv writes the command
# at the head of each .txt file, where Dependabot reads the options.
compile = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes
requirements:
	$(compile) --output-file requirements.txt requirements.in
	$(compile) --output-file requirements-dev.txt requirements-dev.in

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Make writes each stamp last, so it starts again an installation that was broken off.
install = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes

$(VENV)/.runs: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=...")'
	$(PYTHON) -m venv --clear $(VENV)
	$(install) -r requirements.txt
	touch $@

# What tests and lints, on top: 290 MB that `make run` does without.
$(VENV)/.tests: $(VENV)/.runs requirements-dev.txt
	$(install) -r requirements-dev.txt
	touch $@

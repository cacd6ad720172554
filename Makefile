PYTHON ?= python3
VENV   := .venv
# First on the PATH, so that the tests find this project's uwsgi and not another one.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

# A path to a kubeconfig; without it everything happens on the simulated cluster, whatever KUBECONFIG the shell exports.
CLUSTER ?=
cluster = $(if $(CLUSTER),--cluster '$(CLUSTER)')

.PHONY: run test bench clean

run: $(VENV)/.installed
	python -m tests.run $(cluster)

test: $(VENV)/.installed
	ruff check .
	ruff format --check .
	zizmor --offline --persona pedantic --quiet .github
	hadolint Dockerfile
	shellcheck .github/actions/deploy/deploy.sh .ci/run
	python -m pytest -q --numprocesses 4 --dist loadfile

bench: $(VENV)/.installed
	python -m tests.bench $(cluster)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: an installation that was broken off is begun anew.
$(VENV)/.installed: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=...")'
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

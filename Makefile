# Two commands do everything on a fresh machine: `make study` and `make test`.
VENV ?= .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
STAMP := $(VENV)/.installed
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM = false

.PHONY: study test test-all check docs gallery architectures lab bench calibrate notebooks organism clean system

# torch first and pinned, so that the build in constraints.txt is what everything else finds
$(STAMP): pyproject.toml constraints.txt
	test -x $(PY) || python3 -m venv $(VENV)
	$(PIP) install -q -c constraints.txt torch
	$(PIP) install -q -c constraints.txt -e '.[all]'
	touch $(STAMP)

# Chrome draws png and svg; without it the study still writes html. As root on Debian it is installed here.
system:
	@if command -v chromium >/dev/null || command -v google-chrome >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-dejavu-core) >/dev/null 2>&1 \
	    || echo "chromium could not be installed: figures will be html only"; \
	else echo "no Chrome found: figures will be html only. Install chromium for png and svg"; fi

# The main study; `make study MODEL=smollm2` fetches that model first, where it is one that `workbench get` fetches
MODEL ?= bundled
FETCHABLE := smollm2 gemma3-270m
STUDY_OUT := figures/udhr$(if $(filter bundled,$(MODEL)),,-$(subst :,-,$(notdir $(MODEL))))
study: $(STAMP) system
	$(if $(filter $(FETCHABLE),$(firstword $(subst :, ,$(MODEL)))),$(VENV)/bin/workbench get $(firstword $(subst :, ,$(MODEL))))
	$(VENV)/bin/workbench run udhr --model $(MODEL) --out $(STUDY_OUT)

# A worker per core, of one thread each: the models are so small that a second thread gains nothing
test: $(STAMP) system
	$(PY) -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not more"

# What `make test` leaves out: every other architecture beside Hugging Face's own model
test-all: $(STAMP)
	$(PY) -m pytest -m more

# The table of docs/trust.md: every architecture, every use
architectures: $(STAMP)
	$(PY) docs/make_architectures.py

check: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright --pythonpath $(PY)
	$(PY) -m pytest tests/test_architecture.py tests/test_documented.py

# Warnings are errors: a broken link or a docstring that does not parse stops it
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet
	@echo "docs: build/site/index.html"

# The notebooks, in JupyterLab
lab: $(STAMP)
	$(PY) -m jupyterlab --notebook-dir=notebooks

# The pictures of docs/gallery.md, from full runs of every study (about a quarter of an hour on two cores)
gallery: $(STAMP) system
	$(PY) docs/make_gallery.py

bench: $(STAMP)
	$(PY) benchmarks/startup.py
	$(PY) benchmarks/run.py
	$(PY) benchmarks/capture.py
	$(PY) -W ignore benchmarks/probes.py
	$(PY) -W ignore benchmarks/geometry.py
	$(PY) -W ignore benchmarks/interventions.py
	$(PY) -W ignore benchmarks/smollm2.py
	$(PY) -W ignore benchmarks/preparing.py

# 88 cells of intervals x 2,000 runs and 22 controls (three minutes); 48 cells of planted angles x 1,000 runs (about half an hour on two cores); --full for the whole grid
calibrate: $(STAMP)
	$(PY) -W ignore benchmarks/intervals.py --runs 2000 --csv docs/intervals-calibration.csv --page docs/calibration.md
	$(PY) -W ignore benchmarks/controls.py --csv docs/controls-calibration.csv --page docs/calibration.md
	$(PY) -W ignore benchmarks/calibrate.py --csv docs/geometry-calibration.csv
	$(PY) -W ignore benchmarks/weak_to_strong.py --runs 400 --csv docs/weak-to-strong-calibration.csv

notebooks: $(STAMP)
	$(PY) -m pytest tests/test_notebooks.py

# The commands that made the shipped weights (about 12 minutes each on two cores)
organism: $(STAMP)
	$(VENV)/bin/workbench train udhr-organism --out data/models/udhr-organism
	$(VENV)/bin/workbench train udhr-organism-no-verdict --out data/models/udhr-organism-no-verdict
	$(VENV)/bin/workbench train udhr-organism-faint --out data/models/udhr-organism-faint

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache figures/udhr

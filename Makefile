# Two commands do all the set-up: `make demo` (plain install, no torch) and `make test` (everything).
PYTHON ?= python3
PIP_FLAGS ?= --quiet --disable-pip-version-check
SOURCES := pyproject.toml constraints.txt

.PHONY: demo test slow check wheel accuracy sources clean

demo: .venv-demo/.ready
	.venv-demo/bin/silicast simulate deepseek-r1-8xh200

test: .venv/.ready check
	.venv/bin/python -m pytest

slow: .venv/.ready
	.venv/bin/python -m pytest -m slow

check: .venv/.ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

wheel: .venv/.ready
	rm -rf dist
	.venv/bin/python -m build --wheel --outdir dist
	.venv/bin/python tests/wheel/check_wheel.py dist/*.whl

accuracy: .venv/.ready
	.venv/bin/python -m reports.accuracy_page

.venv-demo/.ready: $(SOURCES)
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python -m pip install $(PIP_FLAGS) -c constraints.txt -e .
	touch $@

.venv/.ready: $(SOURCES)
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[reference,fit,silicon,dev]'
	touch $@

sources: .venv/.ready
	.venv/bin/python -m hardware_specs.provenance hardware_specs model_graphs simulator reports > docs/data-sources.md

clean:
	rm -rf .venv .venv-demo dist

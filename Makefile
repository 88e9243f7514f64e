# Two commands for newcomers, each of which runs `setup` itself: make demo, make test.

MIGRATE := .venv/bin/magalu-migrate

.PHONY: setup demo test unit clean

setup:
	@bash .ci/setup

demo: setup
	@bash .ci/demo

test: setup
	@.venv/bin/pytest

# Only what needs no appliance, no server, no built guest and no boot: under a minute.
unit: setup
	@.venv/bin/pytest -m "not slow"

clean:
	rm -rf .venv .work build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Two commands for newcomers, each of which sets up what it needs: make demo, make test.

MIGRATE := .venv/bin/magalu-migrate

.PHONY: setup setup-demo setup-tests demo test unit bench clean

setup:
	@bash .ci/setup

setup-demo:
	@bash .ci/setup demo

setup-tests:
	@bash .ci/setup tests

demo: setup-demo
	@bash .ci/demo

test: setup-tests
	@.venv/bin/pytest -n 2 --dist loadfile

# Only what needs no appliance, no server, no built guest and no boot: a minute or two.
unit: setup-tests
	@.venv/bin/pytest -n 2 --dist loadfile -m "not slow"

# What the README says of speed, measured here, against qemu-img and virt-v2v: some 25 minutes on a machine that does nothing else.
bench:
	@bash .ci/setup bench
	@.venv/bin/python -m fixtures.benchmark

clean:
	rm -rf .venv .work build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Nothing here needs a particular make. How .venv comes about is in tools/setup; ARGS are passed on.

BIN = .venv/bin
MINUTES = 5
IN_TWO = --numprocesses 2    # tests/conftest.py says who goes where

.PHONY: dev test setup unit lint bench chaos soak overload clean

# Ctrl-C reaches livehook, which stops what it started; this line waits for it, and its 130 is no error.
dev:
	@sh tools/setup dev
	@trap : INT; $(BIN)/livehook dev --demo $(ARGS) || test $$? -eq 130

test: setup
	$(BIN)/pytest $(IN_TWO) $(ARGS)

setup:
	@sh tools/setup test

unit: setup
	$(BIN)/pytest --ignore=tests/integration --ignore=tests/simulation $(IN_TWO) $(ARGS)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m bench $(ARGS)

chaos: setup
	LIVEHOOK_CHAOS_SECONDS=$$(( $(MINUTES) * 60 )) LIVEHOOK_CHAOS_SEED="$(SEED)" $(BIN)/pytest -s tests/integration/test_crashes.py $(ARGS)

soak: setup
	$(BIN)/python -m bench.soak $(ARGS)

overload: setup
	$(BIN)/python -m bench.overload $(ARGS)

clean:
	rm -rf .venv .venv.lock .livehook

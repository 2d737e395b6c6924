.PHONY: style test slow browser all
python = .venv/bin/python

style:
	$(python) -m ruff check . && $(python) -m ruff format --check . && $(python) -m mypy && $(python) -m codespell_lib
	npm run --silent --prefix browser check

test:
	$(python) -m pytest

slow:
	$(python) -m pytest -m "slow and not browser"

browser:
	$(python) -m pytest -m browser -n 0

all: style test slow browser

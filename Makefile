# The commands of the book. `make` alone lists them; the first one that needs the environment builds it.

PYTHON ?= python3
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BROWSER := $(VENV)/.browser
NOTEBOOKS = $(shell find book -name '*.ipynb' -not -path '*/.ipynb_checkpoints/*' -not -path '*/assignments/*' | sort)
REHEARSED := book/1-model/01-meet-llama-2.ipynb book/1-model/07-generation.ipynb book/4-family/20-derived-models.ipynb
STRIP := cell.metadata.execution metadata.widgets metadata.jupytext metadata.language_info.version

# The outputs stored in the notebooks were made under these settings; one thread also avoids spinning on busy cores.
export OMP_NUM_THREADS := 1
export PYTHONHASHSEED := 0
export JUPYTER_PREFER_ENV_PATH := 1
export JUPYTER_PLATFORM_DIRS := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)
unexport MPLBACKEND

.PHONY: help book html page test test-browser lab execute assignments grade slides pdf colab release manifest repository constraints clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

book: html  ## build the book and serve it on localhost (PORT=8000, or the next free one)
	@$(BIN)/python tools/serve.py _build/html $(PORT)

html: $(STAMP)  ## build the book into _build/html; every warning is an error
	$(BIN)/jupyter-book build . --all -W -n --keep-going --quiet

page: $(STAMP)  ## build one page, FILE=book/1-model/04-rope.ipynb, into _build/page, warnings allowed
	@$(BIN)/python tools/page.py "$(FILE)"

test: html  ## build the book, then ruff, pytest, and every notebook re-executed and compared
	$(BIN)/ruff check .
	$(BIN)/python -m pytest tests -n 2
ifneq ($(strip $(NOTEBOOKS)),)
	$(BIN)/python -m pytest --nbval --nbval-cell-timeout=300 --nbval-sanitize-with=tests/nbval_sanitize.cfg \
		-n 2 --dist loadfile $(NOTEBOOKS)
endif

test-browser: html $(BROWSER)  ## try the built book, JupyterLab and paper in Chromium; check accessibility
	$(BIN)/python -m pytest tests/browser -n 2

lab: $(STAMP)  ## open JupyterLab in the book's folder
	$(BIN)/jupyter lab --notebook-dir=book

execute: $(STAMP)  ## execute and normalise one notebook, NB=book/1-model/04-rope.ipynb
	@test -f "$(NB)" || { echo "make execute: no notebook '$(NB)'; use NB=book/1-model/04-rope.ipynb"; exit 2; }
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.timeout=300 \
		--ExecutePreprocessor.coalesce_streams=True "$(NB)"
	$(BIN)/nbstripout --keep-output --keep-count --extra-keys "$(STRIP)" "$(NB)"

assignments: $(STAMP)  ## make the problem sets for students and the bundle for teachers, in _build/assignments
	@$(BIN)/python tools/classroom.py assignments

grade: $(STAMP)  ## grade a folder of submissions into a CSV and feedback, FOLDER=~/monday
	@test -d "$(FOLDER)" || { echo "make grade: no folder '$(FOLDER)'; use FOLDER=path/to/submissions"; exit 2; }
	@$(BIN)/python tools/classroom.py grade "$(FOLDER)"

slides: $(STAMP)  ## make a deck of slides for each part from the notebooks, in _build/slides
	@$(BIN)/python tools/slides.py

pdf: html $(BROWSER)  ## print the whole book with Chromium into _build/book.pdf
	@$(BIN)/python tools/pdf.py _build/html _build/book.pdf

colab: $(STAMP)  ## rehearse the way of a Colab user: install into an empty environment, run three notebooks there
	$(BIN)/python tools/colab.py $(REHEARSED)

release: html slides pdf assignments  ## put packages, pages, PDF, slides and problem sets into dist/
	@$(BIN)/python tools/release.py

manifest: $(STAMP)  ## write data/manifest.json, the hashes of the files in data/
	$(BIN)/python data/build.py

repository: $(STAMP)  ## set the repository's address everywhere, URL=https://github.com/me/book
	$(BIN)/python tools/set_repository.py "$(URL)"

constraints: $(STAMP)  ## write constraints.txt from the versions installed in .venv
	$(BIN)/pip freeze --exclude-editable | grep -v '^#' | sed 's/+cpu$$//' > constraints.tmp
	mv constraints.tmp constraints.txt
	touch $(STAMP)

clean:  ## remove what the commands built, the environment excepted
	rm -rf _build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "minillama needs Python 3.11 or newer; '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)."; \
		echo "Name another one: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e '.[book,test,parity,classroom,slides]' -c constraints.txt
	@touch $@

$(BROWSER): $(STAMP)
	@command -v chromium > /dev/null || { echo "this needs Debian's Chromium: apt-get install chromium"; exit 2; }
	$(BIN)/pip install --quiet -e '.[browser]' -c constraints.txt
	@touch $@

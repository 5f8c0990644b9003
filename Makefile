# Two commands do everything on a fresh machine: `make demo` and `make test`. They need python3, python3-venv,
# python3-dev, make and gcc (without a compiler the pure Python kernels run). `make system` adds the programs that
# `make proof` drives. PYTHON=python3.13 chooses the Python of a new .venv, DISTKIT_BUILD=debug|trace|asan|pure
# another build of the kernels (see setup.py).

PYTHON ?= python3
export DISTKIT_BUILD ?= release

BIN := .venv/bin
KERNELS := distkit/_fast
STUBS := $(patsubst $(KERNELS)/%.pyi,distkit._fast.%,$(wildcard $(KERNELS)/*.pyi))
PYTEST := $(BIN)/pytest -q
STUBTEST := $(BIN)/stubtest --allowlist tests/fast/stubtest_allowlist.txt --ignore-unused-allowlist

.PHONY: build test asan demo demo-lie proof soak lint bench bench-peers system clean

# .venv with every extra, kernels compiled in place. The stamps make a second run quick: the first follows the
# dependencies, the second the kernels' sources and the mode.
build: .venv/.kernels-$(DISTKIT_BUILD)

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "distkit needs Python 3.11 or later. Name one: make PYTHON=python3.13" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "Python's venv module is missing. Install it: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt setuptools Cython
	DISTKIT_BUILD=pure $(BIN)/pip install --quiet -c constraints.txt --no-build-isolation -e '.[model,cli,server,membership,test,dev]'
	@touch $@

# A change of mode changes no source, so everything generated is removed first. A pure build leaves no stamp: it says
# so each time, and the first run after a compiler is installed compiles.
.venv/.kernels-$(DISTKIT_BUILD): .venv/.installed setup.py $(wildcard $(KERNELS)/*.pyx $(KERNELS)/*.pxd)
	@test -e $@ || rm -f .venv/.kernels-* $(KERNELS)/*.so $(KERNELS)/*.c $(KERNELS)/*.html
	$(BIN)/python setup.py --quiet build_ext --inplace --parallel 4
	@! ls $(KERNELS)/*.so >/dev/null 2>&1 || touch $@

# Everything that needs no other program; then kernels and machines once more on the pure twins.
test: build
	$(PYTEST) -m 'not process and not soak'
	DISTKIT_PURE=1 $(PYTEST) -m 'not process and not soak' $(wildcard $(addprefix tests/,fast quorum log raft replica))

# The kernels' tests under the address and undefined-behaviour sanitizers; `make build` then brings back the usual ones.
asan:
	$(MAKE) build DISTKIT_BUILD=asan
	LD_PRELOAD="$$($(or $(CC),gcc) -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc $(PYTEST) tests/fast

# Three servers, real clients, a kill -9, and the proof that nothing acknowledged was lost. ARGS="--seconds 60" ...
demo: build
	$(BIN)/python examples/demo.py $(ARGS)

# The same with servers that acknowledge before commit: the demo must catch them, so this fails with Error 1.
demo-lie: build
	$(BIN)/python examples/demo.py --lie $(ARGS)

# Seeds of the simulator, then real server processes: kill -9, SIGSTOP, full disks, real clients.
proof: build
	$(BIN)/python -m distkit sim --seeds 0:2000 --lite --jobs 2
	$(BIN)/python -m distkit sim --seeds 0:100 --swarm --jobs 2
	$(BIN)/python -m distkit sim --seeds 0:300 --profile hunt --jobs 2
	$(BIN)/python -m distkit sim --machine synod --seeds 0:2000 --jobs 2
	$(BIN)/python -m distkit sim --machine synod --seeds 0:200 --swarm --jobs 2
	$(PYTEST) -m process

# Long proofs. Each rare thing that the simulator knows must happen (--marks).
soak: build
	$(PYTEST) -m soak
	$(BIN)/python -m distkit sim --seeds 0:20000 --lite --jobs 2 --marks
	$(BIN)/python -m distkit sim --seeds 0:1000 --swarm --jobs 2 --marks
	$(BIN)/python -m distkit sim --seeds 0:5000 --profile hunt --jobs 2 --marks
	$(BIN)/python -m distkit sim --machine synod --seeds 0:20000 --jobs 2 --marks
	$(BIN)/python -m distkit sim --machine synod --seeds 0:2000 --swarm --jobs 2 --marks

lint: build
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy distkit $(wildcard examples)
	$(if $(STUBS),$(STUBTEST) $(STUBS))
	$(if $(STUBS),DISTKIT_PURE=1 $(STUBTEST) $(STUBS))

bench: build
	@for name in codec wal raft_core synod sim swim detectors explore linear balance hashing breaking queueing kv_cluster; do $(BIN)/python benchmarks/$$name.py $(ARGS) || exit 1; done

# etcd, ZooKeeper, PySyncObj and etcd's core under the same load (benchmarks/README.md says what it installs).
bench-peers: build
	$(BIN)/python benchmarks/peers/run.py $(ARGS)

system:
	@missing=$$(for program in redis-cli redis-benchmark strace wrk chromium; do \
		command -v $$program >/dev/null || echo $$program; done); \
	if test -z "$$missing"; then exit 0; fi; \
	if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
		apt-get update -q && apt-get install -q -y --no-install-recommends redis-tools strace wrk chromium; \
	else \
		echo "Missing:" $$missing. "Install them; on Debian: sudo apt-get install redis-tools strace wrk chromium" >&2; exit 1; \
	fi

clean:
	rm -rf .venv build dist *.egg-info $(KERNELS)/*.so $(KERNELS)/*.c $(KERNELS)/*.html
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

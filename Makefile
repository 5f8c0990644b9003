# Two commands do everything on a fresh machine: `make demo` and `make test`. They need python3, python3-venv,
# python3-dev, make and gcc (without a compiler the pure Python kernels run). `make system` adds what the tests
# with real clients use. DISTKIT_BUILD=debug|trace|asan|pure chooses another build of the kernels (see setup.py).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

export DISTKIT_BUILD ?= $(if $(shell command -v $(or $(CC),gcc)),release,pure)

# Stamps: dependencies are installed when they change, kernels compiled when a source or the mode changes.
INSTALLED := $(VENV)/.installed
KERNELS := $(VENV)/.kernels-$(DISTKIT_BUILD)
SOURCES := $(wildcard distkit/_fast/*.pyx distkit/_fast/*.pxd)

MACHINE_TESTS := $(wildcard tests/fast tests/quorum tests/raft tests/log tests/replica)
STUBS := $(patsubst distkit/_fast/%.pyi,distkit._fast.%,$(wildcard distkit/_fast/*.pyi))

.PHONY: build test demo demo-lie lint bench bench-peers soak proof system clean

build: $(KERNELS)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "distkit needs Python 3.11 or later as $(PYTHON); name another one: make PYTHON=python3.13" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "Python's venv module is missing. Install it: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt setuptools Cython
	DISTKIT_BUILD=pure $(BIN)/pip install --quiet -c constraints.txt --no-build-isolation -e '.[model,cli,server,test,dev]'
	@touch $@

$(KERNELS): $(INSTALLED) setup.py $(SOURCES)
ifeq ($(DISTKIT_BUILD),pure)
	@echo "distkit: pure Python kernels (slower)$(if $(shell command -v gcc),,; no C compiler found, install gcc for the compiled ones)"
else
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' \
		|| { echo "Python.h is missing. Install it: apt-get install python3-dev (or run on pure Python: make DISTKIT_BUILD=pure)" >&2; exit 1; }
endif
	@test -e $@ || rm -f $(VENV)/.kernels-* distkit/_fast/*.so distkit/_fast/*.c
	$(BIN)/python setup.py --quiet build_ext --inplace --parallel 4
	@touch $@


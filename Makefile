# The front door: one word a task. Meson does the work (meson.build); BUILD names another build folder.
BUILD ?= build

# Ninja is told make's -jN, not of make's jobserver, which it cannot use. What runs in parallel here is ninja's.
unexport MAKEFLAGS
.NOTPARALLEL:
NINJA = ninja $(filter-out -j,$(filter -j%,$(MAKEFLAGS)))

.PHONY: all build deps demo quick test test-python test-long fuzz lint bench traffic golden install clean help

all: build

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1	/p' $(MAKEFILE_LIST)

$(BUILD)/build.ninja:
	@command -v meson >/dev/null && command -v ninja >/dev/null || { echo "make: meson and ninja are missing: 'make deps' installs what is needed" >&2; exit 1; }
	meson setup $(BUILD)

build: $(BUILD)/build.ninja ## library, command line and tests in build/
	@$(NINJA) -C $(BUILD)

deps: ## install what is missing (Debian, Ubuntu)
	@scripts/deps.sh

# Ten minutes at most on two cores, at least 90 % of the test images right.
demo: deps build ## train a DenseNet on Fashion-MNIST and write a report
	$(BUILD)/bnff train fashion-mnist --model densenet-bc-22-12 --epochs 3 --batch-size 128 --output-dir runs --name demo --exist-ok --report

quick: deps ## the tests that take less than a minute
	@scripts/run_tests.py quick

test: deps ## all tests but the long ones, also under the sanitizers
	@scripts/run_tests.py test

test-python: deps ## the Python package against PyTorch, in an environment that this makes
	@scripts/deps.sh python
	@scripts/test_python.sh

test-long: deps ## every test there is
	@scripts/run_tests.py long

fuzz: deps ## feed the parsers garbage for a long time (FUZZ_SECONDS each)
	@scripts/fuzz.sh $(or $(FUZZ_SECONDS),600)

lint: ## form of the sources
	@scripts/lint.py

# Parts alone, other networks, without PyTorch: bench/run.py --help.
bench: build ## measure this machine, beside PyTorch where it can be had, and write docs/benchmarks.md (QUICK=1: minutes)
	bench/run.py --bnff $(BUILD)/bnff --results $(BUILD)/bench $(if $(QUICK),--quick)

# Half an hour and more of processor time: the tables in build-traffic/traffic are kept, AGAIN=1 counts anew.
traffic: ## count main-memory traffic with valgrind and compare it with the plan's model
	@scripts/deps.sh valgrind
	@[ -e build-traffic/build.ninja ] || meson setup build-traffic -Dfma=false
	$(NINJA) -C build-traffic bench/count_traffic
	scripts/traffic.py --write docs/benchmarks.md $(if $(AGAIN),--again)

golden: ## make tests/golden again from PyTorch and Pillow (downloads them)
	@tests/golden/make.sh

install: build ## into PREFIX (default: meson's, /usr/local); DESTDIR is honoured
	$(if $(PREFIX),meson configure $(BUILD) -Dprefix=$(abspath $(PREFIX)))
	meson install -C $(BUILD)

clean: ## remove all builds
	rm -rf .venv-python build build-asan build-tsan build-fuzz build-traffic

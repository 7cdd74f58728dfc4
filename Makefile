# saed - one non-recursive Makefile. `make help` lists the targets.
#
# Nothing here reads or changes variables of the machine's environment beyond the usual CC, CXX,
# CFLAGS, LDFLAGS, DESTDIR and PREFIX given on the command line.

BUILD ?= build
PREFIX ?= /usr/local
CC = gcc
CXX = g++
PYTHON = /usr/bin/python3

# What `make deps` installs: the first list builds and tests, the second is for regenerating
# fixtures and for the image test only.
DEPS_BUILD = gcc g++ libc6-dev pkg-config libmicrohttpd-dev libjansson-dev libopenblas-pthread-dev libzip-dev \
	zlib1g-dev libzstd-dev nettle-dev check libcurl4-openssl-dev python3 python3-numpy openssl
DEPS_PYTHON = python3-torch python3-scipy python3-distributed python3-zstandard mypy
DEPS_PAGE = chromium chromium-driver python3-selenium python3-numpy
DEPS_WHEEL = python3-build python3-venv python3-setuptools python3-wheel
DEPS_GOLDEN = python3-torch python3-sklearn
DEPS_BENCH = python3-torch python3-fastapi python3-uvicorn python3-uvloop python3-httptools
DEPS_IMAGE = debootstrap buildah
DEPS_LINT = clang clang-tidy clang-format libclang-rt-14-dev

.DEFAULT_GOAL := all

# One short line a command; V=1 shows the whole of it.
run = $(if $(V),$(2),@echo '  $(1) $@'; $(2))


WARN = -Wall -Wextra -Wshadow -Wpointer-arith -Wvla -Wundef -Wformat=2
WARN_C = -Wstrict-prototypes -Wmissing-prototypes
HARDEN = -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fstack-clash-protection -fPIE
OPT = -O2 -g
ifneq ($(WERROR),)
WARN += -Werror
endif
ifneq ($(SAN),)
# SAN=address, undefined, thread, or address,undefined
HARDEN = -fPIE
OPT = -O1 -g -fno-omit-frame-pointer -fsanitize=$(SAN) -fno-sanitize-recover=all
SANLINK = -fsanitize=$(SAN)
# clang's AddressSanitizer as a library, as gcc's is: the tests put one of theirs before it.
ifneq ($(and $(findstring clang,$(CC)),$(findstring address,$(SAN))),)
SANLINK += -shared-libasan -Wl,-rpath,$(shell $(CC) -print-runtime-dir)
endif
endif

PKGS = libmicrohttpd jansson libzip zlib libzstd nettle
# OpenBLAS is loaded when it is asked for (lib/engine/blas.c): its headers are needed, and bench links it.
PKG_CFLAGS = $(shell pkg-config --cflags $(PKGS) openblas 2>/dev/null)
PKG_LIBS = $(shell pkg-config --libs $(PKGS) 2>/dev/null)
BENCH_LIBS = $(shell pkg-config --libs openblas 2>/dev/null)
TEST_CFLAGS = $(shell pkg-config --cflags check libcurl 2>/dev/null)
TEST_LIBS = $(shell pkg-config --libs check libcurl 2>/dev/null)

BASE_FLAGS = $(OPT) $(HARDEN) $(WARN) -I. -D_GNU_SOURCE -ffp-contract=off -pthread -MMD -MP
ALL_CFLAGS = -std=c17 $(BASE_FLAGS) $(WARN_C) $(PKG_CFLAGS) $(CFLAGS)
ALL_CXXFLAGS = -std=c++17 $(BASE_FLAGS) -fno-exceptions -fno-rtti $(CXXFLAGS)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now -pthread $(SANLINK) $(LDFLAGS)

LIB_SRC = $(sort $(wildcard lib/*.c lib/*/*.c lib/*/*/*.c))
PROTO_SRC = $(sort $(wildcard proto/*.c proto/*/*.c proto/*/*.cc))
SERVER_SRC = $(sort $(filter-out server/main.c,$(wildcard server/*.c server/*/*.c)))
UNIT_SRC = $(sort $(wildcard tests/unit/test_*.c tests/unit/*/test_*.c tests/unit/*/*/test_*.c tests/golden/test_*.c tests/invalid/test_*.c))
HTTP_SRC = $(sort $(wildcard tests/http/test_*.c))
# bench_dnnl needs libdnnl-dev, which only `make bench` installs.
# Of the Python client: programs too, which report as Check's do.
PYTHON_TEST = $(sort $(wildcard tests/python/test_*.py))
BENCH_SRC = $(sort $(filter-out $(if $(wildcard /usr/include/oneapi/dnnl/dnnl.h),,%/bench_dnnl.c),$(wildcard tests/bench/bench_*.c)))
BENCH_LIB_SRC = $(sort $(filter-out tests/bench/bench_%.c,$(wildcard tests/bench/*.c)))
SUPPORT_SRC = $(sort $(wildcard tests/support/*.c tests/http/support*.c))

obj = $(patsubst %,$(BUILD)/obj/%.o,$(basename $(1)))
LIB_OBJ = $(call obj,$(LIB_SRC))
PROTO_OBJ = $(call obj,$(PROTO_SRC))
SERVER_OBJ = $(call obj,$(SERVER_SRC))
SUPPORT_OBJ = $(call obj,$(SUPPORT_SRC))
BENCH_LIB_OBJ = $(call obj,$(BENCH_LIB_SRC))
TEST_BIN = $(patsubst %.c,$(BUILD)/%,$(UNIT_SRC) $(HTTP_SRC))
BENCH_BIN = $(patsubst %.c,$(BUILD)/%,$(BENCH_SRC))

VERSION = $(shell sed -n 's/^.define SAED_VERSION "\(.*\)"/\1/p' lib/saed.h)
COMMIT ?= $(shell git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null || echo unknown)
FORMAT_SRC = $(shell git ls-files '*.c' '*.h' '*.cc' 2>/dev/null)

LIBS = $(BUILD)/libsaedserver.a $(BUILD)/libproto.a $(BUILD)/libsaed.a

## all: build the daemon, build/saed
all: $(BUILD)/saed

$(BUILD)/obj/%.o: %.c | $(BUILD)/deps.stamp
	@mkdir -p $(@D)
	$(call run,CC,$(CC) $(ALL_CFLAGS) $(EXTRA_CFLAGS) -c -o $@ $<)

$(BUILD)/obj/%.o: %.cc | $(BUILD)/deps.stamp
	@mkdir -p $(@D)
	$(call run,CXX,$(CXX) $(ALL_CXXFLAGS) -c -o $@ $<)

# The whole of clang's UBSan takes minutes for each file of kernels: there it looks at pointers alone.
ifneq ($(and $(findstring clang,$(CC)),$(findstring undefined,$(SAN))),)
KERN_SAN = -O1 -fno-sanitize=undefined -fsanitize=pointer-overflow
endif
# Kernels get their instruction set by file name; everything else is baseline x86-64.
$(BUILD)/obj/lib/engine/kern/%_avx2.o: EXTRA_CFLAGS = -O3 -mavx2 -mfma -mf16c $(KERN_SAN)
$(BUILD)/obj/lib/engine/kern/%_avxvnni.o: EXTRA_CFLAGS = -O3 -mavx2 -mfma -mf16c -mavxvnni $(KERN_SAN)
$(BUILD)/obj/lib/engine/kern/%_avx512.o: EXTRA_CFLAGS = -O3 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma $(KERN_SAN)
$(BUILD)/obj/lib/engine/kern/%_vnni.o: EXTRA_CFLAGS = -O3 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mfma $(KERN_SAN)
# The contract is part of it.
$(BUILD)/obj/proto/openapi.o: proto/openapi.json
# And so is the page.
$(BUILD)/obj/server/web/files.o: $(filter-out %.c %.h,$(wildcard server/web/*))
# What `saed --version --verbose` tells; built anew when it is another commit.
$(BUILD)/obj/server/version.o: EXTRA_CFLAGS = -DSAED_COMMIT='"$(COMMIT)"'
$(BUILD)/obj/server/version.o: $(BUILD)/commit
$(BUILD)/commit: force
	@mkdir -p $(@D) && echo '$(COMMIT)' | cmp -s - $@ || echo '$(COMMIT)' >$@
# Files that read bytes from outside: no silent narrowing.
$(BUILD)/obj/lib/format/%.o: EXTRA_CFLAGS = -Wconversion
$(BUILD)/obj/lib/load/%.o: EXTRA_CFLAGS = -Wconversion
$(BUILD)/obj/proto/%.o: EXTRA_CFLAGS = -Wconversion
$(BUILD)/obj/tests/%.o: EXTRA_CFLAGS = $(TEST_CFLAGS)

$(BUILD)/libsaed.a: $(LIB_OBJ)
	@mkdir -p $(@D) && rm -f $@
	$(call run,AR,$(AR) qcs $@ $^)
$(BUILD)/libproto.a: $(PROTO_OBJ)
	@mkdir -p $(@D) && rm -f $@
	$(call run,AR,$(AR) qcs $@ $^)
$(BUILD)/libsaedserver.a: $(SERVER_OBJ)
	@mkdir -p $(@D) && rm -f $@
	$(call run,AR,$(AR) qcs $@ $^)
$(BUILD)/libsupport.a: $(SUPPORT_OBJ)
	@mkdir -p $(@D) && rm -f $@
	$(call run,AR,$(AR) qcs $@ $^)

$(BUILD)/libbench.a: $(BENCH_LIB_OBJ)
	@mkdir -p $(@D) && rm -f $@
	$(call run,AR,$(AR) qcs $@ $^)

$(BUILD)/saed: $(BUILD)/obj/server/main.o $(LIBS)
	$(call run,LD,$(CXX) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS) -lm)

# The daemon that counts what its compute threads allocate (SAED_COUNT_ALLOCS, lib/base.h): the same
# objects but for those that the count concerns. Sanitizers of addresses and threads have a malloc of their own.
COUNT_OBJ = $(patsubst %,$(BUILD)/obj/count/%.o,lib/base server/sched/worker server/report/exposition)
COUNT_BIN = $(if $(filter-out undefined,$(SAN)),,$(BUILD)/saed-count)
$(BUILD)/obj/count/%.o: %.c | $(BUILD)/deps.stamp
	@mkdir -p $(@D)
	$(call run,CC,$(CC) $(ALL_CFLAGS) -DSAED_COUNT_ALLOCS -c -o $@ $<)
$(BUILD)/saed-count: $(BUILD)/obj/server/main.o $(COUNT_OBJ) $(LIBS)
	$(call run,LD,$(CXX) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS) -lm)

$(BUILD)/tests/bench/bench_dnnl: $(BUILD)/obj/tests/bench/bench_dnnl.o
	@mkdir -p $(@D)
	$(call run,LD,$(CC) $(ALL_LDFLAGS) -o $@ $^ -ldnnl)

$(BUILD)/tests/bench/%: $(BUILD)/obj/tests/bench/%.o $(BUILD)/libbench.a $(BUILD)/libsupport.a $(LIBS)
	@mkdir -p $(@D)
	$(call run,LD,$(CXX) $(ALL_LDFLAGS) -o $@ $^ $(TEST_LIBS) $(PKG_LIBS) $(BENCH_LIBS) -lm)

$(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(BUILD)/libsupport.a $(LIBS)
	@mkdir -p $(@D)
	$(call run,LD,$(CXX) $(ALL_LDFLAGS) -o $@ $^ $(TEST_LIBS) $(PKG_LIBS) -lm)

# The library that makes allocations of the daemon fail (tests/http/test_nomem.c preloads it).
NOMEM = $(BUILD)/tests/nomem.so
$(NOMEM): tests/shim/nomem.c tests/shim/nomem.h | $(BUILD)/deps.stamp
	@mkdir -p $(@D)
	$(call run,LD,$(CC) -std=c17 -O2 -g $(WARN) $(WARN_C) -I. -D_GNU_SOURCE -fPIC -fno-builtin -shared $(CFLAGS) -o $@ $<)

## deps: install the Debian packages that building and testing need (root or sudo)
deps:
	@sh tests/support/deps.sh $(DEPS_BUILD)
$(BUILD)/deps.stamp: Makefile
	@sh tests/support/deps.sh $(DEPS_BUILD)
	@mkdir -p $(@D) && touch $@

## check: build and run every test that a commit needs
check: $(BUILD)/saed $(COUNT_BIN) $(NOMEM) $(TEST_BIN)
	@sh tests/support/run.sh $(BUILD) $(TEST_BIN) $(PYTHON_TEST)

## check-unit: the same without the black-box HTTP tests
check-unit: $(patsubst %.c,$(BUILD)/%,$(UNIT_SRC))
	@sh tests/support/run.sh $(BUILD) $^

## check-bound: the screening bound on 1.5 million random trials over all instruction sets that the CPU
##        has, rows at the ends of f32 and raw bytes as rows through the engine, and rows in any company
##        at d of 767, 768 and 4097 with 24,576 features
BOUND_TRIALS = 150
check-bound: $(addprefix $(BUILD)/tests/unit/engine/,native/test_plane native/test_extremes test_company)
	@printf '%s\n' vnni avx512 avxvnni avx2 scalar | \
	    SAED_SCREEN_TRIALS=$(BOUND_TRIALS) xargs -P "$$(nproc)" -I{} env CK_RUN_CASE={} $<
	SAED_SCREEN_TRIALS=10 $(BUILD)/tests/unit/engine/native/test_extremes
	SAED_FULL_SHAPES=1 $(BUILD)/tests/unit/engine/test_company

## check-many: random traffic over 30 dictionaries of 100 MB within 1 GB (4 GB of memory and of /tmp)
check-many: $(BUILD)/saed $(BUILD)/tests/http/test_offers
	SAED_BIN=$(BUILD)/saed SAED_MANY_LARGE=1 CK_RUN_CASE=many $(BUILD)/tests/http/test_offers

## demo: build, serve the dictionaries that ship, send them requests, leave them served
demo: $(BUILD)/saed
	@sh tests/support/deps.sh curl python3
	@sh deploy/demo/demo.sh $(BUILD)/saed

## image: build the container image localhost/saed with buildah on a debootstrapped base
image:
	@sh tests/support/deps.sh $(DEPS_IMAGE)
	@sh tests/image/build.sh $(BUILD)

## image-test: the same, then run it, and the HTTP tests on its daemon
# But for those that want another binary than the one that ships.
IMAGE_BIN = $(filter-out %/test_hot_path %/test_nomem,$(filter $(BUILD)/tests/http/%,$(TEST_BIN)))
image-test: $(IMAGE_BIN)
	@sh tests/support/deps.sh $(DEPS_IMAGE) curl procps
	@sh tests/image/test_image.sh $(BUILD) $(IMAGE_BIN)

## check-threads: the tests in which threads meet (what check-san runs under TSan)
THREAD_BIN = $(filter %/test_sched %/test_sched_random %/test_sched_threads %/test_threads \
	%/test_conn %/test_conns %/offers/test_offers %/test_loop %/test_pool %/test_log %/test_metrics %/test_budget %/test_team %/test_registry \
	%/test_service %/test_smoke %/test_full_house,$(TEST_BIN))
check-threads: $(BUILD)/saed $(THREAD_BIN)
	@sh tests/support/run.sh $(BUILD) $(THREAD_BIN)

## check-memory: the tests under clang's ASan and UBSan
check-memory:
	@sh tests/support/deps.sh $(DEPS_LINT)
	$(MAKE) BUILD=$(BUILD)/memory SAN=address,undefined CC=clang CXX=clang++ WERROR=1 check

## check-san: the tests under ASan and UBSan, and those with threads under TSan, in build folders of
##        their own
check-san: check-memory
	$(MAKE) BUILD=$(BUILD)/tsan SAN=thread WERROR=1 check-threads

## bench: one table of limits, kernels, batches, codecs, the daemon, loading, each beside its yardstick;
##        BENCH_ARGS="--big --isa avx2 --only encode --seconds 3"; also build/bench.json
bench:
	@sh tests/support/deps.sh $(DEPS_BENCH)
	@sh tests/support/deps.sh libdnnl-dev || echo 'oneDNN cannot be installed: its yardstick is left out'
	@$(MAKE) --no-print-directory $(BUILD)/saed bench-programs
	@SAED_BIN=$(BUILD)/saed $(BUILD)/tests/bench/bench_table --json $(BUILD)/bench.json $(BENCH_ARGS)
bench-programs: $(BENCH_BIN)

## install: the stripped daemon, its systemd unit, a config that serves the demo dictionaries, README and
##        licences below DESTDIR and PREFIX (/usr/local); a config that is there already is kept
## uninstall: remove them again, but for a config that was edited
SYSCONFDIR = $(if $(filter /usr /usr/local,$(PREFIX)),/etc,$(PREFIX)/etc)
prefix = $(DESTDIR)$(PREFIX)
config = $(DESTDIR)$(SYSCONFDIR)/saed/config.json
placed = sed 's|/usr/local|$(PREFIX)|g; s|/etc/saed|$(SYSCONFDIR)/saed|g'
SHARED = $(addprefix deploy/demo/,digits.pt words.safetensors words.labels.json) proto/openapi.json
DOCUMENTS = README.md CHANGELOG.md LICENSE deploy/demo/LICENSE.WordNet
install: $(BUILD)/saed
	install -D -s -m 0755 $(BUILD)/saed $(prefix)/bin/saed
	$(placed) deploy/saed.service | install -D -m 0644 /dev/stdin $(prefix)/lib/systemd/system/saed.service
	test -e $(config) || $(placed) deploy/config.json | install -D -m 0644 /dev/stdin $(config)
	install -D -m 0644 -t $(prefix)/share/saed $(SHARED)
	install -D -m 0644 -t $(prefix)/share/doc/saed $(DOCUMENTS)
uninstall:
	rm -f $(prefix)/bin/saed $(prefix)/lib/systemd/system/saed.service
	rm -f $(addprefix $(prefix)/share/saed/,$(notdir $(SHARED))) $(addprefix $(prefix)/share/doc/saed/,$(notdir $(DOCUMENTS)))
	if $(placed) deploy/config.json | cmp -s - $(config); then rm -f $(config); fi
	rmdir $(prefix)/share/saed $(prefix)/share/doc/saed $(dir $(config)) 2>/dev/null || true

## check-contract: proto/openapi.json before a validator, and a TypeScript client on types made from it
check-contract: $(BUILD)/saed
	@command -v npm >/dev/null || sh tests/support/deps.sh nodejs npm
	@sh tests/types/check.sh $(abspath $(BUILD)/saed)

## check-clients: early answers and slow bodies as urllib, http.client, node, Go and nginx see them
check-clients: $(BUILD)/saed
	@command -v node >/dev/null || sh tests/support/deps.sh nodejs
	@command -v go >/dev/null || sh tests/support/deps.sh golang-go
	@sh tests/support/deps.sh python3 nginx-light
	@$(PYTHON) tests/clients/test_slow.py $(BUILD)/saed
	@$(PYTHON) tests/clients/test_early.py $(BUILD)/saed $(BUILD)

## check-readme: README's Python and curl lines against the daemon
check-readme: $(BUILD)/saed
	@sh tests/support/deps.sh curl python3 python3-numpy
	@$(PYTHON) tests/first/test_readme.py $(BUILD)/saed

## check-page: the page of GET / in Chromium; SAED_SHOTS=DIR leaves pictures of it there
check-page: $(BUILD)/saed
	@sh tests/support/deps.sh $(DEPS_PAGE)
	@sh tests/support/run.sh $(BUILD) tests/page/test_page.py

## check-python-torch: the Python client with tensors of torch, matrices of scipy and workers of Dask, and its
##        types by mypy
check-python-torch: $(BUILD)/saed
	@sh tests/support/deps.sh $(DEPS_PYTHON)
	mypy --config-file $(CLIENT)/pyproject.toml --cache-dir $(BUILD)/mypy $(CLIENT)/saed
	@sh tests/support/run.sh $(BUILD) $(sort $(wildcard tests/python/torch_*.py tests/python/dask_*.py))

## python: a wheel of the Python client in dist
CLIENT = proto/client/python
WHEEL = $(BUILD)/wheel
python:
	@sh tests/support/deps.sh $(DEPS_WHEEL)
	@rm -rf $(WHEEL) && mkdir -p $(WHEEL) dist && cp -r $(CLIENT)/. $(WHEEL)
	$(PYTHON) -m build --no-isolation --wheel --outdir dist $(WHEEL) >$(WHEEL).log
	cd dist && PYTHONPATH="$$(ls -t saed-*.whl | head -n 1)" $(PYTHON) -c "import saed.adapters.delphi as m; print(m.__file__)"

## check-install: what demo, install and uninstall do
check-install: $(BUILD)/saed
	@sh tests/support/deps.sh curl python3
	@sh tests/first/test_install.sh $(BUILD)

## dist: a tar of the committed tree
dist:
	@mkdir -p dist
	git archive --format=tar.gz --prefix=saed-$(VERSION)/ -o dist/saed-$(VERSION).tar.gz HEAD

## format: clang-format our C
format:
	clang-format -i $(FORMAT_SRC)

## lint: layers of #include, tables, format, clang-tidy
lint:
	@sh tests/support/deps.sh $(DEPS_LINT)
	@sh tests/lint/layers.sh
	@sh tests/lint/tables.sh
	clang-format --dry-run -Werror $(FORMAT_SRC)
	@sh tests/lint/tidy.sh $(BUILD)

## golden: write the fixtures of tests/golden anew with PyTorch
golden:
	@sh tests/support/deps.sh $(DEPS_GOLDEN)
	$(PYTHON) tests/golden/make_golden.py
	$(PYTHON) tests/golden/make_pt.py
	$(PYTHON) tests/golden/make_containers.py
	$(PYTHON) tests/golden/make_formats.py

## fuzz-pt: 30 seconds of altered archives of torch.save, read by saed and by PyTorch; FUZZ_SEED=1,
##        FUZZ_SECONDS=30; files that differ are kept in build/fuzz-pt
FUZZ_SEED = 1
FUZZ_SECONDS = 30
fuzz-pt: $(BUILD)/tests/fuzz/dump_pt
	@sh tests/support/deps.sh python3-torch
	$(PYTHON) tests/fuzz/fuzz_pt.py $< --seed $(FUZZ_SEED) --seconds $(FUZZ_SECONDS) --keep $(BUILD)/fuzz-pt
## fuzz-load: as long a time of state dicts in wrappers, with what may stand beside them, opened or refused
##        as the rules say; files that differ are kept in build/fuzz-load
fuzz-load: $(BUILD)/tests/fuzz/dump_pt
	@sh tests/support/deps.sh python3-torch
	$(PYTHON) tests/fuzz/fuzz_load.py $< --seed $(FUZZ_SEED) --seconds $(FUZZ_SECONDS) --keep $(BUILD)/fuzz-load

## clean: remove the build folder
clean:
	rm -rf $(BUILD) tests/types/build tests/types/node_modules

## help: this list
help:
	@sed -n 's/^## //p' Makefile


.PHONY: force all deps check check-contract check-clients check-readme check-page check-python-torch python check-bound check-many check-threads check-unit check-san check-memory bench bench-programs demo image image-test install uninstall check-install dist format lint golden \
	fuzz-pt fuzz-load clean help
.SECONDARY:
-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

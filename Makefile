# spt: soft prompt tuning for frozen T5.
#
#   make                      library and program in build/release/
#   make SAN=address,undefined ...   the same under sanitizers, in build/san-address-undefined/
#   make DEBUG=1 ...          -O0 with assertions, in build/debug/
#   make MPI=1 ...            for several processes (docs/several-machines.md), in build/release-mpi/
#   make MPI=1 MPICC=mpicc.mpich ...   the same with MPICH, in build/release-mpich/
# Every variant has its own folder, so switching costs nothing. `make help` lists the targets.

CC ?= gcc
CXX ?= g++
AR ?= ar
PREFIX ?= /usr/local
DESTDIR ?=
VERSION := 0.1.0
RELEASED := 2026-11-25

ifdef SAN
VARIANT ?= san-$(subst $(comma),-,$(SAN))
OPT ?= -O1 -g -fno-omit-frame-pointer -fsanitize=$(SAN)
else ifdef DEBUG
VARIANT ?= debug
OPT ?= -O0 -g
else
VARIANT ?= release
OPT ?= -O2 -g
endif
comma := ,
ifneq (,$(findstring clang,$(CC)))
VARIANT := $(VARIANT)-clang
CXX := $(if $(filter default,$(origin CXX)),clang++,$(CXX))
endif
ifdef MPI
CPPFLAGS += -DSPT_MPI
ifdef MPICC
# What a compiler wrapper adds: make MPI=1 MPICC=mpicc.mpich
VARIANT := $(VARIANT)-$(if $(findstring mpich,$(MPICC)),mpich,mpi-$(notdir $(MPICC)))
MPI_WORDS := $(shell $(MPICC) -show)
CPPFLAGS += $(patsubst -I%,-isystem %,$(filter -I%,$(MPI_WORDS)))
LDLIBS += $(filter -L% -l% -Wl%,$(MPI_WORDS))
else
VARIANT := $(VARIANT)-mpi
MPIPKG ?= $(if $(shell pkg-config --exists ompi-c && echo yes),ompi-c,mpich)
CPPFLAGS += $(patsubst -I%,-isystem %,$(shell pkg-config --cflags $(MPIPKG)))
endif
endif
B := build/$(VARIANT)
# Commands are shown in short; V=1 shows them whole.
say = $(if $(V),,@printf '  %-4s %s\n' $1 '$@' && )

WARN := -Wall -Wextra -Wshadow -Wconversion -Wvla -Wno-unused-parameter
ifdef WERROR
WARN += -Werror
endif
CWARN := $(WARN) -Wstrict-prototypes -Wmissing-prototypes
PKGS := sentencepiece libpcre2-8 zlib libxxhash libcurl libcrypto
CPPFLAGS += -Iinclude -Isrc -D_FILE_OFFSET_BITS=64 $(shell pkg-config --cflags $(PKGS)) \
	-DSPT_VERSION='"$(VERSION)"' -DSPT_RELEASED='"$(RELEASED)"' \
	-DSPT_SENTENCEPIECE_VERSION='"$(shell pkg-config --modversion sentencepiece)"'
# Contraction is off so that a row's bits depend on the source, not on the optimiser's mood;
# kernels that want fused multiply-add call it by name.
CFLAGS += -std=c17 $(OPT) $(CWARN) -fvisibility=hidden -fPIC -ffp-contract=off -pthread
# The only C++ is the shim; these checks would need the sanitizer's C++ runtime.
NO_CXX_RUNTIME := $(if $(findstring -fsanitize,$(OPT)),-fno-sanitize=vptr$(if $(findstring clang,$(CC)),$(comma)function))
CXXFLAGS += -std=c++17 $(OPT) $(NO_CXX_RUNTIME) $(WARN) -fvisibility=hidden -fPIC -pthread
LDLIBS += $(shell pkg-config --libs $(PKGS) $(MPIPKG)) -ldnnl -lgomp -lm -lstdc++ -pthread

CSRC := $(shell find src -name '*.c' | LC_ALL=C sort)
ifndef MPI
CSRC := $(filter-out src/comm/comm_mpi.c,$(CSRC))
endif
CXXSRC := $(shell find src -name '*.cc' | LC_ALL=C sort)
OBJ := $(CSRC:%.c=$B/%.o) $(CXXSRC:%.cc=$B/%.o)
# ops/ref is the definition and is compiled twice (rulings 7).
OBJ := $(filter-out $B/src/ops/ref/%,$(OBJ))
REFSRC := $(filter src/ops/ref/%,$(CSRC))
OBJ += $(REFSRC:%.c=$B/%.f32.o) $(REFSRC:%.c=$B/%.f64.o)

PROGSRC := $(wildcard programs/spt/*.c)
PROGOBJ := $(PROGSRC:%.c=$B/%.o)
SUPPORTSRC := $(wildcard tests/support/*.c)
SUPPORTOBJ := $(SUPPORTSRC:%.c=$B/%.o)
TESTSRC := $(shell find tests -name 'test_*.c' | LC_ALL=C sort)
TESTBIN := $(TESTSRC:%.c=$B/%)
BENCHSRC := $(wildcard bench/*.c)
BENCHBIN := $(BENCHSRC:%.c=$B/%)
TOOLBIN := $(patsubst %.c,$B/%,$(wildcard tools/*.c))

.PHONY: all lib test quick check help clean install format tests bench bench-bin
.SECONDARY:

all: $B/spt $B/libspt.so $B/share/made ## library, program, manual and completion
lib: $B/libspt.a

$B/libspt.a: $(OBJ)
	@rm -f $@
	$(call say,AR)$(AR) rcs $@ $(OBJ)

$B/libspt.so: $(OBJ)
	$(call say,LD)$(CC) -shared $(OPT) -Wl,-soname,libspt.so.0 -Wl,--version-script=docs/abi/libspt.map -o $@ $(OBJ) $(LDFLAGS) $(LDLIBS)

$B/spt: $(PROGOBJ) $B/libspt.a
	$(call say,LD)$(CC) $(OPT) -o $@ $(PROGOBJ) $B/libspt.a $(LDFLAGS) $(LDLIBS)

# Manual pages and completion scripts are printed by the program out of its own tables.
$B/share/made: $B/spt
	$(call say,MAN)rm -rf $B/share && mkdir -p $B/share/man/man1 $B/share/man/man7 && \
	for page in `$B/spt help --man`; do $B/spt help --man $$page >$B/share/man/man$${page##*.}/$$page || exit 1; done && \
	$B/spt completion bash >$B/share/spt.bash && $B/spt completion zsh >$B/share/_spt && \
	$B/spt completion fish >$B/share/spt.fish && touch $@

# Kernels for one instruction set live in files named after it; nothing else may use those flags.
ISA_avx2 := -mavx2 -mfma -mf16c -mprfchw
ISA_avx512 := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx2 -mfma -mf16c -mprfchw -mprefer-vector-width=512
isa_flags = $(if $(findstring _avx512,$1),$(ISA_avx512),$(if $(findstring _avx2,$1),$(ISA_avx2)))

# Branches are counted in these folders only; the rest of the variant "cov" is the release build, or the
# tests of whole commands would take hours.
COV := codec text store gin ckpt
cov_flags = $(if $(filter cov,$(VARIANT)),$(if $(filter $(COV:%=src/%/%),$1),-O0 --coverage))
ifeq (cov,$(VARIANT))
LDFLAGS += --coverage
CPPFLAGS += -DSPT_COVERAGE # for limits of time in tests
endif

$B/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(CPPFLAGS) $(CFLAGS) $(call isa_flags,$<) $(call cov_flags,$<) -MMD -MP -c -o $@ $<
$B/%.f32.o: %.c
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(CPPFLAGS) $(CFLAGS) -DOPS_REF_DOUBLE=0 -MMD -MP -c -o $@ $<
$B/%.f64.o: %.c
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(CPPFLAGS) $(CFLAGS) -DOPS_REF_DOUBLE=1 -MMD -MP -c -o $@ $<
$B/%.o: %.cc
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) $(CPPFLAGS) $(CXXFLAGS) -MMD -MP -c -o $@ $<

$B/tests/%: tests/%.c $(SUPPORTOBJ) $B/libspt.a
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(CPPFLAGS) -Itests $(CFLAGS) -MMD -MP -o $@ $< $(SUPPORTOBJ) $B/libspt.a $(LDFLAGS) -lcmocka $(LDLIBS)
$B/tests/support/%.o: CPPFLAGS += -Itests
$B/bench/%: bench/%.c $B/libspt.a
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -o $@ $< $B/libspt.a $(LDFLAGS) $(LDLIBS)

# Stand-alone programs: no library.
$B/tools/%: tools/%.c
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -o $@ $<

# Programs of tools/crosscheck do use it.
$B/tools/crosscheck/%: tools/crosscheck/%.c $B/libspt.a
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -o $@ $< $B/libspt.a $(LDFLAGS) $(LDLIBS)
check-agree: $B/tools/crosscheck/verdicts ## C7: our readers against numpy, safetensors, msgpack, json: PYTHON=venv/bin/python FORMATS="torch spm"
	$(PYTHON) tools/crosscheck/agree.py --verdicts $< --n $(AGREE_N) $(FORMATS)
AGREE_N ?= 100000
PYTHON ?= python3
.PHONY: check-agree

# Fuzz targets: tests/fuzz/fuzz_<name>.c. In the variant "fuzz" libFuzzer drives them, in all others
# tests/fuzz/replay.c runs them over their seeds.
FUZZSRC := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZBIN := $(FUZZSRC:%.c=$B/%)
FUZZ_OPT := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined,fuzzer-no-link \
	-fno-sanitize-recover=undefined
# For volume: optimised and without the tracing of comparisons, which costs half of the time; the inputs
# that the other build found are the corpus.
FUZZ_VOLUME_OPT := -O2 -g -fno-omit-frame-pointer -fsanitize=address,undefined,fuzzer-no-link \
	-fno-sanitize-coverage=trace-cmp,indirect-calls,stack-depth -fno-sanitize-recover=undefined
# Its blocks come from one piece of memory with poisoned gaps (tests/fuzz/fuzz_arena.h).
$(if $(filter fuzz-volume,$(VARIANT)),$(FUZZBIN)): CPPFLAGS += -DFUZZ_ARENA
ifneq (,$(filter fuzz fuzz-volume,$(VARIANT)))
FUZZMAIN := -fsanitize=fuzzer
# No target reaches the kernels, whose compilation under the sanitizers takes minutes.
$B/src/ops/cpu/%.o: override OPT := -O1 -g
else
FUZZMAIN := $B/tests/fuzz/replay.o
endif
# Of the support only what targets use: all of it would bring the whole program, whose counters (70,000)
# libFuzzer would look through after every input.
FUZZSUPPORT := $B/tests/support/memfs.o
$(FUZZBIN): $B/tests/fuzz/fuzz_%: tests/fuzz/fuzz_%.c $(FUZZSUPPORT) $B/tests/fuzz/replay.o $B/libspt.a
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(CPPFLAGS) -Itests $(CFLAGS) -MMD -MP -o $@ $< $(FUZZMAIN) $(FUZZSUPPORT) $B/libspt.a \
		$(LDFLAGS) $(LDLIBS)

FUZZ ?= $(FUZZSRC:tests/fuzz/fuzz_%.c=%)
TIME ?= 60
.PHONY: fuzz fuzz-short fuzz-volume
fuzz: ## fuzz under clang's sanitizers: make fuzz FUZZ=msgpack TIME=60
	$(MAKE) CC="$(FUZZ_CC)" CXX="$(FUZZ_CXX)" VARIANT=fuzz OPT="$(FUZZ_OPT)" $(FUZZ:%=build/fuzz/tests/fuzz/fuzz_%)
	tools/fuzz build/fuzz $(TIME) $(FUZZ)
fuzz-volume: ## the same, built for speed: many executions of inputs already found
	$(MAKE) CC="$(FUZZ_CC)" CXX="$(FUZZ_CXX)" VARIANT=fuzz-volume OPT="$(FUZZ_VOLUME_OPT)" \
		$(FUZZ:%=build/fuzz-volume/tests/fuzz/fuzz_%)
	FUZZ_ARGS=-entropic=0 FUZZ_CORPUS=build/fuzz/corpus tools/fuzz build/fuzz-volume $(TIME) $(FUZZ)
FUZZ_CC ?= clang
FUZZ_CXX ?= clang++
fuzz-short: ## every fuzz target for a few seconds
	$(MAKE) fuzz TIME=5
# Parsers without a state behind them; all other targets take 5 million.
FUZZ_HEADERS := gin_lex hf_config json msgpack npy protobuf safetensors tf_example tfrecord zarr
check-fuzz: ## C5: executions of all campaigns, 100 million for each header parser (tests/fuzz/ledger.csv)
	@awk -F, -v headers=" $(FUZZ_HEADERS) " -v names="$(FUZZSRC:tests/fuzz/fuzz_%.c=%)" ' \
	    FNR > 1 {n[$$2] += $$4; all += $$4} \
	    END {k = split(names, name, " "); \
	        for (i = 1; i <= k; i++) {bar = index(headers, " " name[i] " ") ? 1e8 : 5e6; short = n[name[i]] < bar; bad += short; \
	            printf "%s%s: %.1f million of %d\n", short ? "SHORT " : "", name[i], n[name[i]] / 1e6, bar / 1e6} \
	        printf "C5: %d of %d targets have their executions, %.0f million in all\n", k - bad, k, all / 1e6; exit bad > 0}' \
	    tests/fuzz/ledger.csv
.PHONY: check-fuzz

# Preloaded into the real program by tests; needs nothing of ours.
PRELOADSRC := tests/crash/pace.c tests/crash/cut.c
PRELOAD := $(PRELOADSRC:%.c=$B/%.so)
$(PRELOAD): $B/%.so: %.c
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(CFLAGS) -fvisibility=default -shared -o $@ $< -ldl

tests: $(TESTBIN) $(FUZZBIN) $(PRELOAD) $B/spt $(if $(SAN),,$B/libspt.so)
bench-bin: $(BENCHBIN) $(TOOLBIN)

bench: all bench-bin ## figures of this machine (bench/README.md)
	bench/run $B

test: tests check ## build and run every test; last line: N passed, N failed
	tools/run-tests $B

quick: tests ## unit tests only
	tools/run-tests $B unit

check: check-options ## layering and style rules of the tree, a case of every option
	tools/check-layers
	tools/check-limits
	tools/check-fixes --list
check-options: $B/spt ## G2: every option of every command has a case, and every exit code
	tools/option-cases $<
.PHONY: check-options

# One folder of tests, or one file: make test-unit/store, make test-golden SPT_GOLDEN=DIR
test-%: tests
	tools/run-tests $B $*
test-unit/%: tests # the pattern above matches no slash
	tools/run-tests $B unit/$*

# --- the promises of docs/reliability.md, one target each: the last line is the figure -------------

NUMBERS := prop/test_ops_cpu prop/test_grad_ops prop/test_grad_model prop/test_ops_threads prop/test_invariance
PROOF = SPT_BIN=$(CURDIR)/$B/spt SPT_BUILD=$(CURDIR)/$B
N ?= 1000
SEED ?= 1
.PHONY: check-kill check-rank-kill check-term check-oom check-sites check-sys check-power check-rot check-disk check-nan check-numbers check-symbols check-cov
check-kill: $B/spt $(PRELOAD) ## K1, K10: N kills at random instants, same bits: make check-kill N=1000
	$(PROOF) python3 tests/crash/kill_runs.py --kills $N --seed $(SEED)
check-rank-kill: ## K9: N kills of random ranks under mpirun, same bits: make check-rank-kill N=100
	$(MAKE) MPI=1 SAN= DEBUG= build/release-mpi/spt
	SPT_BIN=$(CURDIR)/build/release-mpi/spt python3 tests/dist/rank_kills.py --kills $N --seed $(SEED)
check-emulator: $B/spt ## buckets against gcp-storage-emulator of PyPI, in a virtual environment
	tests/server/with-emulator $B/spt
.PHONY: check-emulator
check-oom: all tests ## C1: every allocation fails; share of allocation sites reached
	rm -rf $B/sites && mkdir -p $B/sites
	SPT_TEST_SLOW=1 SPT_TEST_TIMEOUT=7200 SPT_TEST_SITES=$(CURDIR)/$B/sites tools/run-tests $B unit fault golden prop/test_ops_cpu | tail -n 3
	tools/alloc-sites $B $B/sites
SITES_TESTS = $(patsubst tests/%,%,$(shell grep -lE 'fault_every|flows_every' -r tests --include='test_*.c' | LC_ALL=C sort))
check-sites: all tests ## C1 in minutes: every allocation site fails, once and from there on; share of sites
	rm -rf $B/sites && mkdir -p $B/sites
	SPT_TEST_SITES_ONLY=1 SPT_TEST_TIMEOUT=1800 SPT_TEST_SITES=$(CURDIR)/$B/sites tools/run-tests $B $(SITES_TESTS)
	tools/alloc-sites $B $B/sites
CALLS_TESTS := $B/tests/fault/test_flows $B/tests/fault/test_flows_web
check-sys: $(CALLS_TESTS) ## C2: every system call fails in ten ways, over whole commands, buckets and the hub
	rm -f $B/check-sys.log
	for t in $(CALLS_TESTS); do SPT_TEST_CALLS_ONLY=1 SPT_TEST_FULL=1 $$t >>$B/check-sys.log 2>&1 || { tail -n 20 $B/check-sys.log; exit 1; }; done
	@awk '/ calls, /{for (i = 1; i <= NF; i++) if ($$i == "calls,") n += 2 * $$(i - 1)} \
	     / failed [0-9]+ times/{seen[$$1] += $$3} \
	     END {for (c in seen) {k++; if (seen[c] == 0) {z++; printf "never failed: %s\n", c}} \
	          printf "C2: %d runs with a failing call, %d of %d calls of the os table failed\n", n, k - z, k; exit z > 0 || !n}' $B/check-sys.log
check-power: $B/tests/unit/ckpt/test_ckpt_power ## K2, K3, K6, K8, K11: the power goes after every operation, 20 seeds
	SPT_TEST_SEEDS=20 SPT_TEST_COMPOUND=1 $<
check-rot: $B/tests/unit/ckpt/test_ckpt $B/tests/unit/ckpt/test_ckpt_power ## K4: every byte flipped, random damage
	$B/tests/unit/ckpt/test_ckpt && SPT_TEST_ROT=100000 $B/tests/unit/ckpt/test_ckpt_power
check-disk: $B/spt ## C3, K6, K7, K8 on the real program: strace, a small tmpfs
	$(PROOF) SPT_TEST_FULL=1 bash tests/crash/test_disk.sh
check-numbers: $(NUMBERS:%=$B/tests/%) ## N1, N2, N4: operations on N random shapes each, gradients, threads: make check-numbers N=1000
	for t in $(NUMBERS); do SPT_TEST_SHAPES=$N $B/tests/$$t || exit 1; done >$B/check-numbers.log 2>&1 || { tail -n 30 $B/check-numbers.log; exit 1; }
	@grep '^N[124]:' $B/check-numbers.log
check-nan: $B/tests/fault/test_nan ## N5: not-a-number in any tensor
	$<
# The places of MUTANTS, or N freshly drawn ones: make check-mutate MUTANTS= N=200 SEED=3. Goes on where it was stopped.
MUTANTS ?= tests/mutation/sample.log
check-mutate: ## C9: changed places of store, gin and ckpt that a test notices (hours)
	mkdir -p $B
	tools/mutate $(if $(MUTANTS),--sample $(MUTANTS) --log $B/mutants.log,--count $N --seed $(SEED) --log $B/mutants-$(SEED).log) --jobs 2
.PHONY: check-mutate
check-fixes: ## G5: every fixed fault has a test that fails without the fix: make check-fixes FIXES="25b 31"
	tools/check-fixes $(FIXES)
.PHONY: check-fixes
check-symbols: $B/libspt.so ## G3: exported symbols
	tools/check-symbols $B
# What reads those formats: the units, the corpora, recorded files, and the hub and buckets over HTTP.
COV_TESTS := $(addprefix unit/,gin ckpt text codec store fs vocab data prompt task report test_) fuzz/ \
	$(addprefix golden/test_,hf_containers t5x_checkpoint golden_vocab data_vectors) \
	$(addprefix cli/test_,hub buckets data_convert)
check-cov: ## C8: branch coverage of the parsers and of checkpoints
	$(MAKE) VARIANT=cov tests
	find build/cov -name '*.gcda' -delete
	SPT_TEST_TIMEOUT=1800 tools/run-tests build/cov $(COV_TESTS) | tail -n 5
	tools/branch-coverage build/cov $(COV)
check-asan: ## C10: tests under ASan and UBSan, reports counted: make check-asan PARTS="unit cli"
	$(MAKE) SAN=address,undefined DEBUG= tests
	tools/clean-run asan build/san-address-undefined $(PARTS)
check-tsan: ## C10: the tests with threads under TSan
	$(MAKE) SAN=thread DEBUG= $(patsubst %.c,build/san-thread/tests/%,$(TSAN_PARTS:%=%.c)) build/san-thread/spt
	tools/clean-run tsan build/san-thread $(TSAN_PARTS:%=%.c)
TSAN_PARTS ?= unit/comm/test_comm unit/fs/test_http unit/fs/test_gs unit/test_fs prop/test_ops_threads prop/test_invariance
check-valgrind: ## C10: unit tests of what reads bytes, under valgrind: make check-valgrind VALGRIND_PARTS="unit/gin"
	$(MAKE) tests
	tools/clean-run valgrind $B $(VALGRIND_PARTS)
VALGRIND_PARTS ?= unit/codec unit/text unit/store unit/ckpt/test_ckpt.c unit/vocab unit/prompt unit/fs unit/gin/test_gin_api
.PHONY: check-asan check-tsan check-valgrind
check-term: $B/spt $(PRELOAD) ## K5: signals at random instants: make check-term N=200
	$(PROOF) python3 tests/crash/kill_runs.py --signals $N --seed $(SEED)

format: ## clang-format over the tree
	clang-format -i $(shell git ls-files '*.c' '*.h')

install: all ## into $(DESTDIR)$(PREFIX)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include/spt
	install -m 755 $B/spt $(DESTDIR)$(PREFIX)/bin/spt
	install -m 644 $B/libspt.a $(DESTDIR)$(PREFIX)/lib/libspt.a
	install -m 755 $B/libspt.so $(DESTDIR)$(PREFIX)/lib/libspt.so.0
	ln -sf libspt.so.0 $(DESTDIR)$(PREFIX)/lib/libspt.so
	install -m 644 include/spt/*.h $(DESTDIR)$(PREFIX)/include/spt/
	cd configs && find . -name '*.gin' -exec install -D -m 644 {} $(abspath $(DESTDIR)$(PREFIX))/share/spt/configs/{} \;
	cd demo && find . -type f -exec install -D -m 644 {} $(abspath $(DESTDIR)$(PREFIX))/share/spt/demo/{} \;
	find README.md CHANGELOG.md SECURITY.md LICENSE docs -type f \
		-exec install -D -m 644 {} $(abspath $(DESTDIR)$(PREFIX))/share/doc/spt/{} \;
	cd examples && find . -type f ! -name '*.so' ! -name '*.sh' \
		-exec install -D -m 644 {} $(abspath $(DESTDIR)$(PREFIX))/share/spt/examples/{} \;
	cd examples && find . -type f -name '*.sh' \
		-exec install -D -m 755 {} $(abspath $(DESTDIR)$(PREFIX))/share/spt/examples/{} \;
	cd $B/share && for page in man/man*/*; do install -D -m 644 $$page $(abspath $(DESTDIR)$(PREFIX))/share/$$page; done
	install -D -m 644 $B/share/spt.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/spt
	install -D -m 644 $B/share/_spt $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_spt
	install -D -m 644 $B/share/spt.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/spt.fish
	sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' tools/spt.pc.in > $(DESTDIR)$(PREFIX)/lib/pkgconfig/spt.pc

clean: ## remove build/
	rm -rf build

help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

-include $(OBJ:.o=.d) $(PROGOBJ:.o=.d) $(SUPPORTOBJ:.o=.d) $(TESTBIN:=.d) $(FUZZBIN:=.d) $(BENCHBIN:=.d)

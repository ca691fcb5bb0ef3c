# Builds moe: `make` gives build/bin/moe-* and build/lib/libmoe.a. `make help` lists the goals and settings.
#
# Nothing to configure: a .cpp under a library folder is part of the library, tools/moe_<name>.cpp is the program moe-<name>,
# tests/**/*_test.cpp is part of build/bin/moe-tests. CMakeLists.txt follows the same rules and
# tests/lint/source_lists.sh compares the two.

# ---- settings -------------------------------------------------------------------------------------------------------

config ?= release# release | debug | sanitize | fuzz
CROSS  ?=#         prefix of a cross toolchain, e.g. aarch64-linux-gnu-
BUILD  ?= build#   everything made goes below this folder
PREFIX ?= /usr/local
DEPS   ?= yes#     no: `make demo` installs nothing
TESTS_IN ?=#       folders of tests/ that build/bin/moe-tests is made from, e.g. "core tensor"; empty: all
V      ?=#         1 shows the commands
FUZZ_SECONDS ?= 60

CONFIGS := release debug sanitize fuzz
ifeq ($(filter $(config),$(CONFIGS)),)
  $(error config=$(config) is unknown; it is one of: $(CONFIGS))
endif
$(foreach option,CUDA VULKAN MPI,$(if $(filter-out 0 no,$($(option))),\
  $(error $(option)=$($(option)) is reserved: this version of moe has the CPU backend only; leave $(option) unset)))

# ---- toolchain ------------------------------------------------------------------------------------------------------

ifeq ($(origin CXX),default)
  CXX := $(CROSS)g++
endif
ifeq ($(config)$(findstring clang,$(CXX)),fuzz)
  override CXX := clang++# only clang has libFuzzer
endif
ifeq ($(origin AR),default)
  AR := $(CROSS)ar
endif
NM ?= $(CROSS)nm

target := $(firstword $(subst -, ,$(shell $(CXX) -dumpmachine 2>/dev/null)))# x86_64, aarch64
HOST   := $(shell uname -m)

# build/ holds the native release, build/<config>[-<target>]/ everything else.
ifeq ($(CROSS),)
  OUT := $(BUILD)$(if $(filter-out release,$(config)),/$(config))
else
  OUT := $(BUILD)/$(config)-$(target)
endif
OBJ := $(OUT)/obj
BIN := $(OUT)/bin
LIB := $(OUT)/lib/libmoe.a

# A binary for another processor runs under its user-mode emulator.
ifneq ($(CROSS),)
  RUN ?= qemu-$(target) -L /usr/$(patsubst %-,%,$(CROSS)) -cpu max
endif

MAKEFLAGS += --no-print-directory

# As many jobs as processors; a -j on the command line wins.
ifeq ($(MAKELEVEL),0)
  MAKEFLAGS += -j$(shell nproc 2>/dev/null || echo 2)
endif

# ---- flags ----------------------------------------------------------------------------------------------------------

# -ffp-contract=off: a compiler that fuses a*b+c where it likes gives each machine other bits. Kernels ask for FMA by name.
FLAGS := -std=c++20 -Wall -Wextra -Wshadow -ffp-contract=off -pthread -I. -Icore/include
SANITIZE := -fno-omit-frame-pointer -fno-sanitize-recover=all
FLAGS_release  := -O2 -g1 -DNDEBUG
FLAGS_debug    := -O0 -g -D_GLIBCXX_ASSERTIONS
FLAGS_sanitize := -O1 -g1 -D_GLIBCXX_ASSERTIONS -fsanitize=address,undefined $(SANITIZE)
FLAGS_fuzz     := -O1 -g1 -fsanitize=fuzzer-no-link,address,undefined $(SANITIZE)
OPT_TEST_release := -O1# doctest's macros optimise slowly and gain nothing from it
OPT_TEST_sanitize := -O0

ALL_FLAGS = $(FLAGS) $(FLAGS_$(config)) $(CXXFLAGS)
LDFLAGS_release  := -pthread
LDFLAGS_debug    := -pthread
LDFLAGS_sanitize := -pthread -fsanitize=address,undefined
LDFLAGS_fuzz     := -pthread -fsanitize=address,undefined

# One row an instruction set: the processor it needs and the flags of backends/cpu/isa/<isa>.cpp. Same table in CMakeLists.txt.
# GCC would else compute all products of a tile before it adds them, which 16 registers do not hold; clang knows no such flag.
IN_ORDER     := -fno-tree-ter -Wno-ignored-optimization-argument
# GCC 12 for ARM moves loads up before it knows how many registers that takes, and spills tiles.
LATE_LOADS   := -fno-schedule-insns -Wno-ignored-optimization-argument
ISAS_any     := scalar
ISAS_x86_64  := avx2 avx512 avx512_bf16
ISAS_aarch64 := neon neon_dot neon_i8mm
ISA_FLAGS_scalar      :=
ISA_FLAGS_avx2        := -mavx2 -mfma -mf16c $(IN_ORDER)
ISA_FLAGS_avx512      := -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni
ISA_FLAGS_avx512_bf16 := $(ISA_FLAGS_avx512) -mavx512bf16
ISA_FLAGS_neon        := $(LATE_LOADS)
ISA_FLAGS_neon_dot    := $(LATE_LOADS) -march=armv8.2-a+dotprod
ISA_FLAGS_neon_i8mm   := $(LATE_LOADS) -march=armv8.2-a+dotprod+i8mm

# -O2 or more in every config: an inline function the compiler leaves out of line becomes a weak symbol, and the linker may
# then give the whole program the copy that was compiled for AVX-512.
ISA_OPT_release  := -O3
ISA_OPT_debug    := -O2
# Checks of memory are calls and those of pointers are left out: in line they make a file of kernels take ten minutes.
ISA_OPT_sanitize := -O2 --param asan-instrumentation-with-call-threshold=0 -fno-sanitize=alignment,null,object-size,pointer-overflow
ISA_OPT_fuzz     := -O2

# moe-train and moe-evolve read .xz files where the target has liblzma (Debian: liblzma-dev). No other program links it.
XZ := $(if $(findstring /,$(shell $(CXX) -print-file-name=liblzma.so 2>/dev/null)),yes)
# They read YAML where the target has yaml-cpp (Debian: libyaml-cpp-dev).
YAML := $(if $(findstring /,$(shell $(CXX) -print-file-name=libyaml-cpp.so 2>/dev/null)),yes)
LIBS_moe_train := $(if $(XZ),-llzma) $(if $(YAML),-lyaml-cpp)
LIBS_moe_evolve := $(LIBS_moe_train)
# moe-train writes PNG files where the headers of stb are (Debian: libstb-dev).
STB := $(shell echo '\#include <stb/stb_image_write.h>' | $(CXX) -E -x c++ - > /dev/null 2>&1 && echo yes)

# ---- sources --------------------------------------------------------------------------------------------------------

find_cpp = $(if $(wildcard $(1)),$(shell find $(wildcard $(1)) -name '*.cpp' | LC_ALL=C sort))

ISA_ALL   := $(wildcard backends/cpu/isa/*.cpp)
ISA_SRCS  := $(filter $(patsubst %,backends/cpu/isa/%.cpp,$(ISAS_any) $(ISAS_$(target))),$(ISA_ALL))
ISA_KNOWN := $(patsubst %,backends/cpu/isa/%.cpp,$(ISAS_any) $(ISAS_x86_64) $(ISAS_aarch64))
ifneq ($(filter-out $(ISA_KNOWN),$(ISA_ALL)),)
  $(error $(filter-out $(ISA_KNOWN),$(ISA_ALL)): no row in the instruction set table of the Makefile)
endif

LIB_SRCS  := $(filter-out $(ISA_ALL),$(call find_cpp,core tensor backends models evolution)) $(ISA_SRCS)
MAIN_SRCS := $(sort $(wildcard tools/moe_*.cpp))
TOOL_SRCS := $(filter-out $(MAIN_SRCS),$(call find_cpp,tools))# shared by the programs, and tested
TEST_SRCS := $(filter-out tests/fuzz/% tests/embed/% tests/lint/% tests/counts/% tests/bench/%,$(call find_cpp,tests))
ifneq ($(TESTS_IN),)
  TEST_SRCS := $(filter-out %_test.cpp,$(TEST_SRCS)) $(wildcard tests/*_test.cpp) \
    $(foreach folder,$(TESTS_IN),$(filter tests/$(folder)/%_test.cpp,$(TEST_SRCS)))
endif
TESTED_TOOL_SRCS := $(if $(filter tests/tools/%,$(TEST_SRCS)),$(TOOL_SRCS))
BENCH_SRCS := tests/bench/bench_evolution.cpp tests/evolution/problems.cpp tests/evolution/gram_fixture.cpp
SELECTION_SRCS := tests/bench/bench_selection.cpp tests/evolution/planted.cpp tests/models/model_fixture.cpp
FUZZ_SRCS := $(sort $(wildcard tests/fuzz/*_fuzz.cpp))

objects = $(patsubst %.cpp,$(OBJ)/%.o,$(1))
PROGRAMS := $(foreach main,$(MAIN_SRCS),$(BIN)/$(subst _,-,$(basename $(notdir $(main)))))
STATIC_PROGRAMS := $(PROGRAMS:$(BIN)/%=$(OUT)/static/%)
FUZZERS  := $(foreach main,$(FUZZ_SRCS),$(BIN)/$(basename $(notdir $(main))))
TESTS    := $(BIN)/moe-tests

# ---- goals ----------------------------------------------------------------------------------------------------------

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all lib tests static test unit-test lint bench bench-evolution bench-selection fuzz fuzzers demo deps install clean help print-sources FORCE

Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-5s %s\n' $(1) $(2))

all: $(if $(filter fuzz,$(config)),fuzzers,lib $(PROGRAMS))
lib: $(LIB)
tests: $(TESTS)
fuzzers: $(FUZZERS)
static: $(STATIC_PROGRAMS)

# What was compiled with other flags, or archived from another list of sources, is stale.
$(OBJ)/flags.txt: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(CXX) $(ALL_FLAGS)' | cmp -s - $@ || printf '%s\n' '$(CXX) $(ALL_FLAGS)' > $@
$(OBJ)/sources.txt: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(LIB_SRCS) $(TOOL_SRCS) $(TEST_SRCS)' | cmp -s - $@ || \
	  printf '%s\n' '$(LIB_SRCS) $(TOOL_SRCS) $(TEST_SRCS)' > $@

$(call objects,$(ISA_SRCS)): FLAGS_OF_FILE = $(ISA_OPT_$(config)) $(ISA_FLAGS_$(basename $(notdir $<)))
$(call objects,$(TEST_SRCS)): FLAGS_OF_FILE = $(OPT_TEST_$(config))
$(call objects,tools/moe_train.cpp tools/moe_evolve.cpp): FLAGS_OF_FILE = $(if $(XZ),-DMOE_XZ) $(if $(YAML),-DMOE_YAML)
$(call objects,tools/moe_train.cpp tools/moe_evolve.cpp): $(OBJ)/train_libraries.txt
$(call objects,tools/png_file.cpp): FLAGS_OF_FILE = $(if $(STB),-DMOE_STB)
$(call objects,tools/png_file.cpp): $(OBJ)/stb.txt
$(OBJ)/train_libraries.txt: found = $(LIBS_moe_train)
$(OBJ)/stb.txt: found = $(STB)
$(OBJ)/train_libraries.txt $(OBJ)/stb.txt: FORCE
	@mkdir -p $(@D)
	@echo '$(found)' | cmp -s - $@ || echo '$(found)' > $@

$(OBJ)/%.o: %.cpp $(OBJ)/flags.txt
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(CXX) $(ALL_FLAGS) $(FLAGS_OF_FILE) -MMD -MP -c $< -o $@

$(LIB): $(call objects,$(LIB_SRCS)) $(OBJ)/sources.txt
	$(call say,AR,$@)
	@mkdir -p $(@D) && rm -f $@
	$(Q)$(AR) rcs $@ $(filter %.o,$^)

# $(1): what a program is linked from
link = $(Q)$(CXX) $(filter %.o,$(1)) $(LIB) $(LDFLAGS_$(config)) $(LDFLAGS)

define program_rule
$(BIN)/$(subst _,-,$(basename $(notdir $(1)))): $(call objects,$(1) $(TOOL_SRCS)) $(LIB)
	$$(call say,LINK,$$@)
	@mkdir -p $$(@D)
	$$(call link,$$^) $$(LIBS_$(basename $(notdir $(1)))) -o $$@
endef
$(foreach main,$(MAIN_SRCS),$(eval $(call program_rule,$(main))))

# One file without libraries: what to copy to a board.
$(OUT)/static/%: $(BIN)/%
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CXX) -static $(OBJ)/tools/$(subst -,_,$*).o $(call objects,$(TOOL_SRCS)) $(LIB) $(LDFLAGS_$(config)) $(LDFLAGS) \
	  $(LIBS_$(subst -,_,$*)) -o $@

$(TESTS): $(call objects,$(TEST_SRCS) $(TESTED_TOOL_SRCS)) $(LIB) $(OBJ)/sources.txt
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(call link,$^) -o $@

$(BIN)/bench-evolution: $(call objects,$(BENCH_SRCS)) $(LIB)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(call link,$^) -o $@

$(BIN)/bench-selection: $(call objects,$(SELECTION_SRCS)) $(LIB)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(call link,$^) -o $@

$(FUZZERS): $(BIN)/%: $(OBJ)/tests/fuzz/%.o $(LIB)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(call link,$^) -fsanitize=fuzzer -o $@

$(BIN)/bench-fitness: $(call objects,tests/bench/bench_fitness.cpp) $(LIB)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(call link,$^) -o $@

# TESTS_ARGS goes to doctest: make test TESTS_ARGS='-tc=*rope*'. The scripts are the tests that are not C++; clang-tidy takes
# too long for every day, LINT=no leaves the rest of the lint out as well.
LINTERS := $(sort $(wildcard tests/lint/*.sh))
SCRIPTS := $(if $(filter no,$(LINT)),,$(filter-out tests/lint/clang_tidy.sh,$(LINTERS))) $(sort $(wildcard tests/embed/*.sh tests/tools/*.sh tests/counts/*.sh))
SCRIPT_ENV = BUILD='$(OUT)' CXX='$(CXX)' NM='$(NM)' MAKE='$(MAKE)'

test: all $(TESTS)
	@$(SCRIPT_ENV) RUN='$(RUN)' tests/run_tests.sh $(SCRIPTS) -- $(TESTS) $(TESTS_ARGS)

unit-test: $(TESTS)
	@$(SCRIPT_ENV) RUN='$(RUN)' tests/run_tests.sh -- $(TESTS) $(TESTS_ARGS)

lint: lib
	@$(SCRIPT_ENV) tests/run_tests.sh $(LINTERS)

# What evaluations of a search cost on a model, and how well predictions rank. TEXTS="name=file.tok …" of moe-train tokens.
.PHONY: bench-fitness
bench-fitness: $(BIN)/bench-fitness
	$(Q)$(RUN) $(BIN)/bench-fitness $(MODEL) $(TEXTS)

# MODELS="a.gguf b.gguf" PEERS="llama.cpp=/path/llama-bench": the script says what else there is to set.
BENCH_SETTINGS := MODELS PEERS DEEP_MODELS DEEP_PEERS BENCH_ARGS DEEP_ARGS REPETITIONS THREADS
bench: all
	$(Q)BUILD='$(OUT)' CXX='$(CXX)' $(foreach v,$(BENCH_SETTINGS),$(if $($(v)),$(v)='$($(v))')) tools/bench_table.sh

# What searches reach on problems with known answers, beside the bars; fails where one is missed.
bench-evolution: $(BIN)/bench-evolution
	$(Q)$(RUN) $(BIN)/bench-evolution $(MODEL)

# Evolution against its opponents at equal budgets; without MODEL and TEXTS on planted models alone.
bench-selection: $(BIN)/bench-selection
	$(Q)$(RUN) $(BIN)/bench-selection $(MODEL) $(TEXTS) $(ARGS)

# A small search killed KILLS times and resumed: it ends as one that nobody stopped.
.PHONY: bench-evolution-kills
bench-evolution-kills: $(BIN)/moe-evolve $(BIN)/moe-train
	$(Q)BUILD='$(OUT)' RUN='$(RUN)' tests/tools/evolve_kill.sh $(or $(KILLS),200)

# The fuzzers always are built by clang, in build/fuzz/.
fuzz:
	@$(MAKE) config=fuzz fuzzers
	@BUILD='$(BUILD)/fuzz' FUZZ_SECONDS='$(FUZZ_SECONDS)' tests/run_fuzzers.sh

# The compiler may be missing when this Makefile is read, hence the second make.
deps:
	.ci/deps build test lint
demo:
	@if [ '$(DEPS)' != no ]; then .ci/deps build; fi
	@$(MAKE) all
	@BUILD='$(OUT)' tools/demo.sh

CMAKE_PACKAGE := $(PREFIX)/lib/cmake/moe
install: all
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/lib' '$(DESTDIR)$(PREFIX)/include/moe' '$(DESTDIR)$(CMAKE_PACKAGE)'
	install -m 644 $(LIB) '$(DESTDIR)$(PREFIX)/lib/'
	install -m 644 core/include/moe/* '$(DESTDIR)$(PREFIX)/include/moe/'
	install -m 644 cmake/moeConfig.cmake cmake/moeConfigVersion.cmake '$(DESTDIR)$(CMAKE_PACKAGE)/'
	$(if $(PROGRAMS),install -m 755 $(PROGRAMS) '$(DESTDIR)$(PREFIX)/bin/')
	$(if $(wildcard models/zoo),install -d '$(DESTDIR)$(PREFIX)/share/moe' && cp -R models/zoo '$(DESTDIR)$(PREFIX)/share/moe/')

clean:
	rm -rf '$(BUILD)'

# What tests/lint/source_lists.sh compares with CMake's list: a kind and a file a line.
print-sources:
	@printf 'library %s\n' $(LIB_SRCS)
	@$(if $(MAIN_SRCS),printf 'program %s\n' $(MAIN_SRCS))
	@$(if $(TOOL_SRCS),printf 'tool %s\n' $(TOOL_SRCS))
	@$(if $(TEST_SRCS),printf 'test %s\n' $(TEST_SRCS))
	@$(foreach isa,$(basename $(notdir $(ISA_SRCS))),echo "isa $(isa) $(strip $(ISA_FLAGS_$(isa)))";)

define HELP
make                build/bin/moe-* and build/lib/libmoe.a
make demo           install what is missing, build, run the bundled model
make test           build and run every test         TESTS_ARGS='-tc=*rope*' selects
make unit-test      only build/bin/moe-tests
make static         build/static/moe-*: programs that need no library, for another machine with CROSS=
make lint           layers, symbols, format, clang-tidy on changed files
make deps           install through apt what building, testing and linting need
make bench          speed on this machine          MODELS="a.gguf …" PEERS="llama.cpp=/path/llama-bench …"
make bench-fitness  cost of a search's evaluations, rank of predictions   MODEL=a.gguf TEXTS="name=a.tok …"
make bench-evolution  what searches reach on problems with known answers, and their speed, beside the bars   MODEL=a.gguf
make bench-evolution-kills  kill -9 of a search at 200 random moments: all resume to the same front   KILLS=200
make bench-selection  evolution beside what it has to beat, equal budgets   MODEL=a.gguf TEXTS="name=a.tok …" ARGS="--seeds 11 …"
make fuzz           every fuzz target, FUZZ_SECONDS=60 each, with clang
make install        PREFIX=/usr/local: programs, library, headers, CMake package, models/zoo
make clean          remove $(BUILD)/

config=release|debug|sanitize|fuzz   CROSS=aarch64-linux-gnu-   BUILD=folder   CXX=clang++   V=1 shows commands
endef
export HELP
help:
	@printf '%s\n' "$$HELP"

-include $(patsubst %.cpp,$(OBJ)/%.d,$(LIB_SRCS) $(MAIN_SRCS) $(TOOL_SRCS) $(TEST_SRCS) $(FUZZ_SRCS) $(filter-out $(TEST_SRCS),$(sort $(BENCH_SRCS) $(SELECTION_SRCS))))

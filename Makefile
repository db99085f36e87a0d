# initd: build, test and look at it. `make` alone lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules
.NOTPARALLEL:

OUT := out
BIN := $(OUT)/bin
TOOLS := $(OUT)/cache/bin
STATICCHECK := $(TOOLS)/staticcheck-v0.8.2

# The binaries run as PID 1 in an initramfs, on the kernel's own amd64: static, no cgo, the same bytes on every machine.
export CGO_ENABLED := 0
export GOOS := linux
export GOARCH := amd64
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# When the commit was made: certainly past, so the clock of a machine that boots it cannot be before.
BUILT ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
LDFLAGS := -s -w -buildid= -X main.version=$(VERSION) -X main.built=$(BUILT)
BUILD := go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'
# init lives as long as the machine: on a kernel that gives huge pages unasked, its heap of 600 KiB would occupy 4 MiB. The
# runtime knows this setting by its environment only, which the kernel makes, and by the value that the linker puts in.
BUILD_INIT := go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS) -X runtime.godebugDefault=disablethp=1'

# Packages whose tests boot machines; the rest is quick and needs no kernel.
VM_PACKAGES := ./qemu-tests/vm ./qemu-tests/scenario ./qemu-tests/fault
UNIT_PACKAGES = $(shell go list ./... | grep -v -x -e initd/qemu-tests/vm -e initd/qemu-tests/scenario -e initd/qemu-tests/fault)

TIME ?= 60s
FUZZ_SAMPLE ?= 2s
SOAK ?= 3

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

##@ build

.PHONY: build
build: ## leave out/bin/init, out/bin/initd, out/bin/initd-image and out/bin/v2v, with its old names v2v-diskmanager and mechadora
	@mkdir -p $(BIN)
	@$(BUILD_INIT) -o $(BIN)/init ./initd/pid1
	@$(BUILD) -o $(BIN)/initd ./initd
	@$(BUILD) -o $(BIN)/initd-image ./images
	@$(BUILD) -o $(BIN)/v2v ./v2v
	@ln -sf v2v $(BIN)/v2v-diskmanager
	@ln -sf v2v $(BIN)/mechadora
	@$(MAKE) --no-print-directory docs

.PHONY: docs
docs: ## leave out/share/man/man1 and out/share/completions, written by the programs themselves
	@test -x $(BIN)/initd || $(BUILD) -o $(BIN)/initd ./initd
	@test -x $(BIN)/v2v || $(BUILD) -o $(BIN)/v2v ./v2v
	@rm -rf $(OUT)/share
	@$(BIN)/initd docs man $(OUT)/share/man/man1
	@$(BIN)/initd docs completions $(OUT)/share/completions
	@$(BIN)/v2v docs man $(OUT)/share/man/man1
	@$(BIN)/v2v docs completions $(OUT)/share/completions

.PHONY: build-guest
build-guest: ## compile what only runs inside test machines, tests with the tag guest included
	@mkdir -p $(OUT)/guest
	@$(BUILD) -o $(OUT)/guest/ $$(go list -f '{{if eq .Name "main"}}{{.ImportPath}}{{end}}' ./qemu-tests/...)
	@go vet -tags guest ./...

##@ test

.PHONY: test
test: build test-unit fuzz-sample test-vm ## everything: unit tests, a sample of each fuzz target, all machines

.PHONY: test-unit
test-unit: packages kernel ## the tests that need no machine: seconds
	@tests/go-test.sh -skip '^TestSoak' -- $(UNIT_PACKAGES)

.PHONY: test-vm
test-vm: packages kernel debian-root ## the harness's own test and all scenarios, in QEMU
	@qemu-tests/run.sh -skip '^(TestDemo$$|TestSoak)' -- $(VM_PACKAGES)

.PHONY: scenario
scenario: packages kernel debian-root ## run the scenarios whose names match NAME=regexp, with their story
	@qemu-tests/run.sh -run '$(NAME)' -- ./qemu-tests/scenario ./qemu-tests/fault

.PHONY: fuzz
fuzz: packages ## fuzz every target for TIME=60s each
	@bootstrap/fuzz.sh $(TIME)

.PHONY: fuzz-sample
fuzz-sample: packages
	@bootstrap/fuzz.sh $(FUZZ_SAMPLE)

.PHONY: soak
soak: soak-fuzz soak-kill soak-repeat ## all three of the following: most of a day

.PHONY: soak-fuzz
soak-fuzz: TIME = 1h
soak-fuzz: packages ## fuzz what reads headers of disks (LUKS, and what is looked at to find it) for TIME=1h a target
	@bootstrap/fuzz.sh $(TIME) '^hw/luks |^hw/block/media Fuzz(LUKS|Probe)$$'

.PHONY: soak-kill
soak-kill: build packages kernel ## kill the orchestrator and its children at every call; NAME=regexp: of the calls
	@STRICT=1 SOAK_POINTS='$(NAME)' qemu-tests/run.sh -run '^TestSoakKilledAtEachPoint$$' -timeout 24h -- ./qemu-tests/fault

.PHONY: soak-repeat
soak-repeat: build packages kernel debian-root ## the unit tests, shuffled, and the scenarios, SOAK=3 times
	@go test -run '^TestSoak' -timeout 24h ./v2v/...
	@go test -count $(SOAK) -shuffle on -skip '^TestSoak' -timeout 24h $(UNIT_PACKAGES)
	@STRICT=1 qemu-tests/run.sh -skip '^TestSoak' -count $(SOAK) -timeout 24h -- $(VM_PACKAGES)

.PHONY: bench
bench: build packages kernel ## measure, side by side with what users would pick instead
	@go test -run '^$$' -bench . -benchtime 1x -timeout 4h $(shell go list ./... | grep -e /bench$$ || echo ./qemu-tests/vm)

.PHONY: lint
lint: $(STATICCHECK) ## gofmt, go vet, staticcheck, the import rules and the package docs
	@unformatted=$$(git ls-files -co --exclude-standard '*.go' | xargs -r gofmt -l); \
	if [[ -n $$unformatted ]]; then echo "gofmt -w these: $$unformatted" >&2; exit 1; fi
	@go vet ./...
	@go vet -tags guest ./...
	@$(STATICCHECK) ./...
	@$(STATICCHECK) -tags guest ./...
	@go test .

##@ look at it

.PHONY: demo
demo: build packages kernel ## boot the example appliance, convert and deploy a disk; leave out/demo/{report.json,boot.svg,console.log}
	@mkdir -p $(OUT)/demo
	@qemu-tests/run.sh -run '^TestDemo$$' -- ./qemu-tests/scenario

##@ machine

.PHONY: bootstrap
bootstrap: packages kernel debian-root $(STATICCHECK) ## install and fetch all that the other targets need

.PHONY: packages
packages:
	@bootstrap/packages.sh

.PHONY: kernel
kernel: packages
	@bootstrap/kernel.sh

.PHONY: debian-root
debian-root: packages
	@bootstrap/debian-root.sh

$(STATICCHECK):
	@echo "bootstrap: building staticcheck"
	@GOBIN=$(abspath $(TOOLS)) GOFLAGS= go install honnef.co/go/tools/cmd/staticcheck@$(subst staticcheck-,,$(notdir $@))
	@mv $(TOOLS)/staticcheck $@

.PHONY: clean
clean: ## remove what was built; downloads in out/cache stay
	@find $(OUT) -mindepth 1 -maxdepth 1 ! -name cache -exec rm -rf {} + 2>/dev/null || true

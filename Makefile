# make run    the main job: the shipped model goes on with a text, and is measured
# make test   all tests
# make metal  on a Mac: Apple's compiler, and the suite of devices on its GPU
# The others are for contributors. Everything needs Go alone, but race, which
# needs a C compiler; what is fetched comes by name through Go's module proxy.

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
PLATFORMS   := linux/amd64 linux/arm64 darwin/arm64
FUZZ        := 100000x
CALIBRATION := testdata/calibration.txt

# Whether the suite on a Mac's GPU may be skipped for want of one: 0 or 1.
REQUIRE_METAL := 1

.PHONY: run build test race arm64 metal clang generate check prove testdata quality bench bench-cuda microbench lint fuzz

run: build
	bin/marlingen generate --prompt 'func (r *Reader) Read(' --max-tokens 64 --stats
	@echo
	bin/marlingen run --repeat 1
	@echo
	bin/marlingen perplexity --windows 4

build:
	@go build -o bin/marlingen ./cmd/marlingen

test: clang
	go test ./...

# The detector doubles the time of the command's sessions, to near the ten
# minutes that go test gives a package.
race: clang
	go test -race -timeout 30m ./...

# The tests of 64-bit Arm's assembly, under emulation where the machine is another.
arm64:
	@if [ "$$(go env GOHOSTARCH)" = arm64 ]; then run=; \
	elif command -v qemu-aarch64-static >/dev/null; then run="-exec qemu-aarch64-static"; \
	else echo "no qemu-aarch64-static; apt install qemu-user-static"; exit 1; fi; \
	GOARCH=arm64 CGO_ENABLED=0 go test $$run ./runtime/cpu/simd ./runtime/cpu/limits ./moe/logits

# Compile all sources with Apple's compiler, a warning being an error, and run
# the suite on the GPU, from sources and as compiled; then again while Metal
# checks what it is told and what kernels touch.
HARDWARE := MARLINGEN_REQUIRE_METAL=$(REQUIRE_METAL) MARLINGEN_METALLIB=$(CURDIR)/bin/marlin.metallib \
	go test -count=1 -v -run '^TestHardware$$' ./runtime/metal
metal:
	@test "$$(uname)" = Darwin || { echo "make metal needs a Mac"; exit 1; }
	@mkdir -p bin
	go run ./cmd/marlingen compile --out bin/marlin.metallib
	$(HARDWARE)
	MTL_DEBUG_LAYER=1 MTL_SHADER_VALIDATION=1 $(HARDWARE)

# The tests of Metal text need clang 17 or newer, and are skipped without it.
# Where Debian's packages can be installed without asking, it is.
clang:
	@if command -v $${MARLINGEN_CLANG:-clang-19} >/dev/null; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then echo "no clang-19: tests of Metal text may be skipped"; exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then sudo=; elif sudo -n true 2>/dev/null; then sudo="sudo -n"; \
	else echo "no clang-19: tests of Metal text may be skipped; apt install clang-19"; exit 0; fi; \
	$$sudo apt-get update -qq; $$sudo apt-get install -y -qq clang-19 >/dev/null || echo "clang-19 could not be installed: tests of Metal text may be skipped"

# Hold every generated kernel to all that can be proved on this machine.
prove: clang
	go run ./cmd/marlingen prove

# Write generated/ from specs/ and templates/, and assembly from its generators.
generate:
	go generate ./...

# Report what generate would change.
check:
	go run ./cmd/marlingen regenerate --check
	go run ./cmd/marlingen schema --out specs/schemas --check
	go run ./cmd/marlingen compile cuda --check
	@set -e; for d in moe/logits runtime/cpu/limits runtime/cpu/simd; do \
		t=$$(mktemp -d); cp -r $$d/_asm $$t; echo "assembly of $$d"; \
		(cd $$t/_asm && go run $$(sed -n 's|^//go:generate go run -C _asm ||p' "$(CURDIR)/$$d/"*.go)); \
		for f in $$t/*.*; do cmp $$f $$d/$${f##*/} || { echo "go generate ./$$d writes it anew"; exit 1; }; done; \
		rm -r $$t; \
	done

# Write the shipped checkpoint anew from its unquantised source.
testdata: build
	rm -rf testdata/glm-tiny-mixed
	bin/marlingen quantize --model testdata/glm-tiny --out testdata/glm-tiny-mixed --profile glm47 --calibrate $(CALIBRATION)

# Measure what quantising costs, anew; takes a quarter of an hour.
quality: build
	bin/marlingen quality --model testdata/glm-tiny --calibrate $(CALIBRATION) --markdown docs/quality.md

# Time layers against what the machine can do. Writes docs/cpu-speed.md.
bench:
	go run ./cmd/marlingen bench --markdown docs/cpu-speed.md --plot docs/cpu-scaling.svg

# What tests and times an NVIDIA GPU, in a folder to take to a machine that has
# one: bin/bench-cuda/run.sh. It needs neither Go nor a network there.
bench-cuda:
	CGO_ENABLED=0 GOOS=linux go build -trimpath -ldflags=-s -o bin/bench-cuda/marlingen ./cmd/marlingen
	CGO_ENABLED=0 GOOS=linux go test -c -trimpath -ldflags=-s -o bin/bench-cuda/cuda.test ./runtime/cuda
	cp .ci/cuda bin/bench-cuda/run.sh

# Benchmarks of the parts, in Go's format, for benchstat.
microbench:
	go test -run '^$$' -bench . -benchtime 0.5s ./...

lint:
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }
	@set -e; for p in $(PLATFORMS); do echo "vet and build $$p"; \
		CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} go vet ./...; \
		CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} go build ./...; done
	go run $(STATICCHECK) ./...

# Every fuzz target of every package, FUZZ executions each. Not a time: at its end
# a target may fail for nothing but that, golang/go#75804, fixed in Go 1.27.
fuzz:
	@set -e; for pkg in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$target"; \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZ) $$pkg; \
		done; \
	done

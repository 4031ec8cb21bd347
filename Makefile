# make run    the main job: the shipped model's MoE layers through the fairway
# make test   all tests
# The others are for contributors. Everything needs Go alone, but race, which
# needs a C compiler; what is fetched comes by name through Go's module proxy.

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
PLATFORMS   := linux/amd64 linux/arm64 darwin/arm64
FUZZTIME    := 10s

.PHONY: run test race generate check testdata bench lint fuzz

run:
	go run ./cmd/marlingen run

test:
	go test ./...

race:
	go test -race ./...

# Write generated/ from specs/ and templates/.
generate:
	go generate ./...

# Report what generate would change.
check:
	go run ./cmd/marlingen regenerate --check

# Write the shipped checkpoint anew from its unquantised source.
testdata:
	go build -o bin/marlingen ./cmd/marlingen
	rm -rf testdata/glm-tiny-mixed
	bin/marlingen quantize --model testdata/glm-tiny --out testdata/glm-tiny-mixed --profile glm47

# Benchmarks, in Go's format, for benchstat.
bench:
	go test -run '^$$' -bench . -benchtime 0.5s ./...

lint:
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }
	@set -e; for p in $(PLATFORMS); do echo "vet and build $$p"; \
		CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} go vet ./...; \
		CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} go build ./...; done
	go run $(STATICCHECK) ./...

# Every fuzz target of every package, for FUZZTIME each.
fuzz:
	@set -e; for pkg in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$target"; \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

# SPDX-License-Identifier: Apache-2.0
# make build   bin/sealift, bin/sealift-agent, the example's programs, and the Agent images whose parts are here
# make demo    build, then the main job from start to end on an emulated device, then in each of the seven modes
# make test    everything CI checks: set-up, formatting, vet, linter, unit and end-to-end tests, cross builds
# make matrix  build, then the 84 deployments, with their table; make e2e runs them too
# make check   the inner loop: vet, linter and the quick tests
# make fuzz    each fuzz target for FUZZTIME (default 30s)

GO       ?= go
GOFLAGS  := -trimpath -buildvcs=false
FUZZTIME ?= 30s
export CGO_ENABLED = 0

.PHONY: build demo test check setup lint unit e2e matrix cross fuzz clean

build:
	$(GO) build $(GOFLAGS) -ldflags '-s -w' -o bin/ ./cmd/sealift ./cmd/sealift-agent
	$(GO) build $(GOFLAGS) -ldflags '-s -w' -o bin/examples/ ./examples/...
	@if [ "$$($(GO) env GOOS)" = linux ]; then bin/sealift image build -o bin/images --kernel .cache/kernel >/dev/null; fi

demo: build
	bin/sealift demo
	bin/sealift demo --mode all

test: setup lint unit build e2e cross

check: lint unit

setup:
	sh scripts/setup.sh

lint:
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "not formatted with gofmt:"; echo "$$out"; exit 1; fi
	$(GO) vet -tags e2e ./...
	GOFLAGS=-tags=e2e $(GO) tool staticcheck ./...

unit:
	$(GO) test -timeout 10m ./...

# The tests across processes: real binaries, real sockets, kill -9, and the matrix. They need what setup and build make.
# SEALIFT_LEAK_ROUNDS=22 deploys 200 times in a row, SEALIFT_MATRIX=full plants every fault in every cell and mode, and follows the
# life of a deployment in all twelve cells.
e2e:
	$(GO) test -tags e2e -count=1 -timeout 25m ./test/...

matrix: build
	SEALIFT_MATRIX_TABLE=$(CURDIR)/bin/matrix.txt $(GO) test -tags e2e -count=1 -timeout 25m -run 'TestMatrix|TestInvalidPairs' ./test/matrix
	@cat bin/matrix.txt

cross:
	GOOS=linux GOARCH=arm64 $(GO) build $(GOFLAGS) -o /dev/null ./cmd/sealift
	GOOS=linux GOARCH=arm64 $(GO) build $(GOFLAGS) -o /dev/null ./cmd/sealift-agent
	GOOS=darwin GOARCH=arm64 $(GO) build $(GOFLAGS) -o /dev/null ./cmd/sealift

fuzz:
	sh scripts/fuzz.sh $(FUZZTIME)

clean:
	rm -rf bin

# The same commands for people and for CI.

.DEFAULT_GOAL := help
.PHONY: help run demo test unit it frontends producers check bench bench-check bench-agree growth-check picture fmt

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

run: ## Tidegate with a NATS server, moving prices and a page; Ctrl-C ends it all
	@server=$$(nats/get-nats-server.sh) && TIDEGATE_NATS_SERVER="$$server" exec cargo run --locked -- dev

demo: ## one of five frontends, fed, with a page that plays it: make demo SEED=sentio; Ctrl-C ends it all
	@exec examples/demo/run.sh $(SEED)

test: ## everything: checks, container files, unit, architecture, integration, browser, Autobahn, frontends
	@tests/setup.sh
	@$(MAKE) --no-print-directory check
	@node --test-reporter=spec tests/containers/check.mjs
	@server=$$(nats/get-nats-server.sh) && \
	TIDEGATE_NATS_SERVER="$$server" cargo test --workspace --locked --no-fail-fast
	@$(MAKE) --no-print-directory bench-check
	@$(MAKE) --no-print-directory frontends

unit: ## the unit tests of the pure crates: seconds, without NATS and without a C compiler
	cargo test --locked --package tidegate-document --package tidegate-protocol --package tidegate-vocabulary

it: ## integration tests whose names have T in them: make it T=drain
	@server=$$(nats/get-nats-server.sh) && TIDEGATE_NATS_SERVER="$$server" cargo test --locked --test integration -- $(T)

frontends: ## the pages and clients of every vocabulary, on two nodes, and what each switch opens; SEEDS=folder: the documents' snippets too
	@cargo build --locked
	@server=$$(nats/get-nats-server.sh) && target=$${CARGO_TARGET_DIR:-target} && \
	TIDEGATE_NATS_SERVER="$$server" tests/frontends/all.py --tidegate "$$target/debug/tidegate" --nodes 2 \
	$${SEEDS:+--snippets "$$SEEDS"} && \
	TIDEGATE_NATS_SERVER="$$server" tests/frontends/all.py --tidegate "$$target/debug/tidegate" --compatible

producers: ## the producers of all languages: each says what the others say; fetches their packages, and needs Go and Node
	@"$$(tests/setup.sh --python)" examples/producers/check.py

check: ## formatting, lints, documentation
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	@# Tests turn on test-hooks. The product as it is shipped, and without its load generator:
	cargo clippy --workspace --locked -- -D warnings
	cargo clippy --no-default-features --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked

bench: ## measures everything in docs/BENCHMARKS.md again, and draws its pictures; ten minutes
	@cargo build --release --locked
	@server=$$(nats/get-nats-server.sh) && target=$${CARGO_TARGET_DIR:-target} && \
	TIDEGATE_NATS_SERVER="$$server" "$$target/release/tidegate" bench all --docs docs

instructions = cargo run --locked --profile instructions --features instructions --bin instructions --

bench-check: ## what a publication costs, in instructions: a mistake if it is 3 % more than docs/benchmarks/instructions.toml says
	@if command -v valgrind > /dev/null; then $(instructions); \
	else echo "SKIPPED: what a publication costs is not counted, because valgrind is not installed"; fi

bench-agree: ## writes docs/benchmarks/instructions.toml anew: what is counted now is agreed
	@$(instructions) --write

growth-check: ## twice as long a message of a client costs at most twice the instructions, for every message of every vocabulary
	@$(instructions) growth

picture: ## draws docs/architecture/house.svg, the picture in docs/ARCHITECTURE.md, from house.dot; needs Graphviz
	@docs/architecture/draw.sh

fmt: ## formats the Rust sources
	cargo fmt --all

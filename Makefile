# The same commands for people and for CI.

.DEFAULT_GOAL := help
.PHONY: help run demo test unit it frontends producers check format-check lint doc repository-check msrv deny advisories \
	typos links fuzz-replay bench bench-check bench-agree growth-check picture changelog fmt

# $(call needs,COMMAND,HOW TO INSTALL IT) stops when the command is not there.
needs = @command -v $(1) > /dev/null || { echo 'error: $(1) is not installed; $(2)' >&2; exit 1; }

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

run: ## Tidegate with a NATS server, moving prices and a page; Ctrl-C ends it all
	@server=$$(nats/get-nats-server.sh) && TIDEGATE_NATS_SERVER="$$server" exec cargo run --locked -- dev

demo: ## one of five frontends, fed, with a page that plays it: make demo SEED=sentio; Ctrl-C ends it all
	@exec examples/demo/run.sh $(SEED)

test: ## everything: checks, container and workflow files, unit, architecture, integration, browser, Autobahn, frontends
	@tests/setup.sh
	@$(MAKE) --no-print-directory check
	@node --test-reporter=spec tests/containers/check.mjs
	@$(MAKE) --no-print-directory repository-check
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

check: format-check lint doc ## formatting, lints, documentation

format-check: ## formatting
	cargo fmt --all --check

lint: ## Clippy on both feature sets: with the load generator and without it
	cargo clippy --workspace --all-targets --locked -- -D warnings
	@# Tests turn on test-hooks. The product as it is shipped, and without its load generator:
	cargo clippy --workspace --locked -- -D warnings
	cargo clippy --no-default-features --locked -- -D warnings

doc: ## the documentation of the code, private items too; a broken link fails
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked

repository-check: ## workflows, templates, release notes and the words of documents and comments; needs Node.js 20
	$(call needs,node,install Node.js 20 or newer)
	$(call needs,npm,install npm: it comes with Node.js)
	@test -d tests/containers/node_modules || npm ci --prefix tests/containers --no-audit --no-fund --ignore-scripts
	@node --test-reporter=spec tests/repository/check.mjs
	@node --test-reporter=spec tests/repository/words.mjs

msrv: ## builds with the oldest Rust that is supported, the rust-version of Cargo.toml; rustup fetches it
	$(call needs,rustup,see https://rustup.rs)
	rustup run --install "$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)" cargo check --workspace --locked

deny: ## licences, duplicates and sources of dependencies, as deny.toml says; needs cargo-deny
	$(call needs,cargo-deny,cargo install cargo-deny --locked)
	cargo deny --workspace check --deny unnecessary-skip --deny unmatched-skip bans licenses sources

advisories: ## known vulnerabilities in dependencies; needs cargo-deny and the network
	$(call needs,cargo-deny,cargo install cargo-deny --locked)
	cargo deny --workspace check advisories

typos: ## spelling, as _typos.toml says; needs typos
	$(call needs,typos,cargo install typos-cli --locked or pipx install typos)
	typos

links: ## every link of every document, those to other sites too; needs lychee and the network
	$(call needs,lychee,cargo install lychee --locked)
	git ls-files -z '*.md' | xargs -0 lychee --no-progress --include-fragments --exclude-loopback --

fuzz-replay: ## runs each fuzz target on its files in fuzz/seeds, and on fuzz/corpus if you have one; needs a C++ compiler
	$(call needs,c++,install a C++ compiler such as g++)
	@cp Cargo.lock fuzz/Cargo.lock
	@for target in $(notdir $(wildcard fuzz/seeds/*)); do \
		cargo run --manifest-path fuzz/Cargo.toml --target-dir "$${CARGO_TARGET_DIR:-target}" --bin "$$target" -- \
			$$(find fuzz/seeds/$$target fuzz/corpus/$$target -type f 2> /dev/null) || exit 1; \
	done

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

changelog: ## prints the release notes that wait in changelog.d, by kind
	@changelog.d/print.sh

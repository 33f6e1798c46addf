# The commands for development. CI runs the same ones.

.DEFAULT_GOAL := help
.PHONY: help run demo test unit it simulate autobahn-tls tls-audit frontends producers check format-check lint doc repository-check msrv deny advisories \
	typos links fuzz-replay bench bench-check bench-agree growth-check picture changelog fmt

# $(call needs,COMMAND,HOW TO INSTALL IT) fails if the command is not installed.
needs = @command -v $(1) > /dev/null || { echo 'error: $(1) is not installed; $(2)' >&2; exit 1; }

help: ## prints this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 18

run: ## runs Tidegate with a NATS server, moving prices and a page; Ctrl-C stops all of it
	@server=$$(nats/get-nats-server.sh) && TIDEGATE_NATS_SERVER="$$server" exec cargo run --locked -- dev

demo: ## runs one of five frontends with its data and a page: make demo SEED=sentio; Ctrl-C stops all of it
	@exec examples/demo/run.sh $(SEED)

test: ## runs all tests: checks, container and workflow files, unit, architecture, integration, browser, Autobahn, frontends
	@tests/setup.sh
	@$(MAKE) --no-print-directory check
	@node --test-reporter=spec tests/containers/check.mjs
	@$(MAKE) --no-print-directory repository-check
	@server=$$(nats/get-nats-server.sh) && \
	TIDEGATE_NATS_SERVER="$$server" cargo test --workspace --locked --no-fail-fast
	@$(MAKE) --no-print-directory bench-check
	@$(MAKE) --no-print-directory frontends

unit: ## runs the unit tests of the pure crates, in seconds; needs neither NATS nor a C compiler
	cargo test --locked --package tidegate-document --package tidegate-protocol --package tidegate-vocabulary

it: ## runs the integration tests with T in their names: make it T=drain
	@server=$$(nats/get-nats-server.sh) && TIDEGATE_NATS_SERVER="$$server" cargo test --locked --test integration -- $(T)

simulate: ## runs SEEDS seeds of the simulation from FIRST on, optimized: make simulate SEEDS=100000
	@TIDEGATE_SIMULATION_SEEDS=$${SEEDS:-20000} TIDEGATE_SIMULATION_SEED=$${FIRST:-0} \
	cargo test --locked --profile simulation --test simulation -- --nocapture no_seed_breaks_a_rule

autobahn-tls: ## runs all cases of `make test` of the Autobahn suite over TLS
	@server=$$(nats/get-nats-server.sh) && TIDEGATE_AUTOBAHN=sample TIDEGATE_NATS_SERVER="$$server" \
	cargo test --locked --test integration -- autobahn_passes_over_tls

tls-audit: ## judges versions, cipher suites and certificates of a node with testssl.sh; needs testssl.sh and openssl
	@cargo build --locked
	@server=$$(nats/get-nats-server.sh) && target=$${CARGO_TARGET_DIR:-target} && \
	TIDEGATE_NATS_SERVER="$$server" tests/tls/audit.sh "$$target/debug/tidegate"

frontends: ## tests pages and clients of every vocabulary on two nodes, the access that each switch opens, and examples/services; SEEDS=folder: snippets of documents too
	@cargo build --locked
	@server=$$(nats/get-nats-server.sh) && target=$${CARGO_TARGET_DIR:-target} && \
	TIDEGATE_NATS_SERVER="$$server" tests/frontends/all.py --tidegate "$$target/debug/tidegate" --nodes 2 \
	$${SEEDS:+--snippets "$$SEEDS"} && \
	TIDEGATE_NATS_SERVER="$$server" tests/frontends/all.py --tidegate "$$target/debug/tidegate" --compatible && \
	TIDEGATE_NATS_SERVER="$$server" "$$(tests/setup.sh --python)" tests/frontends/services.py --tidegate "$$target/debug/tidegate"

producers: ## checks that the producers of all languages publish the same; downloads their packages; needs Go and Node.js
	@"$$(tests/setup.sh --python)" examples/producers/check.py

check: format-check lint doc ## checks formatting, lints and documentation

format-check: ## checks the formatting of the Rust sources
	cargo fmt --all --check

lint: ## runs Clippy on all feature sets: for tests, as shipped, and without the load generator
	cargo clippy --workspace --all-targets --locked -- -D warnings
	@# The tests turn on test-hooks. These two are the product as shipped, and without its load generator:
	cargo clippy --workspace --locked -- -D warnings
	cargo clippy --no-default-features --locked -- -D warnings

doc: ## builds the documentation of the code, private items too; fails on a broken link
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked

repository-check: ## checks workflows, templates, release notes, and the words of documents and comments; needs Node.js 20
	$(call needs,node,install Node.js 20 or newer)
	$(call needs,npm,install npm; it comes with Node.js)
	@test -d tests/containers/node_modules || npm ci --prefix tests/containers --no-audit --no-fund --ignore-scripts
	@node --test-reporter=spec tests/repository/check.mjs
	@node --test-reporter=spec tests/repository/words.mjs

msrv: ## checks the build with the oldest supported Rust, the rust-version of Cargo.toml; rustup downloads it
	$(call needs,rustup,see https://rustup.rs)
	rustup run --install "$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)" cargo check --workspace --locked

deny: ## checks licences, duplicates and sources of dependencies against deny.toml; needs cargo-deny
	$(call needs,cargo-deny,cargo install cargo-deny --locked)
	cargo deny --workspace check --deny unnecessary-skip --deny unmatched-skip bans licenses sources

advisories: ## checks dependencies for known vulnerabilities; needs cargo-deny and the network
	$(call needs,cargo-deny,cargo install cargo-deny --locked)
	cargo deny --workspace check advisories

typos: ## checks the spelling, with the exceptions of _typos.toml; needs typos
	$(call needs,typos,cargo install typos-cli --locked or pipx install typos)
	typos

links: ## checks every link of every document, to other sites too; needs lychee and the network
	$(call needs,lychee,cargo install lychee --locked)
	git ls-files -z '*.md' | xargs -0 lychee --no-progress --include-fragments --exclude-loopback --

fuzz-replay: ## runs each fuzz target on its files in fuzz/seeds, and on fuzz/corpus if you have one; needs a C++ compiler
	$(call needs,c++,install a C++ compiler such as g++)
	@cp Cargo.lock fuzz/Cargo.lock
	@for target in $(notdir $(wildcard fuzz/seeds/*)); do \
		cargo run --manifest-path fuzz/Cargo.toml --target-dir "$${CARGO_TARGET_DIR:-target}" --bin "$$target" -- \
			$$(find fuzz/seeds/$$target fuzz/corpus/$$target -type f 2> /dev/null) || exit 1; \
	done

bench: ## repeats all measurements of docs/BENCHMARKS.md, and draws its charts; ten minutes
	@cargo build --release --locked
	@server=$$(nats/get-nats-server.sh) && target=$${CARGO_TARGET_DIR:-target} && \
	TIDEGATE_NATS_SERVER="$$server" "$$target/release/tidegate" bench all --docs docs

instructions = cargo run --locked --profile instructions --features instructions --bin instructions --

bench-check: ## counts the instructions per publication; fails at 3 % more than docs/benchmarks/instructions.toml has; needs valgrind
	@if command -v valgrind > /dev/null; then $(instructions); \
	else echo "SKIPPED: the instructions per publication are not counted, because valgrind is not installed"; fi

bench-agree: ## counts the same, and writes the counts to docs/benchmarks/instructions.toml as agreed
	@$(instructions) --write

growth-check: ## checks for every vocabulary that a client message twice as long costs at most twice the instructions
	@$(instructions) growth

picture: ## draws docs/architecture/overview.svg, the picture in docs/ARCHITECTURE.md, from overview.dot; needs Graphviz
	@docs/architecture/draw.sh

fmt: ## formats the Rust sources
	cargo fmt --all

changelog: ## prints the release notes in changelog.d, by kind
	@changelog.d/print.sh

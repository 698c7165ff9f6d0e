# The project's commands. `make` lists them; .ci/run calls `make test`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check schemathesis bench torture-kill torture-power torture-points torture-disk deb check-deb check-container browser release-check fmt doc

# rustup installs into the home folder, Debian keeps daemons in sbin: an ordinary user's PATH may lack either.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin:$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

phase := @.ci/phase
# The private Tor network is part of the demo and the tests, never of a release package.
testnet := --features testnet
target_dir = $(or $(CARGO_TARGET_DIR),target)
lab = $(or $(TIDEGATE_LAB),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tidegate-lab)
package = $(target_dir)/debian/tidegate.deb

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  READINGS=N and NETWORK=private|public are for demo; PROPTEST_CASES=N for release-check; ROUNDS=N and SEED=N for the torture commands;'
	@echo '  CARGO_TARGET_DIR, TIDEGATE_LAB (tools that setup builds) and ADVISORY_DB (RustSec data) name folders.'

# Builds the tests' program beside ours, so that the dependencies are built as the tests need them: once for both commands.
demo: ## the paper's experiment on this machine, with real parts (READINGS=, NETWORK=public for the real Tor network)
	$(phase) 'setup' .ci/setup demo
	$(phase) 'build' cargo build --locked --workspace $(testnet) --bin tidegate --test it
	@$(target_dir)/debug/tidegate demo $(if $(READINGS),--readings '$(READINGS)') $(if $(NETWORK),--network '$(NETWORK)')

test: ## everything: format, lints, docs, advisories, all tests on the real parts
	$(phase) 'setup' .ci/setup test
	$(phase) 'format' cargo fmt --all -- --check
	$(phase) 'advisories' .ci/advisories
	$(phase) 'lints' cargo clippy --locked --workspace --all-targets $(testnet) -- -D warnings
	$(phase) 'docs' env RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --workspace $(testnet)
	$(phase) 'unit, property and actor tests' cargo test --locked --workspace $(testnet) --lib --bins
	$(phase) 'tests on the real parts, one at a time' cargo test --locked --workspace $(testnet) --test it -- --test-threads 1

check: ## the fast lane: format, and lints and tests of schemas/ and actors/
	$(phase) 'setup' .ci/setup build
	$(phase) 'format' cargo fmt --all -- --check
	$(phase) 'lints of schemas and actors' cargo clippy --locked -p tidegate-schemas -p tidegate-actors --all-targets -- -D warnings
	$(phase) 'tests of schemas and actors' cargo test --locked -p tidegate-schemas -p tidegate-actors -- --skip four_weeks

schemathesis: ## requests made from the OpenAPI description, right and wrong: no server errors, every answer as described (EXAMPLES=100, SEED=)
	$(phase) 'setup' .ci/setup api
	$(phase) 'build' cargo build --locked $(testnet)
	$(phase) 'schemathesis' tests/schemathesis/run $(target_dir)/debug/tidegate $(lab)/schemathesis-venv/bin/st $(EXAMPLES)

bench: ## the benches, one line a figure: figure NAME VALUE UNIT (a tenth of torture-kill's rounds)
	$(phase) 'setup' .ci/setup bench
	$(phase) 'benches' env ROUNDS="$${ROUNDS:-20}" cargo bench --no-fail-fast --locked -p tidegate $(testnet) --bench '*'

# The seed is printed: with SEED= the kills come at the same moments again.
torture-kill: ## kill -9 at random moments under load: nothing lost, doubled or out of order (ROUNDS=200, SEED=)
	$(phase) 'setup' .ci/setup test
	$(phase) 'kills' env ROUNDS='$(ROUNDS)' SEED='$(SEED)' cargo bench --locked -p tidegate $(testnet) --bench torture_kill

torture-points: ## each crash point as exit, error and delay, on both engines: nothing lost, doubled, out of order or untold
	$(phase) 'setup' .ci/setup test
	$(phase) 'crash points' cargo bench --locked -p tidegate $(testnet) --bench torture_points

torture-disk: ## a damaged outbox says so, or all is there; a full disk loses nothing, opens and is drained; both engines (ROUNDS=200, SEED=)
	$(phase) 'setup' .ci/setup test
	$(phase) 'damage' env ROUNDS='$(ROUNDS)' SEED='$(SEED)' cargo bench --locked -p tidegate $(testnet) --bench torture_disk
	$(phase) 'full disks' cargo bench --locked -p tidegate $(testnet) --bench torture_full

torture-power: ## the power goes while an outbox is written, in a model where only what was synced survives (ROUNDS=100, SEED=)
	$(phase) 'setup' .ci/setup build
	$(phase) 'power cuts' env ROUNDS='$(ROUNDS)' SEED='$(SEED)' cargo bench --locked -p tidegate $(testnet) --bench torture_power

deb: ## the Debian package of a release build, for this machine's architecture
	$(phase) 'setup' .ci/setup deploy
	$(phase) 'release build' cargo build --locked --release
	$(phase) 'no private Tor network in the package' .ci/no-testnet $(target_dir)/release/tidegate
	$(phase) 'package' $(lab)/cargo-deb/bin/cargo-deb --no-build --locked --output $(package)

# PREVIOUS= names a package of an earlier version, from which the upgrade begins then.
check-deb: deb ## that, installed, upgraded over 1,000 queued messages and purged, on a copy of this machine's root (as root; PREVIOUS=)
	$(phase) 'the package, installed' deploy/check-deb $(package) $(PREVIOUS)

check-container: ## deploy/container by linters, and its config by the program; nothing is built or run in a container
	$(phase) 'setup' .ci/setup deploy
	$(phase) 'container files' $(lab)/deploy-venv/bin/python deploy/check-container

# Its own program first: what is built here is what is looked at.
browser: ## console and receiver in a real browser: every page and form, keyboard, axe, narrow screens (BROWSER_PICTURES= folder)
	$(phase) 'setup' .ci/setup browser
	$(phase) 'build' cargo build --locked -p tidegate $(testnet)
	$(phase) 'pages in a browser' node tests/browser/run.js $(target_dir)/debug/tidegate

release-check: ## once for each release: the package and its upgrade, the pages in a browser, long property tests, benches
	$(phase) 'setup' .ci/setup bench
	$(phase) 'release build with the private Tor network' cargo build --locked --release $(testnet)
	$(phase) 'the check below can fail' bash -c '! .ci/no-testnet "$$1" 2>/dev/null' - $(target_dir)/release/tidegate
	@$(MAKE) --no-print-directory check-deb check-container schemathesis browser
	$(phase) 'long property tests' env PROPTEST_CASES="$${PROPTEST_CASES:-10000}" cargo test --locked --workspace $(testnet)
	$(phase) 'benches' cargo bench --no-fail-fast --locked -p tidegate $(testnet) --bench '*'

fmt: ## formats the code
	cargo fmt --all

doc: ## builds the code's documentation and says where it is
	$(phase) 'docs' env RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --workspace $(testnet)
	@echo 'open $(target_dir)/doc/tidegate/index.html'

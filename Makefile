# Ringlane: `make run` tries it, `make test` proves it, `make bench` measures it. Each does all of its own set-up.
.PHONY: run test test-lobster bench loom torture soak fuzz sanitize build deb docker-steps clean
VENV := .venv
PY := $(VENV)/bin/python
SOURCES := $(shell find layout shim sidecar python/ringlane python/pyproject.toml -name '*.rs' -o -name '*.toml' -o -name '*.py' -o -name '*.pyi' -o -name '*.html') Cargo.toml Cargo.lock

run: $(VENV)/ringlane.stamp
	@$(PY) -m ringlane.demo $(ARGS)

test: $(VENV)/ringlane.stamp $(VENV)/test.stamp
	@sh tests/install_tools.sh
	@$(PY) tests/run_tests.py $(ARGS)

test-lobster: $(VENV)/ringlane.stamp $(VENV)/test.stamp
	@$(PY) tests/python/lobster_proof.py $(ARGS)

bench: $(VENV)/ringlane.stamp $(VENV)/test.stamp
	cargo build --release -p ringlane-tests --bins
	@cd tests && ../$(PY) -m bench $(ARGS)

# Every interleaving of the lane protocol's loads, stores and fences, by loom.
loom:
	RUSTFLAGS="--cfg loom" cargo test --release -p ringlane-layout --test loom --target-dir target/loom

# The order kernel against its naive twin for as long as it takes: CASES random streams, 50,000 of them more than ten million orders.
CASES := 50000
KILLS := 2000
# Runs of the seeded simulation.
SEEDS := 10000
torture: $(VENV)/ringlane.stamp $(VENV)/test.stamp
	RINGLANE_CASES=$(CASES) cargo test --release -p ringlane-tests --test order_kernel -- --nocapture
	RINGLANE_SEEDS=$(SEEDS) cargo test --release -p ringlane-tests --test simulation -- --nocapture
	RINGLANE_KILLS=$(KILLS) $(PY) -m pytest -q -s -p no:cacheprovider tests/python/test_storm.py

# Clients come, trade and are killed for MINUTES: memory, descriptors and p99 of the sidecar must stay flat.
MINUTES := 10
soak: $(VENV)/ringlane.stamp $(VENV)/test.stamp
	@$(PY) tests/python/soak.py --minutes $(MINUTES) $(ARGS)

# Every door by which bytes come in, guided by coverage, TIME seconds each; TARGET=orders for one of them.
TIME := 60
fuzz:
	sh tests/fuzz/run.sh $(TIME) $(TARGET)

# The Rust tests under AddressSanitizer; PACKAGE=ringlane-layout for one of them.
sanitize:
	sh tests/sanitize.sh $(PACKAGE)

build: $(VENV)/ringlane.stamp

# The daemon first, then the one wheel that holds shim and daemon; reinstalled by force, so that nothing stale is driven.
$(VENV)/ringlane.stamp: $(VENV)/created.stamp $(SOURCES)
	cargo build --release -p ringlane-sidecar
	mkdir -p python/wheel-data/scripts && cp target/release/ringlane python/wheel-data/scripts/ringlane
	rm -rf target/wheels
	cd python && ../$(VENV)/bin/maturin build --release --quiet --interpreter ../$(PY) --out ../target/wheels
	$(PY) -m pip install --quiet --force-reinstall --no-deps target/wheels/ringlane-*.whl
	@touch $@

$(VENV)/created.stamp: python/make_venv.sh
	@sh python/make_venv.sh $(VENV)
	$(PY) -m pip install --quiet 'maturin>=1.16,<2' 'numpy>=1.24'
	@touch $@

$(VENV)/test.stamp: $(VENV)/created.stamp python/pyproject.toml
	$(PY) -m pip install --quiet $$($(PY) python/extra.py test web)
	@touch $@

# The Debian package: daemon, units, configuration, man pages, completions.
DEB_TOOL := target/tools/bin/cargo-deb
deb: $(DEB_TOOL)
	cargo build --release -p ringlane-sidecar
	rm -rf target/manual && target/release/ringlane manual target/manual
	$(DEB_TOOL) --package ringlane-sidecar --no-build --no-strip --quiet --output target/debian/

# Every COPY and RUN line of the Dockerfile, once, in chroots; needs root, debootstrap and the network.
docker-steps:
	python3 tests/systemd/docker_steps.py

$(DEB_TOOL):
	cargo install --quiet --locked --no-default-features --root target/tools cargo-deb

clean:
	rm -rf target $(VENV) .venv-bench python/wheel-data

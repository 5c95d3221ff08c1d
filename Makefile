# `make` alone lists what there is. All that is built is under target/.

CARGO  ?= cargo
PREFIX ?= /usr/local
TRIPLE := $(shell uname -m)-unknown-linux-musl
BINARY := target/$(TRIPLE)/release/zinit
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
MAN := man/zinit.8 man/zinit-init.8 man/zinit-service.5 man/zinit-rpc.7 man/zinit-migration.7 man/zinit-testing.7

# For `make sim`: simulated histories, the events each is long, and how deep all small ones are.
SEEDS ?= 100000
EVENTS ?= 500
DEPTH ?= 4

# For how long `make fuzz` and `make soak` go on, and what is fuzzed.
MINUTES ?= 5
TARGET ?= all

# What is built for: make image ARCH=aarch64
ARCH ?= $(shell uname -m)
DEVICES ?= mdev
IMAGE := target/image/$(ARCH)$(if $(filter-out mdev,$(DEVICES)),-$(DEVICES))

# What `make boot` plugs in: a network of QEMU's own. `make boot NETWORK=` has none.
NETWORK ?= -netdev user,id=net -device virtio-net-pci,netdev=net,romfile=

# Rounds of `make bench-boot`, boots of `make soak-boot`.
ROUNDS ?= 5
COUNT ?= 500

.PHONY: help build release demo check test test-vm test-old-client sim fuzz sweep budget soak mutants golden bench
.PHONY: bench-boot soak-boot image boot size man install dist clean need-cc need-musl need-lints need-mandoc
.PHONY: need-daemons

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 16

build: need-cc ## build for trying out: target/debug/zinit
	$(CARGO) build

release: need-cc need-musl ## build the static, stripped program
	$(CARGO) build --release --target $(TRIPLE)
	@ls -l $(BINARY)

demo: build ## show it at work: services on a private socket, looked at and stopped
	@sh tests/demo/run.sh target/debug/zinit

check: need-lints ## formatting, lints, then all tests
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy --lib --no-default-features --features client -- -D warnings
	$(MAKE) test

test: need-cc need-mandoc need-daemons ## run all tests
	$(CARGO) test

test-vm: release ## run the tests that boot a real kernel in QEMU
	$(MAKE) image ARCH=x86_64
	$(MAKE) image ARCH=aarch64
	$(MAKE) image ARCH=x86_64 DEVICES=udev
	ZINIT_STATIC=$(CURDIR)/$(BINARY) $(CARGO) test --test vm --test vm_life --test vm_system --test vm_faults -- --ignored --test-threads=2

# The client of zinit 0.3.9: its program, and one that calls its library.
OLD := target/oldclient
test-old-client: build ## drive this server by the client of zinit 0.3.9, built from crates.io
	@if $(CARGO) fetch --quiet --locked --manifest-path tests/oldclient/Cargo.toml; then \
		$(CARGO) install zinit --version =0.3.9 --locked --no-default-features --features client,server \
			--bin zinit --root $(OLD) --target-dir $(OLD)/build \
		&& $(CARGO) build --release --locked --manifest-path tests/oldclient/Cargo.toml --target-dir $(OLD)/build \
		&& $(CARGO) test --test old_client -- --ignored; \
	else echo "SKIPPED: zinit 0.3.9 can't be fetched from crates.io"; fi

sim: need-cc ## simulate histories at random, and all small ones: SEEDS=100000 EVENTS=500 DEPTH=4
	SEEDS=$(SEEDS) EVENTS=$(EVENTS) DEPTH=$(DEPTH) $(CARGO) test --profile sim --test simulation --test small_cases -- --nocapture

fuzz: need-cc ## mutated inputs for all that reads bytes of others: MINUTES=5 TARGET=all SEED=
	MINUTES=$(MINUTES) TARGET=$(TARGET) $(if $(SEED),SEED=$(SEED) )$(CARGO) test --test fuzz -- --ignored --exact --nocapture hunt

sweep: need-cc ## have each system call of the server's fail once: ONLY=openat
	$(if $(ONLY),ONLY=$(ONLY) )$(CARGO) test --test sweep -- --ignored --nocapture every_call

golden: need-cc ## play the stories of tests/golden; REWRITE=1 writes them anew
	$(if $(REWRITE),REWRITE=1 )$(CARGO) test --test golden

# Built into one program, below target/mutants; `CHANGED=1` takes the files that are not committed.
MUTATED = $(if $(CHANGED),$(or $(shell git diff --name-only HEAD -- src/engine),none),$(FILE))
mutants: need-cc ## break the engine in every small way; do tests notice? FILE=src/engine/care.rs
	@if $(CARGO) fetch --quiet --locked --manifest-path tests/mutants/Cargo.toml; then \
		$(CARGO) build --quiet --locked --manifest-path tests/mutants/Cargo.toml --target-dir target/mutants/tool \
		&& target/mutants/tool/debug/mutants $(MUTATED); \
	else echo "SKIPPED: what tests/mutants is made of can't be fetched from crates.io"; fi

bench: need-cc ## measure speed and memory
	$(CARGO) test --release --test bench --test bench_proxy -- --ignored --nocapture --test-threads=1

bench-boot: release ## boot twenty services by zinit and by other inits: ROUNDS=5
	tests/vm/fetch.sh x86_64 peers
	tests/vm/bench.sh $(BINARY) $(ROUNDS)

soak-boot: release ## boot and power off, again and again: COUNT=500
	tests/vm/fetch.sh x86_64
	tests/vm/soak.sh $(BINARY) $(COUNT)

# The program for the other processor is measured too, where there is a target for it.
OTHER := $(if $(filter x86_64-%,$(TRIPLE)),aarch64,x86_64)-unknown-linux-musl
MEASURED = ZINIT_STATIC=$(CURDIR)/$(BINARY) ZINIT_STATIC_OTHER=$(CURDIR)/target/$(OTHER)/release/zinit
budget: release ## fail if the program costs more than it may: bytes, memory, descriptors, calls, allocations
	@! test -d "$$(rustc --print target-libdir --target $(OTHER))" || $(MAKE) release TRIPLE=$(OTHER)
	$(MEASURED) $(CARGO) test --test budget --test allocations -- --ignored --nocapture
	$(MAKE) soak MINUTES=1

soak: release ## random commands against 200 services, then nothing may be left: MINUTES=5 SEED=
	$(MEASURED) SOAK_SECONDS=$$(($(MINUTES) * 60)) $(if $(SEED),SEED=$(SEED) )$(CARGO) test --test soak -- --ignored --nocapture

image: ## build a bootable initramfs of zinit, busybox and service files: ARCH=aarch64
	tests/vm/fetch.sh $(ARCH)
	$(MAKE) release TRIPLE=$(ARCH)-unknown-linux-musl
	tests/image/build.sh $(ARCH) target/$(ARCH)-unknown-linux-musl/release/zinit $(IMAGE) $(DEVICES)

boot: image ## run that image in QEMU, its serial console on this terminal
	KERNEL=$(IMAGE)/kernel QEMU_EXTRA="$(NETWORK)" tests/vm/boot.sh $(ARCH) $(IMAGE)/initramfs

size: release ## bytes of the program by package, and its memory with 0 and 100 services
	@CARGO_PROFILE_RELEASE_STRIP=none $(CARGO) build --release --target $(TRIPLE) --target-dir target/symbols
	@sh tests/size.sh $(BINARY) target/symbols/$(TRIPLE)/release/zinit

man: ## lint the manual pages
	mandoc -T lint -W warning $(MAN)

install: $(BINARY) ## install program and manual pages: DESTDIR=, PREFIX=/usr/local
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/zinit
	ln -sf zinit $(DESTDIR)$(PREFIX)/bin/zinit-server
	ln -sf zinit $(DESTDIR)$(PREFIX)/bin/zinit-pid1
	install -d $(addprefix $(DESTDIR)$(PREFIX)/share/man/man,5 7 8)
	install -m 644 man/zinit-service.5 $(DESTDIR)$(PREFIX)/share/man/man5/
	install -m 644 man/zinit-rpc.7 man/zinit-migration.7 man/zinit-testing.7 $(DESTDIR)$(PREFIX)/share/man/man7/
	install -m 644 man/zinit.8 man/zinit-init.8 $(DESTDIR)$(PREFIX)/share/man/man8/

$(BINARY):
	$(MAKE) release

dist: ## pack the sources of the last commit: target/zinit-VERSION.tar.gz
	@mkdir -p target
	git archive --format=tar.gz --prefix=zinit-$(VERSION)/ -o target/zinit-$(VERSION).tar.gz HEAD
	@ls -l target/zinit-$(VERSION).tar.gz

clean: ## delete what was built
	$(CARGO) clean

# What the targets above need. Each says in one line what to do about it.

need-cc:
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust from https://rustup.rs" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "a C linker is missing: apt-get install gcc libc6-dev" >&2; exit 1; }

need-musl:
	@test -d "$$(rustc --print target-libdir --target $(TRIPLE))" || rustup target add $(TRIPLE) \
		|| { echo "no static build without: rustup target add $(TRIPLE)" >&2; exit 1; }

need-lints: need-cc
	@$(CARGO) fmt --version >/dev/null 2>&1 && $(CARGO) clippy --version >/dev/null 2>&1 \
		|| rustup component add rustfmt clippy \
		|| { echo "rustfmt and clippy are missing: rustup component add rustfmt clippy" >&2; exit 1; }

# Only the lint of the manual pages needs it, and is skipped without it.
need-mandoc:
	@command -v mandoc >/dev/null \
		|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
			&& { apt-get install -y -q mandoc || { apt-get update -q && apt-get install -y -q mandoc; }; } </dev/null; } \
		|| echo "mandoc is missing, so the manual pages are not linted: apt-get install mandoc"

# The daemons of tests/examples, and strace, which kills a server at a system call. Their tests are
# skipped without them. What is installed is kept from
# starting by itself.
DAEMONS := redis-server nginx sshd dnsmasq postgres strace
need-daemons:
	@missing=; for name in $(DAEMONS); do \
		PATH=$$PATH:/usr/sbin:/sbin command -v $$name >/dev/null || ls /usr/lib/postgresql/*/bin/$$name >/dev/null 2>&1 \
			|| missing="$$missing $$name"; \
	done; \
	[ -z "$$missing" ] || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && sh tests/daemons.sh; } </dev/null \
		|| echo "missing, so their tests are skipped:$$missing (Debian: redis-server nginx-light openssh-server dnsmasq-base postgresql strace)"

#!/usr/bin/env bash
# Installs what the tests need besides Rust: nats-server, the nats command and Pebble (which Go builds), Chromium, Node.js
# with a few packages, Python with a few packages, Prometheus, and the Autobahn suite.
#
# As root on a Debian system it installs what is missing. Elsewhere it says what to install, and fails.
# You can run it at any time: it does nothing twice.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
chromium=${TIDEGATE_CHROMIUM:-/usr/bin/chromium}
cache=${TIDEGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tidegate}
missing=()
packages=()

lacks() {
    missing+=("$1")
    packages+=("${@:2}")
}

python_is_new_enough() {
    command -v python3 >/dev/null && python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

node_is_new_enough() {
    command -v node >/dev/null && node -e 'process.exit(process.versions.node.split(".")[0] >= 20 ? 0 : 1)'
}

go_is_new_enough() {
    command -v go >/dev/null && [[ $(go env GOVERSION) =~ ^go1\.([0-9]+) ]] && ((BASH_REMATCH[1] >= 21))
}

nats_cli_is_here() {
    "$root/nats/get-nats-cli.sh" --cached >/dev/null 2>&1
}

pebble_is_here() {
    "$root/tests/acme/get-pebble.sh" --cached >/dev/null 2>&1
}

look() {
    missing=()
    packages=()
    command -v cargo >/dev/null || lacks "Rust (install it with rustup; rust-toolchain.toml names the version)"
    command -v cc >/dev/null || lacks "a C compiler" build-essential
    { command -v python3 && python3 -m pip --version; } >/dev/null 2>&1 || lacks "Python 3 with pip" python3-pip
    python_is_new_enough || lacks "Python 3.11 or newer with venv" python3-venv
    node_is_new_enough || lacks "Node.js 20 or newer (Debian 12 itself has 18)" nodejs
    command -v npm >/dev/null || lacks "npm" npm
    { nats_cli_is_here && pebble_is_here; } || go_is_new_enough || lacks "Go 1.21 or newer (https://go.dev/dl; Debian 12 itself has 1.19)" golang-go
    { command -v prometheus && command -v promtool; } >/dev/null || lacks "Prometheus with promtool" prometheus
    # If the caller names a Chromium, the caller must install it.
    if [[ ! -x $chromium ]]; then
        if [[ -n ${TIDEGATE_CHROMIUM:-} ]]; then
            lacks "Chromium at $chromium, which TIDEGATE_CHROMIUM names"
        else
            lacks "Chromium at $chromium (or set TIDEGATE_CHROMIUM to the path of one)" chromium
        fi
    fi
}

complain() {
    printf 'error: the tests need what is not here:\n' >&2
    printf '  - %s\n' "${missing[@]}" >&2
    ((${#packages[@]} == 0)) || printf 'On Debian, as root: apt-get install %s\n' "${packages[*]}" >&2
    exit 1
}

install() {
    printf 'installing %s …\n' "${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # Debian starts the services that it installs, but the tests start their own Prometheus. 101 forbids it.
    local policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
        # shellcheck disable=SC2064 # The name is known now, and not when the script ends.
        trap "rm -f $policy" EXIT
    fi
    apt-get update -qq && apt-get install --yes -qq --no-install-recommends "${packages[@]}" >/dev/null
}

packages_of() {
    local folder=$root/tests/$1
    # npm writes this file at the end.
    local done_mark=$folder/node_modules/.package-lock.json
    if [[ ! -f $done_mark || $folder/package-lock.json -nt $done_mark ]]; then
        npm ci --prefix "$folder" --no-audit --no-fund --ignore-scripts
    fi
}

# Prints the path of the Python of a virtual environment with a folder's packages. It is outside the checkout.
python_of() {
    local requirements=$root/tests/$1/requirements.txt
    local venv
    venv=$cache/$1-$(cksum <"$requirements" | cut -d ' ' -f 1)
    if [[ ! -f $venv/complete ]]; then
        python3 -m venv --clear "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements" >&2
        touch "$venv/complete"
    fi
    printf '%s\n' "$venv/bin/python"
}

# With --python, only print the path: of the environment for the tests in a folder, or for those in frontends.
if [[ ${1:-} == --python ]]; then
    python_of "${2:-frontends}"
    exit
fi

look
if ((${#packages[@]})) && ((EUID == 0)) && command -v apt-get >/dev/null; then
    install || complain
    look
fi
((${#missing[@]} == 0)) || complain

nats_server=$("$root/nats/get-nats-server.sh")
printf 'nats-server: %s\n' "$nats_server"
nats_cli=$("$root/nats/get-nats-cli.sh")
printf 'nats: %s\n' "$nats_cli"
pebble=$("$root/tests/acme/get-pebble.sh")
printf 'pebble: %s\n' "$pebble"
printf 'chromium: %s\n' "$chromium"
packages_of browser
"$root/examples/demo/run.sh" --setup
packages_of containers
packages_of frontends
packages_of oidc
python=$(python_of frontends)
printf 'python: %s\n' "$python"
python=$(python_of openapi)
printf 'schemathesis: %s\n' "$python"
# 77: there is no Python 2.7, and the script has said so.
"$root/tests/autobahn/run.sh" --setup || (($? == 77))

#!/usr/bin/env bash
# Makes ready what the tests need beside Rust: nats-server, Chromium, Node.js with two small sets of packages, Autobahn.
#
# As root on a Debian system it installs what is missing; elsewhere it says what to install and fails.
# Nothing is done twice, so it may be run at any time.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
chromium=${TIDEGATE_CHROMIUM:-/usr/bin/chromium}
missing=()
packages=()

lacks() {
    missing+=("$1")
    packages+=("${@:2}")
}

node_is_new_enough() {
    command -v node >/dev/null && node -e 'process.exit(process.versions.node.split(".")[0] >= 20 ? 0 : 1)'
}

look() {
    missing=()
    packages=()
    command -v cargo >/dev/null || lacks "Rust (install it with rustup; rust-toolchain.toml names the version)"
    command -v cc >/dev/null || lacks "a C compiler" build-essential
    { command -v python3 && python3 -m pip --version; } >/dev/null 2>&1 || lacks "Python 3 with pip" python3-pip
    node_is_new_enough || lacks "Node.js 20 or newer (Debian 12 itself has 18)" nodejs
    command -v npm >/dev/null || lacks "npm" npm
    # A Chromium that the caller names is the caller's to install.
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
    apt-get update -qq && apt-get install --yes -qq --no-install-recommends "${packages[@]}" >/dev/null
}

packages_of() {
    local folder=$root/tests/$1
    # npm leaves this file when it is done.
    local done_mark=$folder/node_modules/.package-lock.json
    if [[ ! -f $done_mark || $folder/package-lock.json -nt $done_mark ]]; then
        npm ci --prefix "$folder" --no-audit --no-fund --ignore-scripts
    fi
}

look
if ((${#packages[@]})) && ((EUID == 0)) && command -v apt-get >/dev/null; then
    install || complain
    look
fi
((${#missing[@]} == 0)) || complain

nats_server=$("$root/nats/get-nats-server.sh")
printf 'nats-server: %s\n' "$nats_server"
printf 'chromium: %s\n' "$chromium"
packages_of browser
packages_of containers
# 77: there is no Python 2.7 to run it with, and it has said so.
"$root/tests/autobahn/run.sh" --setup || (($? == 77))

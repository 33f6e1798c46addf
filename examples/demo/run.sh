#!/usr/bin/env bash
# Runs one of the five systems in vocabularies/ on this machine: nats-server, Tidegate, a producer, and a page that acts as
# the system's own frontend. Ctrl-C stops everything.
#
#   examples/demo/run.sh sentio
#   examples/demo/run.sh --setup     only installs the packages that the producer needs
#
# If you have the systems' documents (000*.txt to 004*.txt), set $SEEDS to their folder: the page then also runs their
# snippets. For tests: $TIDEGATE is a tidegate program to use instead of building one, $EVERY is the time between two rounds
# of events in ms (1000), and $ANY_PORT uses free ports instead of those in the documents.
set -euo pipefail

[[ -z ${SEEDS:-} ]] || SEEDS=$(cd "$SEEDS" && pwd) || exit
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
seeds="sentio hoardrun stock-agent financegpt ara"
seed=${1:-}
cache=${TIDEGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tidegate}

say() { printf '%s\n' "$*" >&2; }

give_up() {
    say "error: $1"
    exit "${2:-1}"
}

[[ -n $seed ]] || give_up "SEED is missing: run make demo SEED=… with one of: $seeds" 64
[[ $seed == --setup || " $seeds " == *" $seed "* ]] || give_up "there is no system \`$seed\`: set SEED to one of: $seeds" 64
python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    give_up "the demo needs Python 3.11 or newer with venv (Debian: apt-get install python3-venv)"

# The producer's packages are outside the checkout. Other requirements get a folder of their own.
requirements=examples/producers/python/requirements.txt
venv=$cache/demo-$(cksum <"$requirements" | cut -d ' ' -f 1)
if [[ ! -f $venv/complete ]]; then
    say "installing the producer's packages in $venv …"
    python3 -m venv --clear "$venv" || give_up "python3 cannot create $venv (Debian: apt-get install python3-venv)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements" >&2 ||
        give_up "pip could not install $requirements (its message is above)"
    touch "$venv/complete"
fi
[[ $seed != --setup ]] || exit 0

# The path of the system's document, whose name starts with a number.
document() {
    case $seed in
        financegpt) set -- "$SEEDS"/000*.txt ;;
        hoardrun) set -- "$SEEDS"/001*.txt ;;
        stock-agent) set -- "$SEEDS"/002*.txt ;;
        sentio) set -- "$SEEDS"/003*.txt ;;
        ara) set -- "$SEEDS"/004*.txt ;;
    esac
    [[ -f $1 ]] || give_up "SEEDS=$SEEDS has no document for $seed: $1 does not exist"
    printf '%s\n' "$1"
}
document=
[[ -z ${SEEDS:-} ]] || document=$(document)

# The user of the producer's events, and of the page.
case $seed in
    sentio) user=user_001 ;;
    hoardrun) user=u1 ;;
    stock-agent) user=anonymous ;;
    financegpt) user=USR001 ;;
    ara) user=alice ;;
esac

nats_server=$(nats/get-nats-server.sh)
if [[ -z ${TIDEGATE:-} ]]; then
    cargo build --locked --bin tidegate
    TIDEGATE=${CARGO_TARGET_DIR:-target}/debug/tidegate
fi

folder=$(mktemp -d "${TMPDIR:-/tmp}/tidegate-demo.XXXXXX")
children=()

end() {
    trap '' INT TERM
    ((${#children[@]} == 0)) || kill "${children[@]}" 2>/dev/null || true
    wait
    rm -rf "$folder"
}
trap end EXIT
trap 'exit 0' INT TERM

# Starts a program that ends when this script does, even if the script is killed. Its output goes to a log of that name.
start() {
    local name=$1
    shift
    "$TIDEGATE" exec-with-parent "$@" >"$folder/$name.log" 2>&1 &
    children+=($!)
}

# Waits until a command succeeds. Fails if a started program ends.
wait_until() {
    local tries child
    for ((tries = 0; tries < 300; tries++)); do
        ! "$@" || return 0
        for child in "${children[@]}"; do kill -0 "$child" 2>/dev/null || fail "a program has ended"; done
        sleep 0.1
    done
    fail "$* did not succeed within 30 s"
}

fail() {
    tail -n 5 "$folder"/*.log >&2
    give_up "$1: the last lines of all logs are above"
}

has_nats() { nats=$(sed -n 's|.*"nats://\([0-9.:]*\)".*|\1|p' "$folder"/*.ports 2>/dev/null) && [[ -n $nats ]]; }

# The addresses of Tidegate: for pages, and for MCP if it has its own listener.
has_node() {
    node=$(address_in '/endpoint_listen/d')
    mcp=$(address_in '/endpoint_listen/!d')
    [[ -n $node && ($seed != financegpt || -n $mcp) ]]
}

address_in() {
    sed -n -e "$1" -e 's/.*"message":"listening","address":"\([^"]*\)".*/\1/p' "$folder/tidegate.log" 2>/dev/null
}

has_page() { page=$(sed -n 's/.* port \([0-9]*\).*/\1/p' "$folder/page.log" 2>/dev/null) && [[ -n $page ]]; }

# The port in the documents, or any free port if that one is in use.
port() {
    if [[ -n ${ANY_PORT:-} ]] || { : 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null; then
        python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
    else
        printf '%s\n' "$1"
    fi
}

secret=$(head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n')

# A token with these claims, valid for 12 hours. The secret is not an argument: all users of a machine can read those.
token() {
    SECRET=$secret python3 - "$1" <<'PYTHON'
import base64, hmac, json, os, sys, time

def encoded(data): return base64.urlsafe_b64encode(data).rstrip(b"=")

claims = json.loads(sys.argv[1]) | {"exp": int(time.time()) + 12 * 3600}
body = encoded(b'{"alg":"HS256"}') + b"." + encoded(json.dumps(claims).encode())
print((body + b"." + encoded(hmac.digest(os.environ["SECRET"].encode(), body, "sha256"))).decode())
PYTHON
}

tokens="token=$(token "{\"sub\":\"$user\",\"role\":\"user\",\"accounts\":[\"ACC1\"]}")"
case $seed in
    sentio) tokens+="&admin=$(token '{"sub":"root","role":"admin"}')" ;;
    # The tokens of its public server have a type.
    hoardrun)
        tokens="token=$(token '{"sub":"u1","role":"user","token_type":"access"}')"
        tokens+="&backend=$(token '{"sub":"backend","role":"backend","token_type":"access"}')"
        ;;
    # Its pages have no tokens, except those of two users who call each other.
    stock-agent) tokens="alice=$(token '{"sub":"alice","role":"user"}')&bob=$(token '{"sub":"bob","role":"user"}')" ;;
esac

# The API key of a program, in place of a token.
key=
if [[ $seed == ara ]]; then
    key=$(head -c 16 /dev/urandom | od -An -v -tx1 | tr -d ' \n')
    tokens+="&key=$key"
fi

node_port=$(port 8000)
sed "s/127\.0\.0\.1:8000/127.0.0.1:$node_port/; s/127\.0\.0\.1:9001/127.0.0.1:$(port 9001)/" \
    "vocabularies/$seed.config.toml" >"$folder/config.toml"
[[ -z $key ]] || cat >>"$folder/config.toml" <<TOML

[[auth.api_key]]
name = "trading-bot"
sha256 = "$(printf %s "$key" | sha256sum | cut -d ' ' -f 1)"
user = "trading-bot"
role = "user"
TOML
mkdir "$folder/page"
cp examples/demo/*.html examples/demo/*.css examples/demo/*.mjs "$folder/page"
[[ -z $document ]] || cp "$document" "$folder/page/document.txt"

start page python3 -u -m http.server 0 --bind 127.0.0.1 --directory "$folder/page"
wait_until has_page
start nats-server "$nats_server" -a 127.0.0.1 -p "$(port 4222)" --ports_file_dir "$folder"
wait_until has_nats
# Browsers name the page in the header Origin. The test page of hoardrun has the address of the node itself.
TIDEGATE_AUTH__HMAC_SECRET=$secret start tidegate "$TIDEGATE" serve --config "$folder/config.toml" \
    --set "http.allowed_origins=http://127.0.0.1:$page" --set "http.public_url=http://127.0.0.1:$node_port" \
    --set "nats.url=nats://$nats" --set http.console=true --set log.format=json --set server.drain_s=0
wait_until has_node
start producer "$venv/bin/python" examples/producers/python/feed.py "$seed" --serve \
    --user "$user" --every "${EVERY:-1000}" --nats "nats://$nats"

where="seed=$seed&node=$node"
[[ $seed != financegpt ]] || where+="&mcp=$mcp"
[[ -z $document ]] || where+="&document=document.txt"
cat <<TEXT

$seed on Tidegate. Everyone who has the address of this page has access: do not expose it.

  page   http://127.0.0.1:$page/#$where${tokens:+&$tokens}
  socket ws://$node
  nats   nats://$nats

TEXT
[[ -z $key ]] || printf '  key    %s (an API key of the role user: ws://%s/ws/predictions/AAPL?token=%s)\n\n' "$key" "$node" "$key"
[[ $seed != hoardrun ]] || printf '  test   http://%s/ws/test#%s\n\n' "$node" "${tokens%%&*}"
[[ -n $document ]] || printf 'With SEEDS=<folder of the documents> the page also runs the snippets of the document.\n\n'
printf 'Ctrl-C stops everything.\n'

wait -n || true
fail "a program has ended"

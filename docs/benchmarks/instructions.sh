#!/bin/sh
# Prints the instructions that Tidegate executes per delivery, or per connection with `connect`, without the kernel: the
# difference of two runs under valgrind's callgrind, one longer than the other. Counts vary less than times. Needs valgrind
# and a release build.
#   docs/benchmarks/instructions.sh target/release/tidegate fanout --sockets 200 --rate 50
#   docs/benchmarks/instructions.sh target/release/tidegate connect
set -eu
program=$(realpath "$1")
shift
case $1 in
    connect) unit=connections each=connection ;;
    *) unit=received each=delivery ;;
esac
folder=$(mktemp -d)
# The bench ends only the scripts.
stop() { kill -TERM $(cat "$folder/pids") 2> /dev/null || true; }
trap 'stop; rm -rf "$folder"' EXIT
# Not `exec`: the bench kills its child, but callgrind writes its totals only on SIGTERM.
cat > "$folder/under-callgrind" <<EOF
#!/bin/sh
valgrind -q --tool=callgrind --callgrind-out-file="$folder/out" "$program" "\$@" &
echo \$! >> "$folder/pids"
wait
EOF
chmod +x "$folder/under-callgrind"
measure() {
    seconds=$1
    shift
    rm -f "$folder/pids"
    "$program" bench "$@" --seconds "$seconds" --rounds 1 --tidegate "$folder/under-callgrind" > "$folder/table"
    if [ "$(wc -l < "$folder/pids")" -gt 1 ]; then
        echo 'error: this measures several servers: choose one, for example with --lane own' >&2
        exit 1
    fi
    stop
    until grep -aqs '^totals\|^summary' "$folder/out"; do sleep 0.2; done
    count=$(grep "^| $unit " "$folder/table" | tr -cd 0-9)
    instructions=$(grep -a '^totals\|^summary' "$folder/out" | head -n 1 | tr -cd 0-9)
    rm "$folder/out"
}
measure 5 "$@"
short_count=$count short_instructions=$instructions
measure 15 "$@"
echo "$(((instructions - short_instructions) / (count - short_count))) instructions per $each: $*"

#!/usr/bin/env bash
# Judges the TLS of a node with testssl.sh (Debian: apt-get install testssl.sh). Fails if it finds anything above LOW that
# is not about the certificate, which is a test's own.
#
#   tests/tls/audit.sh target/debug/tidegate
set -euo pipefail

tidegate=$1
for needed in testssl openssl python3; do
    command -v "$needed" >/dev/null || {
        printf 'error: %s is not installed; on Debian: apt-get install testssl.sh openssl python3\n' "$needed" >&2
        exit 1
    }
done
server=${TIDEGATE_NATS_SERVER:?names a nats-server: run make tls-audit}
folder=$(mktemp -d "${TMPDIR:-/tmp}/tidegate-audit.XXXXXX")
pids=()
trap 'kill "${pids[@]}" 2>/dev/null; wait; rm -rf "$folder"' EXIT

ec=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
openssl req -x509 "${ec[@]}" -keyout "$folder/ca.key" -out "$folder/ca.pem" -days 90 -subj "/CN=Tidegate audit" \
    -addext "basicConstraints=critical,CA:TRUE" 2>/dev/null
openssl req "${ec[@]}" -keyout "$folder/key.pem" -out "$folder/request.pem" -subj "/CN=localhost" 2>/dev/null
openssl x509 -req -in "$folder/request.pem" -CA "$folder/ca.pem" -CAkey "$folder/ca.key" -CAcreateserial -days 90 \
    -out "$folder/cert.pem" -extfile <(printf 'subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\n') 2>/dev/null

"$server" --addr 127.0.0.1 --port -1 --ports_file_dir "$folder" >/dev/null 2>&1 &
pids+=($!)
until ports=$(cat "$folder"/nats-server_*.ports 2>/dev/null); do sleep 0.1; done
nats_url=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["nats"][0])' "$ports")
touch "$folder/log"
"$tidegate" serve --set "nats.url=$nats_url" --set http.listen=127.0.0.1:0 --set "tls.cert_file=$folder/cert.pem" \
    --set "tls.key_file=$folder/key.pem" --set tls.hsts_s=31536000 2>"$folder/log" &
pids+=($!)
until address=$(sed -n 's/.*"message":"listening".*"address":"\([^"]*\)".*/\1/p' "$folder/log") && [[ -n $address ]]; do
    kill -0 "${pids[1]}" || { cat "$folder/log" >&2; exit 1; }
    sleep 0.1
done

# The certificate of the test is not in public lists, and has no CRL.
testssl --quiet --color 0 --warnings off --ip one --add-ca "$folder/ca.pem" --jsonfile "$folder/found.json" \
    "https://localhost:${address##*:}" >"$folder/report" 2>&1 || true
[[ -s $folder/found.json ]] || { cat "$folder/report" >&2; exit 1; }
python3 - "$folder/found.json" <<'PYTHON'
import json
import sys

found = json.load(open(sys.argv[1]))
bad = [item for item in found if item["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL")]
# A CRL, OCSP, CAA and public logs belong to a certificate of a public CA.
expected = ["cert_crlDistributionPoints", "cert_ocspURL", "cert_revocation", "DNS_CAArecord", "certificate_transparency"]
# The client chooses among the suites, as Mozilla recommends: all of them are good, and phones without AES in hardware are
# faster with ChaCha20.
expected += ["cipher_order", "order"]
bad = [item for item in bad if not item["id"].startswith(tuple(expected))]
low = sorted({f'{item["id"]}: {item["finding"]}' for item in found if item["severity"] == "LOW"})
print(f"{len(found)} findings, {len(bad)} of them bad")
for line in low:
    print(f"LOW {line}")
for item in bad:
    print(f'{item["severity"]} {item["id"]}: {item["finding"]}')
sys.exit(bool(bad))
PYTHON

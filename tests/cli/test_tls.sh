#!/usr/bin/env bash
# https:// is verified: a CA of our own made by the openssl command, servers on loopback whose certificates are
# right, by somebody unknown, for another host, expired, not yet valid; redirects that leave https.
. tests/support/checks.sh
one_line=all
if ! command -v openssl >/dev/null; then echo "skip tls (no openssl command)"; exit 0; fi
. tests/server/lib.sh

# --- certificates ------------------------------------------------------------------------------------
mkdir "$dir/ca" && cd "$dir/ca" || exit 1
cat >ca.cnf <<'C'
[ca]
default_ca = own
[own]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = name
prompt = no
x509_extensions = root
[name]
CN = tests of spt
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[here]
subjectAltName = DNS:localhost,IP:127.0.0.1
[other]
subjectAltName = DNS:storage.example.org
C
: >index.txt
authority() { openssl req -x509 -newkey rsa:2048 -nodes -config ca.cnf -days 3 -keyout "$1.key" -out "$1.pem" 2>>log; }
authority ca
authority stranger
openssl genrsa -out key.pem 2048 2>>log
certificate() { # NAME CA EXTENSIONS FROM TO
    openssl req -new -key key.pem -subj "/CN=$1" -out "$1.csr" 2>>log &&
        openssl ca -batch -config ca.cnf -cert "$2.pem" -keyfile "$2.key" -extensions "$3" -startdate "$4" -enddate "$5" \
            -in "$1.csr" -out "$1.pem" -notext 2>>log || cat log
}
from=$(date -u -d yesterday +%Y%m%d%H%M%SZ) to=$(date -u -d tomorrow +%Y%m%d%H%M%SZ)
certificate right ca here "$from" "$to"
certificate unknown stranger here "$from" "$to"
certificate elsewhere ca other "$from" "$to"
certificate expired ca here "$(date -u -d '9 days ago' +%Y%m%d%H%M%SZ)" "$from"
certificate early ca here "$to" "$(date -u -d '9 days' +%Y%m%d%H%M%SZ)"
cd "$root" || exit 1

# --- servers -------------------------------------------------------------------------------------------
unset HF_HUB_CACHE HUGGINGFACE_HUB_CACHE XDG_CACHE_HOME HF_TOKEN HUGGING_FACE_HUB_TOKEN HF_TOKEN_PATH HF_HUB_OFFLINE \
    TRANSFORMERS_OFFLINE http_proxy https_proxy all_proxy SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE STORAGE_EMULATOR_HOST \
    GOOGLE_APPLICATION_CREDENTIALS CLOUDSDK_CONFIG GCE_METADATA_HOST HF_ENDPOINT
export HOME=$dir/user HF_HOME=$dir/home SPT_CACHE_DIR=$dir/cache SPT_HTTP_RETRIES=0 NO_GCE_CHECK=true
mkdir -p "$dir/user" "$dir/files" "$dir/repos/org/t5"
cp -r demo/t5-mini "$dir/repos/org/t5/main"
"$spt" init --model demo/t5-mini --length 4 --init vocab --seed 1 --out "$dir/files/p.npy" --quiet
serve() { # CERTIFICATE OPTION...
    local name=$1
    shift
    server_start --files "$dir/files" --tls "$dir/ca/$name.pem" "$dir/ca/key.pem" "$@"
}
look() { "$spt" inspect "https://${2:-127.0.0.1}:$port/files/$1"; }
trusting() { SSL_CERT_FILE=$dir/ca/ca.pem "$@"; }

# A wrong certificate ends the connection before a request is made: nothing is in the server's log.
server_start --files "$dir/files"
plain=$port
serve elsewhere
check another_host 5 "certificate is not trusted: .*(no alternative certificate|does not match).*127.0.0.1" trusting look p.npy
check another_name 5 "certificate is not trusted: .*localhost" trusting look p.npy localhost
serve expired
check expired 5 'certificate is not trusted: .*expired' trusting look p.npy
serve early
check not_yet_valid 5 'certificate is not trusted: .*not yet valid' trusting look p.npy
serve unknown
check unknown_authority 5 'certificate is not trusted: ' trusting look p.npy
serve right --hub "$dir/repos" --hub-token good --empty-bucket runs --private runs=nobody
check without_the_authority 5 "https://127.0.0.1:$port/files/p.npy: the server's certificate is not trusted: .*SSL_CERT_FILE" look p.npy
SSL_CERT_FILE=$dir/ca/stranger.pem check with_another_authority 5 'certificate is not trusted: ' look p.npy
SSL_CERT_FILE=$dir/none.pem check no_such_file 5 'none.pem .the file comes from SSL_CERT_FILE' look p.npy
echo 'no certificate' >"$dir/broken.pem"
SSL_CERT_FILE=$dir/broken.pem check broken_file 5 'broken.pem .the file comes from SSL_CERT_FILE' look p.npy
check trusted 0 '' trusting look p.npy
check trusted_by_name 0 '' trusting look p.npy localhost
CURL_CA_BUNDLE=$dir/ca/ca.pem check trusted_by_curls_variable 0 '' look p.npy
mkdir "$dir/ca/dir" && cp "$dir/ca/ca.pem" "$dir/ca/dir/$(openssl x509 -hash -noout -in "$dir/ca/ca.pem").0"
SSL_CERT_DIR=$dir/ca/dir check trusted_by_directory 0 '' look p.npy
export SSL_CERT_FILE=$dir/ca/ca.pem
# What servers send for a directory is a page.
echo '<!DOCTYPE html><title>Index of /model</title>' >"$dir/files/model"
check a_directory_is_no_file 4 "https://127.0.0.1:$port/files/model: the server sent a web page: an https:// address is one file, never a directory" \
    "$spt" init --model "https://127.0.0.1:$port/files/model" --length 4 --out "$dir/q.npy"

# --- redirects -----------------------------------------------------------------------------------------
check redirect_within_https 0 '' look "p.npy?redirect=https://localhost:$port/files/p.npy"
check redirect_to_http 5 'redirects from https to an address that is not' look "p.npy?redirect=http://127.0.0.1:$plain/files/p.npy"
check redirect_to_a_file 5 'redirects to an address that is neither http nor https' look "p.npy?redirect=file:///etc/passwd"
"$spt" inspect "https://user:hidden@127.0.0.1:$port/files/none?signature=secret" >/dev/null 2>"$dir/err"
expect secrets_are_not_shown test -z "$(grep -E 'hidden|secret' "$dir/err")" -a -s "$dir/err"
port=$plain requests >"$dir/log"
expect nothing_was_asked_over_http test ! -s "$dir/log"

# --- the hub and a bucket over https -------------------------------------------------------------------
ask() { echo hello | "$spt" infer --model "$1" --labels a,b --quiet; }
log_of() { python3 - "$port" "$dir/ca/ca.pem" <<'P'
import json, ssl, sys, urllib.request
c = ssl.create_default_context(cafile=sys.argv[2])
for e in json.load(urllib.request.urlopen(f"https://127.0.0.1:{sys.argv[1]}/_control/log", context=c)):
    print(e["method"], e["path"], e["status"], e["auth"] or "-")
P
}
HF_TOKEN=good HF_ENDPOINT=https://127.0.0.1:$port check hub 0 '' ask org/t5
log_of >"$dir/log"
expect hub_gets_the_token grep -q 'resolve.* Bearer good$' "$dir/log"
expect cdn_gets_none test "$(grep /cdn/ "$dir/log" | grep -vc ' -$')" -eq 0 -a -n "$(grep /cdn/ "$dir/log")"
rm -rf "$HF_HOME"
SSL_CERT_FILE='' HF_TOKEN=good HF_ENDPOINT=https://127.0.0.1:$port check hub_not_trusted 5 'certificate is not trusted' ask org/t5
CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE=https://127.0.0.1:$port check bucket 3 'gs://runs/p.npy: the bucket is not public' \
    "$spt" inspect gs://runs/p.npy
SSL_CERT_FILE='' CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE=https://127.0.0.1:$port check bucket_not_trusted 5 \
    'gs://runs/p.npy: the server.s certificate is not trusted' "$spt" inspect gs://runs/p.npy
serve right --hub "$dir/repos" --hub-token good --plain-cdn
HF_TOKEN=good HF_ENDPOINT=https://127.0.0.1:$port check hub_redirects_to_http 5 'redirects from https to an address that is not' ask org/t5
# A token does not travel without TLS.
server_start --files "$dir/files"
python3 - "$dir" <<'P'
import json, sys
json.dump({"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r",
           "token_uri": "http://storage.example.org/token"}, open(sys.argv[1] + "/user.json", "w"))
P
GOOGLE_APPLICATION_CREDENTIALS=$dir/user.json check no_secret_over_http 3 'token_uri is not https' "$spt" inspect gs://runs/p.npy
finish

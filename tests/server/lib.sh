# For shell tests against tests/server/server.py: source it with $dir (a temporary directory) set.
#   server_start ARGUMENT...   starts one and sets $port; ends with the script's process
#   control WHAT [BODY]        POST /_control/WHAT
#   requests                   prints the log: method, path, status, bytes sent, range
server_start() {
    rm -f "$dir/port"
    python3 "$root/tests/server/server.py" --port-file "$dir/port" --parent $$ "$@" 2>"$dir/server.err" &
    for _ in $(seq 200); do
        [ -f "$dir/port" ] && break
        sleep 0.1
    done
    port=$(cat "$dir/port")
}
control() {
    python3 - "$port" "$1" "${2:-}" <<'P'
import sys, urllib.request
port, what, body = sys.argv[1:]
urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/_control/{what}",
                                              body.encode(), method="POST"), timeout=60).read()
P
}
requests() {
    python3 - "$port" <<'P'
import json, sys, urllib.request
log = json.load(urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/_control/log", timeout=60))
for e in log:
    print(e["method"], e["path"], e["status"], e["sent"], e["range"] or "-", e["auth"] or "-")
P
}

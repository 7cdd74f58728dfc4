#!/bin/sh
# demo.sh SAED - what `make demo` runs: start the daemon on the two dictionaries that ship, send it real
# requests, show the answers, and leave it serving on 127.0.0.1:8673 (or a free port).
set -eu
saed=$1
cd "$(dirname "$0")/../.."
dir=$(dirname "$saed")
# Files of this run alone: those of a demo that still serves stay as they are.
out=$dir/demo.$$.out err=$dir/demo.$$.log
: >"$out"
listen=127.0.0.1:8673
if curl -s -o /dev/null --max-time 2 "http://$listen/healthz"; then
    echo "port 8673 is in use: taking a free one"
    listen=127.0.0.1:0
fi
# A session of its own, so that the daemon outlives make and the terminal's Ctrl-C.
setsid "$saed" --listen "$listen" digits=deploy/demo/digits.pt \
    words=deploy/demo/words.safetensors:labels=deploy/demo/words.labels.json >"$out" 2>"$err" </dev/null &
pid=$!
url=
n=0
while [ -z "$url" ]; do
    url=$(sed -n 's/^listening on //p' "$out")
    n=$((n + 1))
    if ! kill -0 "$pid" 2>/dev/null || [ "$n" -gt 300 ]; then
        echo "the daemon did not start:" >&2
        cat "$err" >&2
        exit 1
    fi
    [ -n "$url" ] || sleep 0.1
done
show() { # show COMMAND: print it as typed, run it, cut long lines
    echo
    echo "\$ $1"
    sh -c "$1" | cut -c 1-600
    echo
}
echo "saed $("$saed" --version | sed 's/^saed //') is serving dictionaries of words and of handwritten digits"
echo
echo "The word music, 64 numbers (deploy/demo/music.json), and its five strongest features:"
show "curl -s --json @deploy/demo/music.json '$url/v1/dictionaries/words/encode?top_k=5&labels=true'"
echo
echo "Some words, all at once, and what their features are about:"
echo
/usr/bin/python3 - "$url" <<'PY'
import json, sys, urllib.request
page = json.load(open("server/web/words.json"))
words = ["music", "king", "doctor", "river", "bread", "computer", "happy"]
rows = [page["rows"][page["words"].index(w)] for w in words]
req = urllib.request.Request(sys.argv[1] + "/v1/dictionaries/words/encode",
                             json.dumps({"x": rows, "top_k": 3, "labels": True}).encode(), {"Content-Type": "application/json"})
f = json.load(urllib.request.urlopen(req))["f"]
for word, labels, values in zip(words, f["labels"], f["values"]):
    print("    %-10s" % word, "   ".join("%s %.1f" % one for one in zip(labels, values)))
PY
echo
echo "The digits: what they are,"
show "curl -s $url/v1/dictionaries/digits"
echo
echo "Ten images of 8x8 pixels (deploy/demo/sample.json), their three strongest features each:"
show "curl -s --json @deploy/demo/sample.json '$url/v1/dictionaries/digits/encode?top_k=3'"
echo
echo "The reconstruction of the first one, beside the image:"
/usr/bin/python3 - "$url" <<'PY'
import json, sys, urllib.request
x = json.load(open("deploy/demo/sample.json"))["x"][0]
req = urllib.request.Request(sys.argv[1] + "/v1/dictionaries/digits/forward",
                             json.dumps({"x": x}).encode(), {"Content-Type": "application/json"})
y = json.load(urllib.request.urlopen(req))["x_hat"]
ramp = " .:-=+*#%@"
ink = lambda v: ramp[max(0, min(9, int(v * 9.99)))] * 2
print("\n    image               x_hat = decode(encode(x))")
for r in range(8):
    print("    " + "".join(map(ink, x[8 * r:8 * r + 8])) + "    " +
          "".join(map(ink, y[8 * r:8 * r + 8])))
PY
echo
echo "Something wrong gets told what:"
show "curl -s --json '{\"x\": [1, 2, 3]}' $url/v1/dictionaries/digits/encode"
echo
echo "Still serving at $url as pid $pid (log: $err). Stop it with: kill $pid"

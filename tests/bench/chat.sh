#!/bin/bash
# tests/bench/chat.sh [COUNT [ROUNDS [IN_FLIGHT]]]
#
# What a chat request costs the client: nginx answers on one core, the client runs on another, Leat
# and a bare C client on libcurl (tests/bench/bare.c) in turn, so that a busy machine slows both. Each
# request is a POST of a 240-byte body, built and encoded anew, on a kept-alive connection; the reply
# of 300 bytes is decoded. Prints medians, and the ratio of the two.
set -eu
cd "$(dirname "$0")/../.."
count=${1:-20000} rounds=${2:-5} in_flight=${3:-64}
build=${BUILD:-build}

PATH=$PATH:/usr/sbin # nginx, for users other than root
scripts/deps.sh build bench
if [ -z "${BUILD:-}" ]; then
    cmake -B build -DLEAT_TESTS=ON >/dev/null
    cmake --build build --target leat bare --parallel "$(nproc)" >/dev/null
fi

scratch=$(mktemp -d "${TMPDIR:-/tmp}/leat-bench.XXXXXX")
server=
clean_up() {
    [ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

server_core=0 client_core=1
[ "$(nproc)" -gt 1 ] || client_core=0

reply='{"id":"chatcmpl-9f8e7d6c5b4a","object":"chat.completion","created":1700000000,'
reply+='"model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":'
reply+='"It is known for being a perfectly ordinary number."},"finish_reason":"stop"}],'
reply+='"usage":{"prompt_tokens":31,"completion_tokens":11,"total_tokens":42}}'

start_nginx() { # on a port drawn at random; another is drawn if that one is taken
    local port
    for _ in {1..10}; do
        port=$((20000 + RANDOM % 20000))
        cat >"$scratch/nginx.conf" <<CONF
daemon off;
master_process off;
worker_rlimit_nofile 8192;
pid $scratch/nginx.pid;
error_log $scratch/error.log;
events { worker_connections 4096; }
http {
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_body_temp_path $scratch/body;
    proxy_temp_path $scratch/proxy;
    fastcgi_temp_path $scratch/fastcgi;
    uwsgi_temp_path $scratch/uwsgi;
    scgi_temp_path $scratch/scgi;
    server {
        listen 127.0.0.1:$port backlog=4096;
        location / {
            default_type application/json;
            return 200 '$reply';
        }
    }
}
CONF
        taskset -c "$server_core" nginx -p "$scratch" -c "$scratch/nginx.conf" -e "$scratch/error.log" &
        server=$!
        url=http://127.0.0.1:$port/v1/chat/completions
        for _ in {1..200}; do
            kill -0 "$server" 2>/dev/null || break
            curl -s -o "$scratch/reply" "$url" && return
            sleep 0.02
        done
        wait "$server" || true
        server=
    done
    cat "$scratch/error.log" >&2
    echo "chat.sh: nginx did not start" >&2
    exit 1
}

# measure NAME COUNT COMMAND...: runs it on the client's core; adds its figures to $scratch/NAME.
measure() {
    local name=$1
    shift
    local now=$EPOCHREALTIME
    START_S=$now BENCH_START_NS=$((${now/./} * 1000 - boot_ns)) \
        taskset -c "$client_core" "$@" >>"$scratch/$name"
}

# column NAME KEY: the values of one figure, a line each.
column() { sed -n "s/.*\b$2=\([0-9.]*\).*/\1/p" "$scratch/$1"; }
median() { sort -n | awk '{ v[NR] = $1 } END { printf "%.2f", NR ? (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 : 0 }'; }
ratio() { # ratio A B KEY: the median of the rounds' own ratios
    paste <(column "$1" "$3") <(column "$2" "$3") | awk '$2 > 0 { print $1 / $2 }' | median
}

# The two programs note their start on different clocks: when CLOCK_BOOTTIME (7) was 0, in wall time.
boot_ns=$("$build/leat" -e 'local ffi = require "ffi"
ffi.cdef "struct ts { long s, ns; }; int clock_gettime(int clock, struct ts *out);"
local boot, wall = ffi.new "struct ts", ffi.new "struct ts"
ffi.C.clock_gettime(7, boot)
ffi.C.clock_gettime(0, wall)
print((tostring((wall.s - boot.s) * 1000000000LL + wall.ns - boot.ns):gsub("%a+$", "")))')

start_nginx
for ((round = 1; round <= rounds; round++)); do
    measure bare "$build/tests/bare" "$url" "$count" "$in_flight"
    measure leat "$build/leat" tests/bench/chat.lua "$url" "$count" "$in_flight"
done
for ((round = 1; round <= 2 * rounds; round++)); do
    measure bare_first "$build/tests/bare" "$url" 1 1
    measure leat_first "$build/leat" tests/bench/chat.lua "$url" 1 1
done

echo "$count chat requests, $in_flight in flight, median of $rounds interleaved rounds"
echo
printf '%-28s %10s %10s %10s\n' "" "bare C" "leat" "ratio"
row() { printf '%-28s %10s %10s %10s\n' "$1" "$2" "$3" "$4"; }
row "CPU per request (us)" "$(column bare cpu_us_per_request | median)" "$(column leat cpu_us_per_request | median)" \
    "$(ratio leat bare cpu_us_per_request)"
row "start to first response (ms)" "$(column bare_first first_ms | median)" \
    "$(column leat_first first_ms | median)" "$(ratio leat_first bare_first first_ms)"
mb() { column "$1" peak_rss_kb | median | awk '{ printf "%.1f", $1 / 1024 }'; }
row "peak memory (MB)" "$(mb bare)" "$(mb leat)" "$(ratio leat bare peak_rss_kb)"

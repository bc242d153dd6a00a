#!/bin/bash
# tests/bench/suite.sh [-r ROUNDS] [-c COUNT] [GROUP...]
#
# What Leat costs beside other clients, in one table: medians, and ratios of this run. The groups:
#
#   chat          chat requests over HTTP/1.1: a body is built and encoded, the reply decoded; connections are kept
#   tls           the same over TLS
#   http2         the same over HTTP/2 with TLS
#   sse           an event of 8 streams, with its JSON
#   many          10,000 requests in flight, each held for 2 s by the server
#   growth        from 64 connections to 8,192: the cost of a request once they are made
#   start         from the start of the program to its first response
#   connect       a TLS connection with its handshake
#   layers        the layers of the main job above client:post, and the same job with httpx
#   instructions  how many a chat request takes, by callgrind
#
# The server (nginx, and the fault server for streams and held requests) has one core, the clients have another. They
# run in turn, ROUNDS times (5), so that a busy machine slows all of them. COUNT (20000) is the number of requests of a
# run; some rows take a part of it. Certificates are verified by the system's bundle. `bare` is a C program on libcurl
# that does no more than this job (tests/bench/bare.c); nginx-lua is a worker of nginx with cosockets and lua-cjson;
# Go is net/http. What is not there is left out. `scripts/deps.sh peers` installs Go and httpx, and `tests/bench/peers/
# nginx_lua.sh build/nginx-lua` unpacks the module of nginx.
set -eu
cd "$(dirname "$0")/../.."
rounds=5 count=20000
while getopts r:c: option; do
    case $option in
        r) rounds=$OPTARG ;;
        c) count=$OPTARG ;;
        *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
groups=("$@")
[ $# -gt 0 ] || groups=(chat tls http2 sse many growth start connect layers instructions)

. tests/bench/lib.sh
prepare leat bare sse_bare faultd
start_nginx
start_faultd

# ---- the clients

missing="" nginx_lua=$PWD/$build/nginx-lua
has() {
    case $1 in
        go) command -v go ;;
        nginx-lua) ls "$nginx_lua/usr/lib/nginx/modules/ngx_http_lua_module.so" ;;
        httpx) /usr/bin/python3 -c 'import httpx' ;;
        valgrind) command -v valgrind ;;
    esac >/dev/null 2>&1
}
clients=(leat bare)
for client in nginx-lua go httpx valgrind; do
    if has "$client"; then clients+=("$client"); else missing+=" $client"; fi
done
can() { [[ " ${clients[*]} " == *" $1 "* ]]; }
! can go || go build -o "$scratch/net_http" tests/bench/peers/net_http.go

# cosocket URL COUNT IN_FLIGHT: sets `command`, an nginx that is a client.
cosocket() {
    local place=${1#http://}
    local port=${place%%/*}
    cat >"$scratch/cosocket.conf" <<CONF
daemon off;
master_process off;
worker_rlimit_nofile $files;
pid $scratch/cosocket.pid;
error_log $scratch/cosocket.log;
load_module $nginx_lua/usr/lib/nginx/modules/ndk_http_module.so;
load_module $nginx_lua/usr/lib/nginx/modules/ngx_http_lua_module.so;
events { worker_connections $files; }
http {
    access_log off;
    client_body_temp_path $scratch/body2;
    proxy_temp_path $scratch/proxy2;
    fastcgi_temp_path $scratch/fastcgi2;
    uwsgi_temp_path $scratch/uwsgi2;
    scgi_temp_path $scratch/scgi2;
    lua_package_path "$nginx_lua/usr/share/lua/5.1/?.lua;;";
    lua_socket_connect_timeout 60s;
    lua_socket_read_timeout 60s;
    init_worker_by_lua_block {
        dofile("$PWD/tests/bench/peers/cosocket_chat.lua")("${port%%:*}", ${port#*:}, "/${place#*/}", $2, $3)
    }
}
CONF
    command=(env LD_LIBRARY_PATH="$nginx_lua/usr/lib/x86_64-linux-gnu" nginx -p "$scratch" -c "$scratch/cosocket.conf" -e "$scratch/cosocket.log")
}

# chat ROW CLIENTS URL COUNT IN_FLIGHT [HTTP_VERSION]: each of the clients in turn. Figures of ROW.CLIENT.
chat() {
    local row=$1 client
    for client in $2; do
        case $client in
            leat) command=("$build/leat" tests/bench/chat.lua "${@:3}") ;;
            bare) command=("$build/tests/bare" "${@:3:3}") ;;
            go) command=("$scratch/net_http" chat "${@:3}") ;;
            nginx-lua) cosocket "${@:3:3}" ;;
        esac
        ! can "$client" || measure "$row.$client" "${command[@]}" ||
            { tail -n 5 "$scratch"/*.log && echo "$client failed: $row" && exit 1; } >&2
    done
}

# The two programs note their start on different clocks: when CLOCK_BOOTTIME (7) was 0, in wall time.
boot_ns=$("$build/leat" -e 'local ffi = require "ffi"
ffi.cdef "struct ts { long s, ns; }; int clock_gettime(int clock, struct ts *out);"
local boot, wall = ffi.new "struct ts", ffi.new "struct ts"
ffi.C.clock_gettime(7, boot)
ffi.C.clock_gettime(0, wall)
print((tostring((wall.s - boot.s) * 1000000000LL + wall.ns - boot.ns):gsub("%a+$", "")))')

clocked() { # chat, with the time of the start
    local now=$EPOCHREALTIME
    START_S=$now BENCH_START_NS=$((${now/./} * 1000 - boot_ns)) chat "$@"
}

# ---- the groups: what each does in a round, and its rows of the table

round_of() {
    local k events=$((count * 2)) layer
    case $1 in
        chat)
            chat h1_1 "leat bare nginx-lua go" "$url" $((count / 4)) 1 1.1
            chat h1_64 "leat bare nginx-lua go" "$url" "$count" 64 1.1
            chat h1_512 "leat bare nginx-lua go" "$url" "$count" 512 1.1
            ;;
        tls) chat tls_64 "leat bare go" "$tls_url" "$count" 64 1.1 ;;
        http2) chat h2_64 "leat go" "$tls_url" "$count" 64 2 ;;
        sse)
            k="$fault_url/tokens?n=$((events / 8))&ms=0"
            measure sse.leat "$build/leat" tests/bench/sse.lua "$k" 8
            measure sse.bare "$build/tests/sse_bare" "$k" 8
            ! can go || measure sse.go "$scratch/net_http" sse "$k" 8
            ;;
        many) chat many "leat bare nginx-lua go" "$fault_url/chat?ms=2000" 10000 10000 1.1 ;;
        growth)
            chat few "leat bare" "$url" $((count + 16384)) 64 1.1
            chat growth "leat bare" "$url" $((count + 16384)) 8192 1.1
            ;;
        start) for k in {1..4}; do clocked first "leat bare" "$url" 1 1 1.1; done ;;
        connect)
            measure connect.leat "$build/leat" tests/bench/tls.lua "$tls_url" $((count / 40))
            measure connect.python /usr/bin/python3 tests/bench/peers/ssl_connect.py "$tls_url" $((count / 40))
            ;;
        layers)
            for layer in post chat pipeline journal batch; do
                layer "$layer" "$count" 64
                timed "layer.$layer" "$count" "${command[@]}"
            done
            if can httpx; then
                layer httpx $((count / 10)) 64
                timed layer.httpx $((count / 10)) "${command[@]}"
            fi
            ;;
    esac
}

count_instructions() { # count_instructions NAME URL HTTP_VERSION
    local few many
    few=$(instructions "$scratch/profile" "$build/leat" tests/bench/chat.lua "$2" 1000 64 "$3")
    many=$(instructions "$scratch/profile" "$build/leat" tests/bench/chat.lua "$2" 3000 64 "$3")
    echo "instructions=$(((many - few) / 2000))" >>"$scratch/$1"
}

line() { # line TITLE VALUE AGAINST AGAINST_VALUE RATIO ASKED: what is asked is the ratio, or else the value
    local verdict=
    [ -z "$6" ] || verdict=$(awk -v is="${5:-$2}" -v asked="$6" 'BEGIN { if (is > asked) print "  missed" }')
    printf '%-36s %10s   %-14s %10s %8s %8s%s\n' "$1" "${2%.00}" "$3" "${4%.00}" "$5" "$6" "$verdict"
}
# compare TITLE KEY ROW CLIENT [ASKED]: Leat in a row beside another client, if that was there
compare() {
    [ ! -e "$scratch/$3.$4" ] || line "$1" "$(column "$3.leat" "$2" | median)" "$4" \
        "$(column "$3.$4" "$2" | median)" "$(ratio "$3.leat" "$3.$4" "$2")" "${5:-}"
}
alone() { # alone TITLE KEY NAME ASKED
    line "$1" "$(column "$3" "$2" | median)" "" "" "" "$4"
}
versus() { # versus TITLE KEY NAME OTHER AGAINST [ASKED]
    line "$1" "$(column "$3" "$2" | median)" "$5" "$(column "$4" "$2" | median)" "$(ratio "$3" "$4" "$2")" "${6:-}"
}

rows_of_group() {
    local cpu=cpu_us_per_request client
    case $1 in
        chat)
            compare "HTTP/1.1, 1 in flight (us)" $cpu h1_1 bare 1.10
            compare "HTTP/1.1, 1 in flight (us)" $cpu h1_1 nginx-lua
            compare "HTTP/1.1, 1 in flight (us)" $cpu h1_1 go
            compare "HTTP/1.1, 64 in flight (us)" $cpu h1_64 bare 0.80
            compare "HTTP/1.1, 64 in flight (us)" $cpu h1_64 nginx-lua 0.90
            compare "HTTP/1.1, 64 in flight (us)" $cpu h1_64 go
            compare "HTTP/1.1, 512 in flight (us)" $cpu h1_512 bare 0.80
            compare "HTTP/1.1, 512 in flight (us)" $cpu h1_512 nginx-lua
            compare "HTTP/1.1, 512 in flight (us)" $cpu h1_512 go
            ;;
        tls)
            compare "TLS, HTTP/1.1, 64 in flight (us)" $cpu tls_64 bare 0.75
            compare "TLS, HTTP/1.1, 64 in flight (us)" $cpu tls_64 go
            ;;
        http2) compare "TLS, HTTP/2, 64 in flight (us)" $cpu h2_64 go 0.60 ;;
        sse)
            compare "event of 8 streams (us)" us_per_event sse go 0.50
            compare "event of 8 streams (us)" us_per_event sse bare
            ;;
        many)
            line "10,000 in flight (MB)" "$(mb many.leat)" "" "" "" 120
            for client in bare nginx-lua go; do
                [ ! -e "$scratch/many.$client" ] || line "10,000 in flight (MB)" "$(mb many.leat)" "$client" \
                    "$(mb many.$client)" "$(ratio many.leat many.$client peak_rss_kb)" ""
            done
            alone "10,000 in flight, of 2 s (s)" wall_s many.leat 3.2
            for client in bare nginx-lua go; do
                compare "10,000 in flight, of 2 s (s)" wall_s many $client
            done
            ;;
        growth)
            versus "8,192 connections (us)" warm_us growth.leat few.leat "64" 2.5
            versus "8,192 connections, bare (us)" warm_us growth.bare few.bare "64"
            compare "8,192 connections (us)" warm_us growth bare
            ;;
        start) compare "start to first response (ms)" first_ms first bare 1.25 ;;
        connect) compare "new TLS connection (us)" $cpu connect python 1.00 ;;
        layers)
            alone "client:post (us)" $cpu layer.post ""
            versus "ai:chat (us)" $cpu layer.chat layer.post client:post
            versus "pipeline of ai:chat (us)" $cpu layer.pipeline layer.post client:post
            versus "pipeline with a journal (us)" $cpu layer.journal layer.post client:post
            versus "leat batch (us)" $cpu layer.batch layer.post client:post
            [ ! -e "$scratch/layer.httpx" ] ||
                versus "leat batch (us)" $cpu layer.batch layer.httpx httpx
            ;;
        instructions)
            ! can valgrind || alone "instructions, HTTP/1.1" instructions count.h1 70000
            ! can valgrind || alone "instructions, TLS, HTTP/2" instructions count.h2 95000
            ;;
    esac
}

for ((round = 1; round <= rounds; round++)); do
    for group in "${groups[@]}"; do
        round_of "$group"
    done
done
if [[ " ${groups[*]} " == *" instructions "* ]] && can valgrind; then
    count_instructions count.h1 "$url" 1.1
    count_instructions count.h2 "$tls_url" 2
fi

[ -z "$missing" ] || echo "not installed:$missing"
echo "$count requests, median of $rounds interleaved rounds; CPU time of the client's process (us) for each"
echo
printf '%-36s %10s   %-14s %10s %8s %8s\n' "" Leat against "" ratio asked
for group in "${groups[@]}"; do
    rows_of_group "$group"
done

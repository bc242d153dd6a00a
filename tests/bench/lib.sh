# What the benchmarks share, to be sourced by one that is in the project's folder: servers of their own on one core,
# and figures that programs on the other core print.
# shellcheck shell=bash disable=SC2034 # variables for those who source it

PATH=$PATH:/usr/sbin # nginx, for users other than root
scratch=$(mktemp -d "${TMPDIR:-/tmp}/leat-bench.XXXXXX")
servers=()
clean_up() {
    local pid
    for pid in "${servers[@]}"; do { kill "$pid" && wait "$pid"; } 2>/dev/null || true; done
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

build=${BUILD:-build}
server_core=0 client_core=1
[ "$(nproc)" -gt 1 ] || client_core=0
files=$(ulimit -Hn)
[ "$files" != unlimited ] && [ "$files" -lt 20000 ] || files=20000
ulimit -n "$files"

# A client would else take these instead of what it is told.
unset OPENAI_MODEL OPENAI_BASE_URL OPENAI_API_KEY_FILE OPENAI_BASE_URL_FILE SSL_CERT_DIR
export OPENAI_API_KEY=sk-bench

# prepare TARGET...: installs what is missing, and builds, unless BUILD names a build.
prepare() {
    scripts/deps.sh build bench
    if [ -z "${BUILD:-}" ]; then
        cmake -B build -DLEAT_TESTS=ON >/dev/null
        cmake --build build --target "$@" --parallel "$(nproc)" >/dev/null
    fi
}

reply='{"id":"chatcmpl-9f8e7d6c5b4a","object":"chat.completion","created":1700000000,'
reply+='"model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":'
reply+='"It is known for being a perfectly ordinary number."},"finish_reason":"stop"}],'
reply+='"usage":{"prompt_tokens":31,"completion_tokens":11,"total_tokens":42}}'

# An nginx that answers each POST with a chat completion: at $url, and over TLS without resumption at $tls_url, with
# HTTP/2 for those who offer it. The ports are drawn at random; others are drawn if these are taken. From then on,
# SSL_CERT_FILE has the certificates of the system and that of this nginx.
start_nginx() {
    local port
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$scratch/key.pem" -days 2 \
        -out "$scratch/cert.pem" -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 2>/dev/null
    cat /etc/ssl/certs/ca-certificates.crt "$scratch/cert.pem" >"$scratch/all.pem"
    export SSL_CERT_FILE=$scratch/all.pem
    for _ in {1..10}; do
        port=$((20000 + RANDOM % 10000))
        cat >"$scratch/nginx.conf" <<CONF
daemon off;
master_process off;
worker_rlimit_nofile $files;
pid $scratch/nginx.pid;
error_log $scratch/error.log;
events { worker_connections $files; multi_accept on; }
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
        listen 127.0.0.1:$((port + 1)) backlog=4096 ssl http2;
        ssl_certificate $scratch/cert.pem;
        ssl_certificate_key $scratch/key.pem;
        ssl_session_cache off;
        ssl_session_tickets off;
        location / {
            default_type application/json;
            return 200 '$reply';
        }
    }
}
CONF
        taskset -c "$server_core" nginx -p "$scratch" -c "$scratch/nginx.conf" -e "$scratch/error.log" &
        servers+=($!)
        url=http://127.0.0.1:$port/v1/chat/completions
        tls_url=https://127.0.0.1:$((port + 1))/v1/chat/completions
        for _ in {1..200}; do
            kill -0 "${servers[-1]}" 2>/dev/null || break
            curl -s -o "$scratch/reply" "$url" && return
            sleep 0.02
        done
        wait "${servers[-1]}" || true
        unset 'servers[-1]'
    done
    cat "$scratch/error.log" >&2
    echo "${0##*/}: nginx did not start" >&2
    exit 1
}

start_faultd() { # the fault server, at $fault_url
    local ports
    mkfifo "$scratch/ports"
    taskset -c "$server_core" "$build/tests/faultd" --ca "$scratch/fault.pem" --client-cert "$scratch/client.pem" \
        --client-key "$scratch/client-key.pem" --parent $$ >"$scratch/ports" &
    servers+=($!)
    read -r ports <"$scratch/ports"
    ports=${ports#*http=}
    fault_url=http://127.0.0.1:${ports%% *}
}

# measure NAME COMMAND...: runs it on the client's core; adds its figures to $scratch/NAME.
measure() {
    local name=$1
    shift
    taskset -c "$client_core" "$@" >>"$scratch/$name"
}

# timed NAME COUNT COMMAND...: adds the CPU time of the command's process for each of COUNT items.
timed() {
    local name=$1 count=$2 user system TIMEFORMAT='%U %S'
    shift 2
    { time taskset -c "$client_core" "$@" >"$scratch/said" 2>"$scratch/complaint"; } 2>"$scratch/time" ||
        { cat "$scratch/complaint" >&2 && return 1; }
    read -r user system <"$scratch/time"
    awk -v t="$user $system" -v n="$count" \
        'BEGIN { split(t, p, " "); printf "cpu_us_per_request=%.2f\n", (p[1] + p[2]) / n * 1e6 }' >>"$scratch/$name"
}

# instructions PROFILE COMMAND...: how many callgrind counts.
instructions() {
    local profile=$1
    shift
    valgrind --tool=callgrind --callgrind-out-file="$profile" "$@" >"$scratch/said" 2>"$scratch/counted" ||
        { cat "$scratch/counted" >&2 && return 1; }
    sed -n 's/.*Collected : \([0-9]*\)$/\1/p' "$scratch/counted"
}

# column NAME KEY: the values of one figure, a line each.
column() { sed -n "s/.*\b$2=\([0-9.]*\).*/\1/p" "$scratch/$1"; }
median() { sort -n | awk '{ v[NR] = $1 } END { printf "%.2f", NR ? (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 : 0 }'; }
ratio() { # ratio A B KEY: the median of the rounds' own ratios
    paste <(column "$1" "$3") <(column "$2" "$3") | awk '$2 > 0 { print $1 / $2 }' | median
}
mb() { column "$1" peak_rss_kb | median | awk '{ printf "%.1f", $1 / 1024 }'; }

# ---- layers of the main job: post, chat, pipeline, journal and batch, and httpx as a peer

rows_of() { # rows_of COUNT: the path of a file of so many rows
    local path=$scratch/rows.$1.jsonl
    [ -e "$path" ] || "$build/leat" tests/bench/layers.lua rows - "$1" >"$path"
    echo "$path"
}

# layer NAME COUNT IN_FLIGHT: sets `command`, for the nginx at $url.
layer() {
    local base=${url%/chat/completions} script=("$build/leat" tests/bench/layers.lua)
    rm -f "$scratch"/out.*
    case $1 in
        post | chat | pipeline) command=("${script[@]}" "$1" "$base" "$2" "$3") ;;
        journal) command=("${script[@]}" pipeline "$base" "$2" "$3" "$scratch/out.journal") ;;
        batch) command=("$build/leat" batch "$(rows_of "$2")" "$scratch/out.answers" -q --base-url "$base"
            --concurrency "$3") ;;
        httpx) command=(/usr/bin/python3 tests/bench/peers/httpx_batch.py "$url" "$(rows_of "$2")"
            "$scratch/out.answers" "$3") ;;
    esac
}

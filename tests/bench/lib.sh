# What the benchmarks share, to be sourced by one that is in the project's folder: an nginx of their own on one
# core that answers each POST with a chat completion, and figures that programs on the other core print.
# shellcheck shell=bash

PATH=$PATH:/usr/sbin # nginx, for users other than root
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

# On a port drawn at random; another is drawn if that one is taken. With `ssl` over TLS, by the certificate in
# $scratch/cert.pem, without resumption.
start_nginx() {
    local port tls=${1:+ ssl}
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$scratch/key.pem" -days 2 \
        -out "$scratch/cert.pem" -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 2>/dev/null
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
        listen 127.0.0.1:$port backlog=4096$tls;
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
        server=$!
        url=http${tls:+s}://127.0.0.1:$port/v1/chat/completions
        for _ in {1..200}; do
            kill -0 "$server" 2>/dev/null || break
            curl -sk -o "$scratch/reply" "$url" && return
            sleep 0.02
        done
        wait "$server" || true
        server=
    done
    cat "$scratch/error.log" >&2
    echo "${0##*/}: nginx did not start" >&2
    exit 1
}

# measure NAME COMMAND...: runs it on the client's core; adds its figures to $scratch/NAME.
measure() {
    local name=$1
    shift
    taskset -c "$client_core" "$@" >>"$scratch/$name"
}

# column NAME KEY: the values of one figure, a line each.
column() { sed -n "s/.*\b$2=\([0-9.]*\).*/\1/p" "$scratch/$1"; }
median() { sort -n | awk '{ v[NR] = $1 } END { printf "%.2f", NR ? (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 : 0 }'; }
ratio() { # ratio A B KEY: the median of the rounds' own ratios
    paste <(column "$1" "$3") <(column "$2" "$3") | awk '$2 > 0 { print $1 / $2 }' | median
}
mb() { column "$1" peak_rss_kb | median | awk '{ printf "%.1f", $1 / 1024 }'; }

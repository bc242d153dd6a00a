#!/bin/bash
# tests/with_h2.sh COMMAND [ARG...]
#
# Runs the command with HTTP/2 servers of its own and their addresses in the environment. BUILD is the
# build folder.
#
#   H2_TLS_URL H2_PLAIN_URL H2_ONE_URL   the fault server (tests/server/h2d.c): over TLS, by prior
#                                        knowledge, over TLS with one stream at a time
#   H2_CA                                the certificate of every server here
#   H2_NGINX_URL H2_NGINX_PLAIN_URL      nginx: /ok answers without reading the body, /read reads it
#   H2_NGINX_SHORT_URL                   the same, with a GOAWAY after every 50 requests
#                                        /events/ leads to the fault server of HTTP/1.1 (tests/server/faultd.h)
#   H2_NGINX_H1_URL                      the same, with HTTP/1.1 only
#   H2_NGINX_LOG                         a line for each request: X-ID METHOD STATUS CONNECTION
#   H2_NGINX_PID                         its process, to be told to reload
#   H2_READ_LOG                          the same lines of what is behind every /read
#   H2_NGHTTPD_URL H2_NGHTTPD_FEW_URL    nghttpd, which echoes uploads; the second: 4 streams at a time
#                                        both have /ok, and /events: 250 KB of server-sent events
#   H2_NGHTTPD_LOG                       every frame that the first of them saw
#   H2_H2O_URL H2_H2O_LOG                h2o: /read; a line for each request: X-ID METHOD STATUS
#   H2_CADDY_URL H2_CADDY_LOG            Caddy: /ok and /read; JSON with the X-ID of each request
#   H2_CADDY_ADMIN H2_CADDY_CONFIG       the Unix socket of its administration, and its Caddyfile
#
# The addresses of a server that is not installed are not set.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-$root/build}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/leat-h2.XXXXXX")
servers=()
clean_up() {
    local pid
    for pid in "${servers[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${servers[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# For servers that do not look after their parent themselves: they end with this shell, even if it is
# killed.
bound=(env)
if command -v setpriv >/dev/null && setpriv --pdeathsig TERM true 2>/dev/null; then
    bound=(setpriv --pdeathsig TERM)
fi
find_server() { # Debian keeps them where a plain user's PATH does not look
    PATH=$PATH:/usr/sbin:/usr/local/sbin type -P "$1" || true
}

[ -x "$build/tests/h2d" ] || {
    echo "with_h2: no $build/tests/h2d: install libnghttp2-dev (scripts/deps.sh test) and build" >&2
    exit 2
}
export H2_CA=$scratch/ca.pem
mkfifo "$scratch/ports"
"$build/tests/h2d" --ca "$H2_CA" --key "$scratch/key.pem" --parent $$ >"$scratch/ports" &
servers+=($!)
read -r ports <"$scratch/ports"
port() { # the port called $1 in the server's line
    local word
    for word in $ports; do
        [ "${word%%=*}" = "$1" ] && echo "${word#*=}" && return
    done
}
"$build/tests/faultd" --unix "$scratch/faultd" --parent $$ >"$scratch/ports" &
servers+=($!)
read -r _ <"$scratch/ports"
H2_TLS_URL=https://127.0.0.1:$(port tls)
H2_PLAIN_URL=http://127.0.0.1:$(port plain)
H2_ONE_URL=https://127.0.0.1:$(port tls_one)
export H2_TLS_URL H2_PLAIN_URL H2_ONE_URL

# reached PID PORT...: waits until the server takes connections on each. Fails if it has ended, as it
# does when another program took the port first, or after a minute.
reached() {
    local pid=$1 port deadline=$((SECONDS + 60))
    shift
    for port in "$@"; do
        until (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
            kill -0 "$pid" 2>/dev/null && [ "$SECONDS" -lt "$deadline" ] || return 1
            sleep 0.02
        done
    done
    kill -0 "$pid" 2>/dev/null
}

nginx_conf() { # nginx_conf TLS PLAIN SHORT H1
    [ "$(id -u)" != 0 ] || echo "user root;" # or its workers may not enter the scratch folder
    cat <<CONF
daemon off;
worker_processes 1;
worker_rlimit_nofile 4096;
pid $scratch/nginx.pid;
error_log $scratch/nginx.err;
events { worker_connections 2048; }
http {
    log_format ids '\$http_x_id \$request_method \$status \$connection';
    access_log $scratch/nginx.log ids;
    client_body_temp_path $scratch/body;
    proxy_temp_path $scratch/proxy;
    fastcgi_temp_path $scratch/fastcgi;
    uwsgi_temp_path $scratch/uwsgi;
    scgi_temp_path $scratch/scgi;
    ssl_certificate $H2_CA;
    ssl_certificate_key $scratch/key.pem;
    http2_max_concurrent_streams 128;
    keepalive_requests 100000;
    client_max_body_size 0;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    upstream reader { server unix:$scratch/reader; keepalive 16; }
    server {
        listen unix:$scratch/reader;
        access_log $scratch/read.log ids;
        location / { return 200 "read\n"; }
    }
CONF
    local listen rest
    while read -r listen rest; do
        cat <<CONF
    server {
        listen 127.0.0.1:$listen $rest
        location /ok { return 200 "ok\n"; }
        location /read { proxy_pass http://reader; }
        location /events/ {
            proxy_pass http://unix:$scratch/faultd:/;
            proxy_buffering off;
        }
    }
CONF
    done <<LISTEN
$1 ssl http2;
$2 http2;
$3 ssl http2; keepalive_requests 50;
$4 ssl;
LISTEN
    echo "}"
}

nginx=$(find_server nginx)
nghttpd=$(find_server nghttpd)
start_nginx() {
    nginx_conf "$@" >"$scratch/nginx.conf"
    "${bound[@]}" "$nginx" -p "$scratch" -c "$scratch/nginx.conf" -e "$scratch/nginx.err" \
        >"$scratch/nginx.out" 2>&1 &
    servers+=($!)
    reached $! "$@" || return 1
    H2_NGINX_URL=https://127.0.0.1:$1
    H2_NGINX_PLAIN_URL=http://127.0.0.1:$2
    H2_NGINX_SHORT_URL=https://127.0.0.1:$3
    H2_NGINX_H1_URL=https://127.0.0.1:$4
    H2_NGINX_LOG=$scratch/nginx.log
    H2_NGINX_PID=$!
    H2_READ_LOG=$scratch/read.log
    export H2_NGINX_URL H2_NGINX_PLAIN_URL H2_NGINX_SHORT_URL H2_NGINX_H1_URL H2_NGINX_LOG
    export H2_NGINX_PID H2_READ_LOG
}
start_nghttpd() { # start_nghttpd PORT LOG OPTION...
    local port=$1 log=$2
    shift 2
    mkdir -p "$scratch/htdocs"
    echo ok >"$scratch/htdocs/ok"
    seq -f 'data: {"n":%04g,"pad":"................................................"}' 3472 |
        sed 's/$/\n/' >"$scratch/htdocs/events"
    "${bound[@]}" "$nghttpd" -a 127.0.0.1 -d "$scratch/htdocs" --echo-upload "$@" "$port" \
        "$scratch/key.pem" "$H2_CA" >"$log" 2>&1 &
    servers+=($!)
    reached $! "$port"
}
start_nghttpds() {
    start_nghttpd "$1" "$scratch/nghttpd.log" -v || return 1
    start_nghttpd "$2" "$scratch/nghttpd_few.log" -m 4 || return 1
    H2_NGHTTPD_URL=https://127.0.0.1:$1
    H2_NGHTTPD_FEW_URL=https://127.0.0.1:$2
    H2_NGHTTPD_LOG=$scratch/nghttpd.log
    export H2_NGHTTPD_URL H2_NGHTTPD_FEW_URL H2_NGHTTPD_LOG
}

start_h2o() { # start_h2o PORT
    cat >"$scratch/h2o.conf" <<CONF
listen:
  host: 127.0.0.1
  port: $1
  ssl: { certificate-file: $H2_CA, key-file: $scratch/key.pem }
hosts:
  default:
    paths:
      "/":
        proxy.reverse.url: "http://[unix:$scratch/reader]/"
        proxy.preserve-host: ON
access-log: { path: $scratch/h2o.log, format: "%{x-id}i %m %s" }
error-log: $scratch/h2o.err
num-threads: 1
user: $(id -un)
CONF
    "${bound[@]}" "$h2o" -c "$scratch/h2o.conf" >"$scratch/h2o.out" 2>&1 &
    servers+=($!)
    reached $! "$1" || return 1
    H2_H2O_URL=https://127.0.0.1:$1
    H2_H2O_LOG=$scratch/h2o.log
    export H2_H2O_URL H2_H2O_LOG
}
start_caddy() { # start_caddy PORT
    cat >"$scratch/Caddyfile" <<CONF
{
    admin unix/$scratch/caddy.admin {
        origins localhost
    }
    auto_https off
    grace_period 5s
}
https://127.0.0.1:$1 {
    tls $H2_CA $scratch/key.pem
    log {
        output file $scratch/caddy.log {
            roll_disabled
        }
    }
    respond /ok "ok"
    reverse_proxy /read unix/$scratch/reader
}
CONF
    HOME=$scratch XDG_DATA_HOME=$scratch XDG_CONFIG_HOME=$scratch "${bound[@]}" "$caddy" run \
        --config "$scratch/Caddyfile" --adapter caddyfile >"$scratch/caddy.out" 2>&1 &
    servers+=($!)
    reached $! "$1" || return 1
    H2_CADDY_URL=https://127.0.0.1:$1
    H2_CADDY_LOG=$scratch/caddy.log
    H2_CADDY_ADMIN=$scratch/caddy.admin
    H2_CADDY_CONFIG=$scratch/Caddyfile
    export H2_CADDY_URL H2_CADDY_LOG H2_CADDY_ADMIN H2_CADDY_CONFIG
}

# with_ports N COMMAND: calls it with N ports that were free a moment ago; up to five times, for
# another program may have been quicker.
with_ports() {
    local n=$1 free
    for _ in 1 2 3 4 5; do
        free=$("$build/tests/h2d" --free-ports "$n")
        # shellcheck disable=SC2086 # a list of words
        "$2" $free && return
    done
    echo "with_h2: ${2#start_} did not start:" >&2
    cat "$scratch"/*.err "$scratch"/*.out "$scratch"/*.log >&2 2>/dev/null || true
    exit 2
}
[ -z "$nginx" ] || with_ports 4 start_nginx
[ -z "$nghttpd" ] || with_ports 2 start_nghttpds
h2o=$(find_server h2o)
caddy=$(find_server caddy)
[ -z "$h2o" ] || [ -z "$nginx" ] || with_ports 1 start_h2o
[ -z "$caddy" ] || [ -z "$nginx" ] || with_ports 1 start_caddy

"$@"

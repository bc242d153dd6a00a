#!/bin/bash
# Servers of others are restarted, gently and by kill -9, under POSTs over HTTP/2: the server behind them
# counts each at most once, and what failed says that it may be sent again. (The fault server plays the same
# step by step in tests/lua/test_h2.lua.)
. "$(dirname "$0")/../lib.sh"

build=${BUILD:-$root/build}
count=${LEAT_FULL:+20000}
count=${count:-1500}
PATH=$PATH:/usr/sbin:/usr/local/sbin

[ -x "$build/tests/h2d" ] || {
    echo "  skipped: there is no $build/tests/h2d: install libnghttp2-dev (scripts/deps.sh test) and build"
    begin "nothing" && finish
}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -days 2 -out cert.pem \
    -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 2>/dev/null
bound=(env)
if command -v setpriv >/dev/null && setpriv --pdeathsig TERM true 2>/dev/null; then
    bound=(setpriv --pdeathsig TERM)
fi

# reached PORT: waits until somebody takes connections there, for half a minute at most.
reached() {
    local deadline=$((SECONDS + 100))
    until (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.02
    done
}

nginx_conf() { # nginx_conf NAME LISTEN LOCATION ACCESS_LOG
    [ "$(id -u)" != 0 ] || echo "user root;"
    cat <<CONF
daemon off;
worker_processes 1;
pid $scratch/$1.pid;
error_log $scratch/$1.err;
events { worker_connections 1024; }
http {
    log_format ids '\$http_x_id';
    access_log $4;
    client_body_temp_path $scratch/$1-body;
    proxy_temp_path $scratch/$1-proxy;
    fastcgi_temp_path $scratch/$1-fastcgi;
    uwsgi_temp_path $scratch/$1-uwsgi;
    scgi_temp_path $scratch/$1-scgi;
    ssl_certificate $scratch/cert.pem;
    ssl_certificate_key $scratch/key.pem;
    keepalive_requests 100000;
    server {
        listen 127.0.0.1:$2;
        location / { $3; }
    }
}
CONF
}

# Each serves HTTP/2 over TLS on $port and passes what it gets to the nginx on $behind, which writes the log.
start_nginx() {
    nginx_conf front "$port ssl http2" "proxy_pass http://127.0.0.1:$behind" off >front.conf
    "${bound[@]}" nginx -p "$scratch" -c front.conf -e front.err >>front.out 2>&1 &
}
start_h2o() {
    cat >h2o.conf <<CONF
listen:
  host: 127.0.0.1
  port: $port
  ssl: { certificate-file: $scratch/cert.pem, key-file: $scratch/key.pem }
hosts:
  default:
    paths:
      "/":
        proxy.reverse.url: "http://127.0.0.1:$behind/"
error-log: $scratch/h2o.err
num-threads: 1
user: $(id -un)
CONF
    "${bound[@]}" h2o -c h2o.conf >>h2o.out 2>&1 &
}
start_caddy() {
    cat >Caddyfile <<CONF
{
    admin off
    auto_https off
    grace_period 2s
}
https://127.0.0.1:$port {
    tls $scratch/cert.pem $scratch/key.pem
    reverse_proxy 127.0.0.1:$behind
}
CONF
    HOME=$scratch XDG_DATA_HOME=$scratch XDG_CONFIG_HOME=$scratch "${bound[@]}" caddy run \
        --config Caddyfile --adapter caddyfile >>caddy.out 2>&1 &
}

cat >post.lua <<'LUA'
-- post.lua URL COUNT: each of COUNT POSTs until it is answered or may have been acted on; 300 at a time, more
-- than a connection takes, and in turn all at once and scattered, so that some connections are idle.
-- Prints how many were answered, how many failed and whatever was not to be expected.
local url, count = arg[1], tonumber(arg[2])
local answered, failed, odd, i = 0, 0, nil, 0
leat.each(function()
    i = i + 1
    return i <= count and i or nil
end, function(n)
    local res, err
    sleep(n % 1000 < 500 and 0 or math.random() * 0.1)
    repeat
        res, err = request { url = url, method = "POST", body = ('{"n":%d}'):format(n), ca_file = "cert.pem",
            headers = { ["X-Id"] = "id" .. n }, timeout = 20 }
        -- Nothing has been sent.
        local again = not res and (err.kind == "connect" or err.kind == "tls" and err.retryable)
        if again then sleep(0.02) end
    until not again
    if res then
        answered = answered + 1
        -- A server that ends may still answer that it has lost the one behind it.
        if res.status ~= 200 and res.status < 500 then odd = "status " .. res.status end
    else
        failed = failed + 1
        if err.kind ~= "closed" or not err.retryable then odd = tostring(err) end
    end
    return true
end, { limit = 300 })
print(("answered=%d failed=%d odd=%s"):format(answered, failed, odd))
LUA

lines() { wc -l <ids.log; }

# restarted NAME SIGNAL: the server is ended by SIGNAL and started again while POSTs are under way, three times.
restarted() {
    local name=$1 signal=$2 server before client
    read -r port behind < <("$build/tests/h2d" --free-ports 2 | tr '\n' ' ')
    : >ids.log
    nginx_conf back "$behind" 'return 200 "ok\n"' "$scratch/ids.log ids" >back.conf
    "${bound[@]}" nginx -p "$scratch" -c back.conf -e back.err >>back.out 2>&1 &
    local back=$!
    lib_pids+=("$back")
    "start_$name"
    server=$!
    lib_pids+=("$server")
    if ! reached "$behind" || ! reached "$port"; then
        fail "$name did not start"
        cat ./*.err ./*.out 2>/dev/null | tail -n 20
        return
    fi
    timeout 200 "$LEAT" post.lua "https://127.0.0.1:$port/" "$count" >out 2>err &
    client=$!
    for part in 1 2 3; do
        before=$((count * part / 4))
        while kill -0 "$client" 2>/dev/null && [ "$(lines)" -lt "$before" ]; do sleep 0.01; done
        # An nginx that is killed would leave its workers, which go on to serve.
        # shellcheck disable=SC2046 # a list of words
        [ "$signal" != KILL ] || kill -KILL $(cat "/proc/$server/task/$server/children") 2>/dev/null
        kill "-$signal" "$server" 2>/dev/null
        wait "$server" 2>/dev/null
        "start_$name"
        server=$!
        lib_pids+=("$server")
        reached "$port" || fail "$name did not start again"
    done
    wait "$client" || fail "the client ended with $?: $(cat err)"
    kill -TERM "$server" "$back" 2>/dev/null
    wait "$server" "$back" 2>/dev/null
    expect_out "odd=nil"
    expect_equal "$(sort ids.log | uniq -d | wc -l) sent twice" "0 sent twice"
    echo "  $name, $signal: $(cat out), $(lines) acted on"
}

for name in nginx h2o caddy; do
    if ! command -v "$name" >/dev/null; then
        echo "  skipped: $name is not installed (scripts/deps.sh servers)"
        continue
    fi
    [ "$name" = nginx ] && gently=QUIT || gently=TERM
    begin "POSTs under way while $name is restarted gently are acted on once"
    restarted "$name" "$gently"
    begin "POSTs under way while $name is killed and started again are acted on once"
    restarted "$name" KILL
done

finish

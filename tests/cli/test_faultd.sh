#!/bin/bash
# The fault server itself, asked by curl(1): a witness that errs would be believed.
[ -n "${FAULT_URL:-}" ] || exec "$(dirname "$0")/../with_faultd.sh" bash "$0" "$@"
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"

if ! command -v curl >/dev/null; then
    echo "skipped: curl is not installed"
    finish
fi

get() { # get OPTION... URL: nothing of the environment or of a .curlrc plays a part
    try env -u http_proxy -u https_proxy -u all_proxy -u ALL_PROXY -u HTTPS_PROXY -u NO_PROXY -u no_proxy \
        curl -q -sS --max-time 30 "$@"
}
expect_code() { # expect_code HTTP-STATUS, of a get with -w '%{http_code}' and its body elsewhere
    expect_equal "$(cat out)" "$1"
}
sha() {
    local sum
    sum=$(sha256sum "$1")
    echo "${sum%% *}"
}
# until_stats TEXT: the counters show it, in time.
until_stats() {
    local round
    for round in {1..200}; do
        get "$FAULT_URL/stats"
        grep -qF -- "$1" out && return
    done
    fail "not in the counters after $round looks: $1"
    cat out
}
head -c 3000000 /dev/zero | tr '\0' 'z' >big
printf 'data: one\n\ndata: two\n\n' >events

# ---- streams

begin "a body is played back in pieces"
get --data-binary @events "$FAULT_URL/play?split=9"
expect_status 0
cmp -s out events || fail "not what was sent"
get --raw --data-binary @events "$FAULT_URL/play?split=20"
printf '14\r\ndata: one\n\ndata: two\r\n2\r\n\n\n\r\n0\r\n\r\n' >wanted
cmp -s out wanted || fail "not these chunks"
get --data-binary @events -w '%{content_type} %{http_code}' -o body \
    "$FAULT_URL/play?split=1&framing=length&type=text/x-y&status=503"
expect_equal "$(cat out)" "text/x-y 503"
cmp -s body events || fail "not what was sent"

begin "a body is played back compressed"
for framing in chunked length none; do
    get --compressed --data-binary @events "$FAULT_URL/play?split=3&encoding=gzip&framing=$framing"
    expect_status 0
    cmp -s out events || fail "$framing: not what was sent"
done

begin "a body that is played back may end in other ways, all of it having been sent"
for row in chunked:close:18 chunked:reset:56 length:close:18 length:reset:56 none:close:0 none:reset:56; do
    IFS=: read -r framing end code <<<"$row"
    get --data-binary @events "$FAULT_URL/play?framing=$framing&end=$end&split=10"
    expect_status "$code"
    cmp -s out events || fail "$row: not what was sent"
done

begin "a pattern depends on its seed and has the hash that its header says"
get -D head -o body "$FAULT_URL/pattern?bytes=100000&seed=5&split=777"
expect_status 0
grep -q "^X-SHA256: $(sha body)" head || fail "another hash"
get -o other "$FAULT_URL/pattern?bytes=100000&seed=6"
! cmp -s body other || fail "the same with another seed"
cat >pattern.lua <<'LUA'
local x, block = 5 % 2147483646 + 1, {}
for i = 1, 4093 do
    x = x * 16807 % 2147483647
    block[i] = string.char(x % 256)
end
io.write((table.concat(block):rep(25):sub(1, 100000)))
LUA
try "$LEAT" pattern.lua
cmp -s out body || fail "not the pattern that is documented"

begin "tokens and lines come to an end"
get "$FAULT_URL/tokens?n=3&ms=1"
expect_lines out 8
expect_out '"content":"tok 3 "'
expect_equal "$(tail -n 2 out)" "data: [DONE]"
get "$FAULT_URL/lines?n=20000"
expect_lines out 20000
expect_equal "$(tail -n 1 out)" '{"n":20000}'
get "$FAULT_URL/sse-error"
expect_out 'event: error'

begin "a long line is one"
get "$FAULT_URL/long-line?mb=2"
expect_lines out 0
expect_equal "$(wc -c <out)" 2097152

begin "an endless answer is counted as far as it went"
exec 7<>"/dev/tcp/127.0.0.1/${FAULT_URL##*:}"
printf 'GET /endless HTTP/1.1\r\n\r\n' >&7
head -c 10000 <&7 >first
until_stats '"/endless":{"requests":1,"in_flight":1'
sent=$(sed -n 's/.*"\/endless":{[^}]*"bytes_sent":\([0-9]*\).*/\1/p' out)
[ "$sent" -ge 10000 ] || fail "only $sent are said to be sent"
[ "$sent" -lt 20000000 ] || fail "$sent were sent to one who does not read"
exec 7>&-
until_stats '"/endless":{"requests":1,"in_flight":0,"peak_in_flight":1,"aborted":1'

begin "ranges"
get -o whole "$FAULT_URL/range"
for row in 0-9:206:1:10 9990-:206:9991:10 -5:206:9996:5 9000-20000:206:9001:1000 10000-:416:1:0 5-2:200:1:10000; do
    IFS=: read -r asked code from size <<<"$row"
    get -o part -w '%{http_code}' -H "Range: bytes=$asked" "$FAULT_URL/range"
    expect_code "$code"
    cmp -s part <(tail -c "+$from" whole | head -c "$size") || fail "$asked: other bytes"
    : >part
done

begin "cookies and redirects are sent as they are asked for"
get -i "$FAULT_URL/cookie-set?name=a&value=b%3D&path=/x&domain=lo.test&max_age=5&secure=1"
expect_out "Set-Cookie: a=b=; Path=/x; Domain=lo.test; Max-Age=5; Secure"
for code in 301 302 303 307 308; do
    get -i "$FAULT_URL/redirect?code=$code&to=%2F%2Fa%20b%3Fc%3D%2541"
    expect_out "HTTP/1.1 $code"
    expect_out "Location: //a b?c=%41"
done

# ---- uploads

begin "an upload of either framing is read and hashed"
for framing in "Expect:" "Transfer-Encoding: chunked"; do
    get -T big -H "$framing" "$FAULT_URL/upload"
    expect_out "\"bytes\":3000000,\"sha256\":\"$(sha big)\""
done
expect_out '"transfer_encoding":"chunked"'
get -k -T big "$FAULT_TLS_URL/upload"
expect_out "\"sha256\":\"$(sha big)\""
get "$FAULT_URL/upload"
expect_out '"bytes":0,'

begin "Expect is answered, and only where it is asked"
get -i -d x -H 'Expect: 100-continue' "$FAULT_URL/continue"
expect_equal "$(grep -c '^HTTP/1.1' out)" 2
get -i -d x -H 'Expect:' "$FAULT_URL/continue"
expect_equal "$(grep -c '^HTTP/1.1' out)" 1

begin "an upload may be answered before it is read"
get -T big -o body -w '%{http_code}' "$FAULT_URL/upload-early?linger=1&status=401"
expect_code 401
get -i -T big "$FAULT_URL/upload-early" # Expect keeps the body back
expect_out "HTTP/1.1 413"

begin "an upload may be read no further"
head -c 40000000 /dev/zero >huge
get -T huge -H Expect: --max-time 1 -o body -w '%{size_upload}' "$FAULT_URL/upload?stall=1"
expect_status 28
[ "$(cat out)" -lt 40000000 ] || fail "all of it was taken"

# ---- listeners

begin "an HTTP proxy passes requests on, and marks them"
get "$FAULT_URL/stats/reset"
get -x "$FAULT_PROXY_URL" --proxy-header 'Proxy-Secret: x' "$FAULT_URL/echo?a=b"
expect_out '"via":"1.1 faultd"'
expect_out '"query":"a=b"'
! grep -qi proxy- out || fail "a header for the proxy was passed on"
get -x "$FAULT_PROXY_URL" -T big -H 'Transfer-Encoding: chunked' "$FAULT_URL/upload"
expect_out "\"sha256\":\"$(sha big)\""
get -x "$FAULT_PROXY_URL" -o body -w '%{http_code}' http://example.com/
expect_code 403
get -x "$FAULT_PROXY_URL" -o body -w '%{http_code}' "$FAULT_REFUSED_URL/"
expect_code 502
get "$FAULT_URL/stats"
expect_out '"proxy":{"requests":3,"connects":0,"refused":1}'

begin "an HTTP proxy makes tunnels"
get "$FAULT_URL/stats/reset"
get -x "$FAULT_PROXY_URL" --cacert "$FAULT_CA" "$FAULT_TLS_URL/echo"
expect_out '"tls":true'
get -p -x "$FAULT_PROXY_URL" -D head -o body "$FAULT_URL/pattern?bytes=5000000"
grep -q "^X-SHA256: $(sha body)" head || fail "other bytes"
get -p -x "$FAULT_PROXY_URL" "$FAULT_URL/reset-in-body"
expect_status 56
get "$FAULT_URL/stats"
expect_out '"proxy":{"requests":0,"connects":3,"refused":0}'

begin "a proxy may want credentials"
get -x "$FAULT_PROXY_AUTH_URL" -i "$FAULT_URL/ok"
expect_out "HTTP/1.1 407"
expect_out 'Proxy-Authenticate: Basic realm="'
get -x "$FAULT_PROXY_AUTH_URL" -U u:wrong -o body -w '%{http_code}' "$FAULT_URL/ok"
expect_code 407
get -x "$FAULT_PROXY_AUTH_URL" -U u:p:ss "$FAULT_URL/ok"
expect_equal "$(cat out)" ok
get -x "$FAULT_PROXY_AUTH_URL" -U u:p:ss --cacert "$FAULT_CA" "$FAULT_TLS_URL/ok"
expect_equal "$(cat out)" ok

begin "a SOCKS proxy looks names up, and reaches this machine alone"
get "$FAULT_URL/stats/reset"
port=${FAULT_URL##*:}
for host in 127.0.0.1 localhost far.away.test; do
    get -x "$FAULT_SOCKS_URL" "http://$host:$port/ok"
    expect_equal "$(cat out)" ok
done
for url in http://example.com/ http://192.0.2.1/ "$FAULT_REFUSED_URL/"; do
    get -x "$FAULT_SOCKS_URL" "$url"
    expect_status 97
done
get "$FAULT_URL/stats"
expect_out '"socks":{"connects":3,"refused":2,"names":["localhost","far.away.test","example.com"]}'

begin "a SOCKS proxy may want credentials"
for user in "" u:wrong; do
    get -x "$FAULT_SOCKS_AUTH_URL" ${user:+-U "$user"} "$FAULT_URL/ok"
    expect_status 97
done
get -x "$FAULT_SOCKS_AUTH_URL" -U u:p:ss "$FAULT_URL/ok"
expect_equal "$(cat out)" ok

begin "a client without its certificate is turned away"
get --cacert "$FAULT_CA" "$FAULT_MTLS_URL/ok"
[ ! -s out ] || fail "it was served"
get --cacert "$FAULT_CA" --cert "$FAULT_CLIENT_CERT" --key "$FAULT_CLIENT_KEY" "$FAULT_MTLS_URL/echo"
expect_out '"client_cn":"leat test client"'

begin "the routes are on a Unix socket and on ::1, too"
get --unix-socket "$FAULT_UNIX_SOCKET" http://anywhere/ok
expect_equal "$(cat out)" ok
if [ -n "$FAULT_V6_URL" ]; then
    get "$FAULT_V6_URL/ok"
    expect_equal "$(cat out)" ok
    get -x "$FAULT_SOCKS_URL" "$FAULT_V6_URL/ok"
    expect_equal "$(cat out)" ok
else
    echo "  skipped: this machine has no ::1"
fi

begin "the flaky listener resets as many connections as it was asked to"
get "$FAULT_URL/flaky-set?n=2"
for code in 56 56 0 0; do
    get "$FAULT_FLAKY_URL/"
    expect_status "$code"
done

finish

#!/bin/bash
# The HTTP/2 fault server itself, asked by clients that have nothing to do with the runtime.
. "$(dirname "$0")/../lib.sh"
export BUILD=${BUILD:-$root/build}
if [ -z "${H2_TLS_URL:-}" ]; then
    cd "$root" && rm -rf "$scratch"
    exec tests/with_h2.sh bash tests/cli/test_h2d.sh
fi

get() { try curl -sS --max-time 20 --cacert "$H2_CA" --http2 "$@"; }
stat() { # stat NAME: that number of the server's counters, which start anew
    get "$H2_TLS_URL/stats"
    grep -o "\"$1\":[0-9]*" out | cut -d: -f2
}
anew() { get "$H2_TLS_URL/stats/reset"; }

if ! command -v curl >/dev/null || ! curl -V | grep -q HTTP2; then
    echo "skipped: no curl with HTTP/2 here"
else
    begin "every port answers, and says what arrived"
    for url in "$H2_TLS_URL" "$H2_ONE_URL"; do
        get -w '%{http_version} %{http_code}' "$url/ok"
        expect_out "2 200"
    done
    try curl -sS --max-time 20 --http2-prior-knowledge -d hello -H 'x-id: a"b' "$H2_PLAIN_URL/echo?q=1"
    expect_out '"method":"POST","path":"/echo","query":"q=1"'
    expect_out '"x-id":"a\"b"'
    expect_out '"body_length":5,"body":"hello"'
    get -w '%{http_code}' "$H2_TLS_URL/nothing-here"
    expect_out "404"

    begin "what was done twice is found by its id"
    anew
    for id in one two two two; do get -d x -H "x-id: $id" "$H2_TLS_URL/ok"; done
    expect_equal "$(stat effects)" 4
    expect_equal "$(stat duplicates)" 1
    expect_out '"duplicate_ids":["two"]'
    get "$H2_TLS_URL/seen?id=two"
    expect_out '{"count":3}'
    anew
    expect_equal "$(stat effects)" 0

    begin "what was refused has no effect; what was reset otherwise has one"
    anew
    get -d x -H "x-id: refused" "$H2_TLS_URL/reset?code=7"
    expect_equal "$(stat effects)" 0
    get -d x -H "x-id: reset" "$H2_TLS_URL/reset?code=2"
    expect_equal "$status" 92
    expect_err "INTERNAL_ERROR"
    expect_equal "$(stat effects)" 1
    get -w '%{http_code}' -H "x-id: half" "$H2_TLS_URL/reset?code=8&when=body"
    expect_equal "$status" 92
    expect_equal "$(cat out)" "half of 200"
    get -d x -H "x-id: k" "$H2_TLS_URL/refuse-first?n=2"
    expect_status 0
    expect_equal "$(stat effects)" 3

    begin "a GOAWAY says truly whether its stream was processed"
    anew
    get -d x -H "x-id: no" "$H2_TLS_URL/goaway?last=unprocessed"
    [ "$status" != 0 ] || fail "it was answered"
    expect_equal "$(stat effects)" 0
    get -d x -H "x-id: yes" "$H2_TLS_URL/goaway?last=processed"
    expect_status 0
    expect_equal "$(stat effects)" 1
    get -d x -H "x-id: now" "$H2_TLS_URL/goaway-now"
    [ "$status" != 0 ] || fail "it was answered"
    get -d x -H "x-id: dead" "$H2_TLS_URL/die"
    [ "$status" != 0 ] || fail "it was answered"
    expect_equal "$(stat effects)" 2

    begin "large bodies go both ways within the windows"
    get -o large "$H2_TLS_URL/large?mb=5"
    expect_equal "$(wc -c <large)" 5242880
    for url in "$H2_TLS_URL/upload" "$H2_TLS_URL/upload-slow?kbps=20000" "$H2_ONE_URL/upload"; do
        get -H Expect: --data-binary @large "$url"
        expect_out "\"bytes\":5242880,\"sha256\":\"$(sha256sum large | cut -d' ' -f1)\""
    done

    begin "streams of events, trailers, many and big headers"
    get "$H2_TLS_URL/stream?n=3&ms=1"
    expect_out '"delta":{"content":"word3 "}'
    expect_equal "$(tail -n 2 out)" "data: [DONE]"
    get -D heads "$H2_TLS_URL/trailers"
    expect_equal "$(grep -c '^x-sum: 42' heads)" 1
    get -D heads "$H2_TLS_URL/many-headers?n=150"
    expect_equal "$(grep -c '^x-header-' heads)" 150
    get -D heads "$H2_TLS_URL/big-header?kb=30"
    expect_equal "$(grep '^x-big' heads | tr -dc b | wc -c)" $((30 * 1024 + 1))
fi

if ! command -v nghttp >/dev/null; then
    echo "skipped: no nghttp here"
else
    begin "an early answer is whole, then comes RST_STREAM(NO_ERROR), before the body was read"
    head -c 200000 /dev/zero >body
    try nghttp -v --no-verify-peer -d body "$H2_TLS_URL/early"
    expect_out "recv DATA frame <length=3, flags=0x01"
    expect_equal "$(grep -A 2 'recv RST_STREAM' out | grep -c 'error_code=NO_ERROR')" 1

    begin "a GOAWAY names a stream below the one it leaves undone"
    try nghttp -nv --no-verify-peer "$H2_TLS_URL/goaway?last=unprocessed"
    expect_equal "$(grep -A 2 'recv GOAWAY' out | grep -o 'last_stream_id=[0-9]*, error_code=[A-Z_]*')" \
        "last_stream_id=11, error_code=NO_ERROR"

    begin "one stream at a time is what tls_one allows"
    try nghttp -nv --no-verify-peer "$H2_ONE_URL/ok"
    expect_out "SETTINGS_MAX_CONCURRENT_STREAMS(0x03):1]"
fi

if ! command -v h2load >/dev/null; then
    echo "skipped: no h2load here"
else
    begin "thousands of streams, counted rightly"
    if command -v curl >/dev/null; then anew; fi
    try h2load -n 5000 -c 4 -m 50 "$H2_TLS_URL/ok"
    expect_out "5000 succeeded, 0 failed"
    if command -v curl >/dev/null; then
        expect_equal "$(stat requests)" 5000
        peak=$(stat peak_streams)
        if [ "$peak" -le 1 ] || [ "$peak" -gt 50 ]; then fail "peak $peak"; fi
        expect_equal "$(stat streams_open)" 1 # this very request
    fi
fi

if [ -z "${H2_NGINX_URL:-}" ]; then
    echo "skipped: no nginx here"
elif command -v curl >/dev/null; then
    begin "nginx answers on each of its ports and logs the ids"
    for url in "$H2_NGINX_URL" "$H2_NGINX_SHORT_URL" "$H2_NGINX_H1_URL"; do
        get -d x -H "x-id: at-nginx" -w '%{http_version}' "$url/read"
        expect_out "read"
    done
    expect_equal "$(cut -d' ' -f1-3 "$H2_NGINX_LOG" | sort | uniq -c | tr -s ' ')" \
        " 3 at-nginx POST 200"
    expect_out "1.1"
fi

if [ -z "${H2_NGHTTPD_URL:-}" ]; then
    echo "skipped: no nghttpd here"
elif command -v curl >/dev/null; then
    begin "nghttpd echoes uploads"
    for url in "$H2_NGHTTPD_URL" "$H2_NGHTTPD_FEW_URL"; do
        get -d "hello there" "$url/ok"
        expect_equal "$(cat out)" "hello there"
    done
    grep -q "recv HEADERS" "$H2_NGHTTPD_LOG" || fail "no frames in the log"
fi
finish

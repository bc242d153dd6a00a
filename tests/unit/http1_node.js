// Reads HTTP/1 messages by Node's parser (llhttp), for test_http1_node.c. All numbers have 32 bits
// (little-endian). On the standard input is the length of a batch, then its messages: flags (1: a
// request, 2: the request was HEAD), where to cut it, its length, its bytes. For each message an answer
// is written: its length, then "ok" and a line for each head, body and trailers; or "no CODE: REASON".
"use strict";
const fs = require("fs");
const binding = process.binding("http_parser"), HTTPParser = binding.HTTPParser;
const all_methods = binding.allMethods || binding.methods; // Debian 13's Node has the second one

function read(length) {
    const bytes = Buffer.alloc(length);
    let at = 0;
    while (at < length) {
        const n = fs.readSync(0, bytes, at, length - at);
        if (n === 0) return null;
        at += n;
    }
    return bytes;
}

function show_fields(list) {
    const fields = [];
    for (let i = 0; i < list.length; i += 2) fields.push(list[i] + "=" + list[i + 1]);
    return " {" + fields.join("; ") + "}\n";
}

function parse(flags, pieces) {
    const request = (flags & 1) !== 0;
    const type = request ? HTTPParser.REQUEST : HTTPParser.RESPONSE;
    const parser = new HTTPParser();
    let text = "ok\n", fields = [], target = "", body = [], interim = false, done = false;
    parser.initialize(type, {}, 1 << 20);
    parser[HTTPParser.kOnHeaders] = (list, part) => {
        fields.push(...list);
        target += part;
    };
    parser[HTTPParser.kOnHeadersComplete] = (major, minor, list, method, url, status, reason, upgrade, keep) => {
        if (done) return 0;
        const word = request ? all_methods[method] : reason;
        interim = status >= 100 && status < 200 && status !== 101;
        text += `head ${major}.${minor} ${request ? 0 : status} [${word}]`
            + (request ? " " + (url === undefined ? target : url) : "") + (keep && !interim ? " keep" : "")
            + (interim ? " interim" : "") + show_fields(list || fields);
        fields = [];
        return flags & 2 ? 1 : 0;
    };
    parser[HTTPParser.kOnBody] = (bytes) => {
        if (!done) body.push(Buffer.from(bytes));
    };
    parser[HTTPParser.kOnMessageComplete] = () => {
        if (done) return;
        if (body.length) text += "body [" + Buffer.concat(body).toString("latin1") + "]\n";
        if (fields.length) text += "trailers" + show_fields(fields);
        fields = [];
        done = !interim;
    };
    for (const piece of pieces) {
        const result = done ? 0 : parser.execute(piece);
        if (result instanceof Error && !done) return `no ${result.code}: ${result.reason}`;
    }
    const result = done ? 0 : parser.finish();
    if (result instanceof Error) return `no ${result.code}: ${result.reason}`;
    return done ? text : "no END: it is not complete";
}

for (;;) {
    const length = read(4);
    if (length === null) break;
    const batch = read(length.readUInt32LE(0)), answers = [];
    for (let at = 0; at < batch.length;) {
        const flags = batch.readUInt32LE(at), cut = batch.readUInt32LE(at + 4), size = batch.readUInt32LE(at + 8);
        const bytes = batch.subarray(at + 12, at += 12 + size);
        const text = Buffer.from(parse(flags, [bytes.subarray(0, cut), bytes.subarray(cut)]), "latin1");
        const head = Buffer.alloc(4);
        head.writeUInt32LE(text.length);
        answers.push(head, text);
    }
    const bytes = Buffer.concat(answers);
    for (let at = 0; at < bytes.length;) at += fs.writeSync(1, bytes, at);
}

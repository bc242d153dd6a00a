// fetch_chat.mjs URL COUNT IN_FLIGHT: the job of tests/bench/chat.lua with Node's own fetch, and as many workers as
// requests in flight (what p-limit does, without its bookkeeping).
const [url, countText, inFlightText] = process.argv.slice(2);
const count = Number(countText);
let next = 0;

async function chat(i) {
    const response = await fetch(url, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({
            model: "gpt-4o-mini",
            messages: [
                { role: "system", content: "You are a helpful assistant. Answer in one sentence." },
                { role: "user", content: `Explain in one sentence what ${i} is` },
            ],
            temperature: 0.7, max_tokens: 64, stream: false, user: "bench",
        }),
    });
    if (!response.ok) throw new Error(`status ${response.status}`);
    return (await response.json()).choices[0].message.content;
}

async function worker() {
    while (next < count) await chat(next++);
}

const began = performance.now();
const cpu = process.cpuUsage();
await Promise.all(Array.from({ length: Number(inFlightText) }, worker));
const used = process.cpuUsage(cpu);
console.log(`requests=${count} wall_s=${((performance.now() - began) / 1000).toFixed(3)}`
    + ` cpu_us_per_request=${((used.user + used.system) / count).toFixed(2)}`
    + ` peak_rss_kb=${process.resourceUsage().maxRSS}`);
